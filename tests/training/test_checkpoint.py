"""Checkpoints: exact, atomic, and unable to run code."""

import itertools
import multiprocessing
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from new_processes import START
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyrovae as pv
from pyrovae.core.atomic_write import write_atomically
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal, VampPrior
from pyrovae.training.checkpoint import load_checkpoint, save_checkpoint
from pyrovae.training.hooks import Checkpoint, EarlyStopping
from pyrovae.training.run import Run
from pyrovae.training.tensor_file import write_tensors

SCRIPT = """
import sys, torch, pyro, pyrovae as pv
from pyrovae.data import Batches, DictDataset, dynamic
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.training.hooks import Checkpoint
from pyrovae.nets import MLP
from pyrovae.priors import VampPrior
seed, start, stop, path = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
data = torch.rand(50, 4, generator=torch.Generator().manual_seed(9))
pyro.set_rng_seed(seed)
encoder = NormalHead(MLP(4, [8], 4))
model = pv.Model(z=VampPrior(encoder, torch.rand(3, 4)), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
guide = pv.Guide(z=pv.Node(encoder, "x"))
loss = pv.ElboLoss(model, guide, beta=pv.LinearWarmup(10))
train = Batches(DictDataset(x=data), 16, shuffle=True, transform=dynamic)
pv.fit(loss, train, valid=[{"x": data.round()}], epochs=stop, hooks=[Checkpoint(path)],
       schedule=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10), resume=path if start == "resume" else None)
"""


def run_script(*arguments: object) -> None:
    """In this process."""
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *map(str, arguments)])
        exec(SCRIPT, {})


def test_resumed_in_a_new_process_equals_unbroken_bit_for_bit(tmp_path: Path) -> None:
    run_script(1, "new", 6, tmp_path / "whole")
    run_script(1, "new", 3, tmp_path / "half")
    half = (tmp_path / "half").read_bytes()
    # another process and another seed: all that matters comes from the file
    resume = (2, "resume", 6, tmp_path / "half")
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, resume)], check=True)
    # the files hold weights, optimiser, schedule, history and random states; wall-clock seconds
    # are the one difference
    whole, resumed = (without_seconds(tmp_path / name) for name in ("whole", "half"))
    assert whole == resumed and half != (tmp_path / "half").read_bytes()


def without_seconds(path: Path) -> tuple:
    with safe_open(path, "pt") as file:
        state = re.sub(r'"seconds", [^]]*', "", file.metadata()["state"])
        return state, {name: file.get_tensor(name).tolist() for name in file.keys()}


def pair(width: int = 8) -> pv.ElboLoss:
    encoder = NormalHead(MLP(4, [width], 4))
    model = pv.Model(
        z=VampPrior(encoder, torch.rand(3, 4)), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")
    )
    return pv.ElboLoss(model, pv.Guide(z=pv.Node(encoder, "x")))


X = torch.ones(6, 4, dtype=torch.float64)


def test_weights_round_trip_with_ties_and_dtype(tmp_path: Path) -> None:
    saved, loaded, path = pair(), pair(), tmp_path / "weights.safetensors"
    pv.save_weights(saved, path)
    pv.load_weights(loaded, path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(saved.state_dict().values(), loaded.state_dict().values())
    )
    assert loaded.model.nodes["z"].conditional.encoder is loaded.guide.nodes["z"].conditional
    single = pair().float()
    pv.load_weights(single, path)
    assert all(p.dtype == torch.float32 for p in single.parameters())


def test_private_generators_of_a_loader_resume(tmp_path: Path) -> None:
    results = []
    for stops in ((4,), (2, 4)):
        torch.manual_seed(0)
        loss, path = pair(), tmp_path / f"{len(stops)}.safetensors"
        for i, stop in enumerate(stops):
            generator = torch.Generator().manual_seed(5)
            loader = DataLoader(
                TensorDataset(torch.eye(4).repeat(5, 1)),
                batch_size=6,
                shuffle=True,
                generator=generator,
            )
            history = pv.fit(
                loss,
                loader,
                names=("x",),
                epochs=stop,
                hooks=[Checkpoint(path)],
                resume=path if i else None,
            )
        results.append(history["elbo"])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "damaged or no safetensors file"),
        (b"PK\x03\x04 not ours", "damaged or no safetensors"),
        (pickle.dumps({"a": 1}), "damaged or no safetensors file"),
    ],
)
def test_foreign_files_get_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    loss = pair()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    for read in (
        lambda: pv.load_weights(loss, path),
        lambda: pv.fit(loss, [{"x": X}], epochs=2, resume=path),
    ):
        with pytest.raises(pv.CheckpointError, match=message) as error:
            read()
        assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


@pytest.mark.parametrize("cut", [1, 9, 200, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, cut: float) -> None:
    path, loss = tmp_path / "run.safetensors", pair()
    pv.fit(loss, [{"x": X}], epochs=1, hooks=[Checkpoint(path)])
    content = path.read_bytes()
    path.write_bytes(content[: cut if cut >= 1 else int(cut * len(content))])
    with pytest.raises(pv.CheckpointError, match="damaged"):
        pv.fit(loss, [{"x": X}], epochs=2, resume=path)


def test_files_of_other_models_and_kinds_are_refused(tmp_path: Path) -> None:
    weights, run, other = (tmp_path / name for name in ("weights", "run", "other"))
    loss = pair()
    pv.fit(loss, [{"x": X}], epochs=1, hooks=[Checkpoint(run)])
    pv.save_weights(loss, weights)
    save_file({"x": X}, other)
    with pytest.raises(
        pv.CheckpointError,
        match=r"belongs to another model: .* is \(8, 4\) there and \(9, 4\) here",
    ):
        pv.load_weights(pair(width=9), weights)
    with pytest.raises(pv.CheckpointError, match="it lacks .*; it also holds"):
        pv.load_weights(nn.Linear(2, 3), weights)
    with pytest.raises(pv.CheckpointError, match="is no pyrovae weights file"):
        pv.load_weights(loss, run)
    with pytest.raises(pv.CheckpointError, match=r"is no pyrovae run file \(format None"):
        pv.fit(loss, [{"x": X}], epochs=2, resume=other)
    with pytest.raises(pv.CheckpointError, match="saved without a learning-rate schedule"):
        pv.fit(
            loss,
            [{"x": X}],
            epochs=2,
            resume=run,
            schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
        )
    with pytest.raises(
        pv.CheckpointError, match="saved with the optimizer Adam, this run has SGD"
    ):
        pv.fit(
            loss,
            [{"x": X}],
            epochs=2,
            resume=run,
            optimizer=lambda ps: torch.optim.SGD([{"params": ps[:1]}, {"params": ps[1:]}]),
        )


def test_state_that_only_a_pickle_could_hold_is_refused(tmp_path: Path) -> None:
    class Odd(torch.optim.SGD):
        def state_dict(self) -> dict:
            return {**super().state_dict(), "odd": object()}

    path = tmp_path / "run"
    with pytest.raises(
        pv.CheckpointError, match="odd is object, which a checkpoint without pickles cannot hold"
    ):
        pv.fit(
            pair(),
            [{"x": X}],
            epochs=1,
            optimizer=lambda ps: Odd(ps, lr=0.1),
            hooks=[Checkpoint(path)],
        )
    assert not path.exists() and not list(tmp_path.iterdir())


def test_a_state_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    path, loss = tmp_path / "run", pair()
    for state in ("{", '{"dict": []}', '{"a": 1, "b": 2}', "[" * 100_000):
        write_tensors(path, {"x": X}, {"format": "pyrovae 2", "kind": "run", "state": state})
        with pytest.raises(pv.CheckpointError, match="damaged: its state cannot be read"):
            pv.fit(loss, [{"x": X}], epochs=2, resume=path)


def test_early_stopping_ignores_files_and_nans_of_other_days(tmp_path: Path) -> None:
    best = tmp_path / "best"
    pv.save_weights(pair(), best)
    loss = pair()
    pv.fit(
        loss,
        [{"x": X}],
        valid=[{"x": X}],
        epochs=2,
        hooks=[EarlyStopping(best, patience=1, start=5)],
    )
    stale = pair()
    pv.load_weights(stale, best)
    assert not torch.equal(next(loss.parameters()), next(stale.parameters()))
    stopping = EarlyStopping(best, patience=5)
    rows = [{"valid_elbo": value} for value in (float("nan"), -2.0, -1.0, -3.0)]
    run = Run(loss, {}, torch.optim.Adam(loss.parameters()), None, 9, pv.History(rows))
    assert stopping._since_best(run) == 1


def write_for_ever(path: Path) -> None:
    for i in itertools.count():
        write_atomically(path, bytes([i % 256]) * 3_000_000)


def test_killed_while_writing_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for delay in (0.0, 0.003, 0.011):
        process = multiprocessing.get_context(START).Process(target=write_for_ever, args=(path,))
        process.start()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.join()
        content = path.read_bytes()
        assert len(content) == 3_000_000 and len(set(content)) == 1
        path.unlink()


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "file", "not bytes")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (
        tmp_path / "file"
    ).read_bytes() == b"old"


def test_early_stopping_resumes_as_unbroken(tmp_path: Path) -> None:
    outcomes = []
    for stops in ((60,), (5, 60)):
        torch.manual_seed(0)
        model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        loss = pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")))
        folder = tmp_path / str(len(stops))
        for i, stop in enumerate(stops):
            hooks = [EarlyStopping(folder / "best", patience=3), Checkpoint(folder / "run")]
            history = pv.fit(
                loss,
                [{"x": X}],
                valid=[{"x": 1 - X}],
                epochs=stop,
                lr=1e-2,
                hooks=hooks,
                resume=folder / "run" if i else None,
            )
        outcomes.append((len(history), [p.tolist() for p in loss.parameters()]))
    assert outcomes[0] == outcomes[1]


def test_save_and_load_run_are_inverse(tmp_path: Path) -> None:
    loss = pair()
    parameters = dict(loss.named_parameters())
    optimizer = torch.optim.Adam(parameters.values())
    run = Run(
        loss, parameters, optimizer, None, 3, pv.History([{"epoch": 1, "elbo": float("nan")}])
    )
    save_checkpoint(run, tmp_path / "run")
    drawn = torch.rand(3)
    load_checkpoint(run, tmp_path / "run")
    assert (
        torch.equal(torch.rand(3), drawn)
        and run.epoch == 1
        and run.history[0]["elbo"] != run.history[0]["elbo"]
    )


def test_a_parameter_that_is_not_trained_may_be_infinite(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    net.fixed = nn.Parameter(torch.tensor(-torch.inf), requires_grad=False)  # a rate of 0, say
    pv.save_weights(net, tmp_path / "weights.safetensors")
    pv.load_weights(net, tmp_path / "weights.safetensors")
    assert net.fixed == -torch.inf
    net.fixed.requires_grad_()
    with pytest.raises(pv.CheckpointError, match="not finite"):
        pv.save_weights(net, tmp_path / "weights.safetensors")
