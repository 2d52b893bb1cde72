"""Files that are not what was written, or do not fit, are refused in one line before anything is
changed."""

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import pyrovae as pv
from pyrovae.bnn.samplers import Collect
from pyrovae.core.atomic_write import write_atomically
from pyrovae.core.digests import digest_of
from pyrovae.core.process_ids import machine
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.checkpoint import load_checkpoint, save_checkpoint
from pyrovae.training.hooks import Checkpoint, EarlyStopping
from pyrovae.training.packing import pack, unpack
from pyrovae.training.run import Run
from pyrovae.training.tensor_file import read_tensors, write_tensors

X = torch.ones(6, 4, dtype=torch.float64)


def vae() -> pv.ElboLoss:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")))


def trained(path: Path, **options: object) -> pv.ElboLoss:
    loss = vae()
    pv.fit(loss, [{"x": X}], epochs=1, hooks=[Checkpoint(path)], **options)
    return loss


def refused(path: Path, words: str, **options: object) -> None:
    """One line, and the loss as it was."""
    loss = vae()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    drawn = torch.get_rng_state()
    with pytest.raises(pv.CheckpointError, match=words) as error:
        pv.fit(loss, [{"x": X}], epochs=2, resume=path, **options)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("kind", ["weights", "run", "draw"])
def test_no_byte_changes_unseen(tmp_path: Path, kind: str) -> None:
    path, draws = tmp_path / "run", tmp_path / "draws"
    loss = trained(path)
    if kind == "weights":
        pv.save_weights(loss, path)
    elif kind == "draw":
        Collect(lambda: dict(loss.named_parameters()), folder=draws).keep(1)
        path = draws / "draw-000001.safetensors"
    whole = path.read_bytes()
    generator = random.Random(0)
    for place in [*generator.sample(range(len(whole)), 60), *range(8), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(pv.CheckpointError) as error:
            {
                "weights": lambda: pv.load_weights(loss, path),
                "draw": lambda: Collect(dict, folder=draws),
                "run": lambda: pv.fit(vae(), [{"x": X}], epochs=2, resume=path),
            }[kind]()
        assert "\n" not in str(error.value), place


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    loss, contents = vae(), set()
    for index in range(8):
        pv.save_weights(loss, tmp_path / str(index))
        contents.add((tmp_path / str(index)).read_bytes())
    assert len(contents) == 1


def test_files_without_a_digest(tmp_path: Path) -> None:
    """Weights of an earlier version are taken, what says that it is of this one is not, nor is a
    checkpoint."""
    loss, other, path = vae(), vae(), tmp_path / "file"
    save_file(loss.state_dict(), path, {"format": "pyrovae 1", "kind": "weights"})
    pv.load_weights(other, path)
    assert all(
        torch.equal(a, b) for a, b in zip(loss.state_dict().values(), other.state_dict().values())
    )
    save_file(loss.state_dict(), path, {"format": "pyrovae 2", "kind": "weights"})
    with pytest.raises(pv.CheckpointError, match="has no digest"):
        pv.load_weights(other, path)
    save_file(loss.state_dict(), path, {"format": "pyrovae 1", "kind": "run", "state": "{}"})
    refused(path, "has no digest that its content could be checked by")


def change(path: Path, **changes: object) -> None:
    """Write a checkpoint anew, whole but with other parts of its state:
    path__in__the__state=function of the old part."""
    tensors, metadata, _ = read_tensors(path)
    state = unpack(json.loads(metadata["state"]), tensors)
    for place, make in changes.items():
        *outer, last = [int(part) if part.isdigit() else part for part in place.split("__")]
        part = state
        for key in outer:
            part = part[key]
        part[last] = make(part.get(last) if isinstance(part, dict) else part[last])
    tensors = {name: value for name, value in tensors.items() if name.startswith("weights/")}
    metadata["state"] = json.dumps(pack(state, "state", tensors))
    write_tensors(path, tensors, metadata, constant=tensors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimizer__state__0__exp_avg": lambda old: old.flatten()[:1]},
            r"exp_avg of .*weight is \(1,\) float64, expected \(8, 2\)",
        ),
        (
            {"optimizer__state__0__exp_avg": lambda old: old.long()},
            r"exp_avg of .* is \(8, 2\) int64",
        ),
        (
            {"optimizer__state__0__exp_avg_sq": lambda old: old.half()},
            r"exp_avg_sq of .* is \(8, 2\) float16",
        ),
        (
            {
                "optimizer__state__1": lambda old: {
                    name: value for name, value in old.items() if name != "exp_avg_sq"
                }
            },
            "state of .* lacks exp_avg_sq",
        ),
        ({"optimizer__state__1__step": lambda old: torch.zeros(3)}, r"step of .* is \(3,\)"),
        ({"optimizer__state__1": lambda old: 5}, "the optimizer's state of .* is 5"),
        ({"optimizer__state__99": lambda old: {}}, r"parameters \[99\]"),
        (
            {"optimizer__param_groups__0__lr": lambda old: "fast"},
            "lr is 'fast', expected a number",
        ),
        (
            {"optimizer__param_groups__0__lr": lambda old: float("nan")},
            "lr is nan, expected a number",
        ),
        ({"optimizer__param_groups__0__betas": lambda old: [0.9]}, "betas"),
        (
            {"optimizer__param_groups__0__params": lambda old: old[:2]},
            "another number of parameters",
        ),
        ({"optimizer__param_groups": lambda old: old + old}, "2 groups of parameters, this one 1"),
        ({"optimizer": lambda old: []}, "no state and no parameter groups"),
        ({"schedule__base_lrs": lambda old: []}, "base_lrs"),
        ({"schedule__last_epoch": lambda old: "x"}, "last_epoch is 'x'"),
        ({"schedule": lambda old: {}}, "lacks"),
        ({"random__torch": lambda old: old[:7]}, "random states"),
        ({"random__torch": lambda old: old.double()}, "random states"),
        ({"random__python": lambda old: (3, (1, 2), None)}, "random states"),
        ({"random__numpy": lambda old: {}}, "random states"),
        ({"history": lambda old: [{"epoch": "one"}]}, "history"),
        ({"history": lambda old: 3}, "history"),
    ],
)
def test_a_whole_checkpoint_that_does_not_fit(tmp_path: Path, changes: dict, words: str) -> None:
    path = tmp_path / "run"
    schedule = {"schedule": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2)}
    trained(path, **schedule)
    change(path)
    pv.fit(vae(), [{"x": X}], epochs=2, resume=path, **schedule)  # as it is, it does
    change(path, **changes)
    refused(path, words, **schedule)


def test_numbers_that_are_not_finite_are_read_by_nobody(tmp_path: Path) -> None:
    path, loss = tmp_path / "file", vae()
    name, value = next(iter(loss.named_parameters()))
    write_tensors(
        path,
        {**loss.state_dict(), name: value / 0},
        {"format": "pyrovae 2", "kind": "weights"},
        constant=loss.state_dict(),
    )
    with pytest.raises(pv.CheckpointError, match=f"{name} holds numbers that are not finite"):
        pv.load_weights(loss, path)
    trained(path)
    change(path, optimizer__state__0__exp_avg=lambda old: torch.full_like(old, torch.inf))
    refused(path, "exp_avg of .* holds numbers that are not finite")


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: torch.optim.SGD(ps, lr=1e-2, momentum=0.9),
        lambda ps: torch.optim.Adam(ps, amsgrad=True),
        lambda ps: torch.optim.Adagrad(ps),
        lambda ps: torch.optim.RMSprop(ps, momentum=0.5, centered=True),
        lambda ps: torch.optim.Rprop(ps),
        lambda ps: torch.optim.NAdam(ps),
        lambda ps: torch.optim.ASGD(ps),
        lambda ps: torch.optim.Adafactor(ps),
        lambda ps: torch.optim.Adam([{"params": ps[:2]}, {"params": ps[2:], "lr": 1e-2}]),
    ],
)
def test_optimisers_go_on_and_refuse_states_of_another_shape(tmp_path: Path, make: object) -> None:
    path = tmp_path / "run"
    trained(path, optimizer=make)
    pv.fit(vae(), [{"x": X}], epochs=2, resume=path, optimizer=make)
    tensors, metadata, _ = read_tensors(path)
    state = unpack(json.loads(metadata["state"]), tensors)["optimizer"]["state"][0]
    name = next(
        name for name, value in state.items() if isinstance(value, torch.Tensor) and value.dim()
    )
    change(path, **{f"optimizer__state__0__{name}": lambda old: old.flatten()[:1]})
    refused(path, name, optimizer=make)


def test_an_optimiser_that_needs_more_is_taken_on_trust(tmp_path: Path) -> None:
    """Its state can be read by it alone, but it is finite."""

    class Own(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            for parameter, name in self.own.items():
                self.state[parameter].setdefault(name, torch.ones(3))
            super().step()

    def make(parameters: list) -> torch.optim.Optimizer:
        optimizer = Own(parameters, lr=1e-2)
        optimizer.own = {parameter: f"own{index}" for index, parameter in enumerate(parameters)}
        return optimizer

    path = tmp_path / "run"
    trained(path, optimizer=make)
    assert len(pv.fit(vae(), [{"x": X}], epochs=2, resume=path, optimizer=make)) == 2
    change(path, optimizer__state__1__own1=lambda old: old * torch.inf)
    refused(path, "own1 of .* not finite", optimizer=make)


def spoil(loss: nn.Module, value: float = torch.nan) -> None:
    with torch.no_grad():
        next(loss.parameters())[0, 0] = value


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    path, loss = tmp_path / "file", vae()
    pv.save_weights(loss, path)
    before = path.read_bytes()
    spoil(loss, value)
    with pytest.raises(
        pv.CheckpointError,
        match=r"weight holds 1 of 16 numbers that are not finite.* is left as it was",
    ):
        pv.save_weights(loss, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["file"]


def test_hooks_keep_the_last_good_file(tmp_path: Path) -> None:
    best, checkpoint = tmp_path / "best", tmp_path / "run"

    def last(run: Run) -> None:
        if run.epoch == 2:
            kept.extend(path.read_bytes() for path in (best, checkpoint))
            spoil(run.loss)

    kept: list[bytes] = []
    for hook in (Checkpoint(checkpoint), EarlyStopping(best, patience=9, monitor="epoch")):
        kept.clear()
        with pytest.raises(pv.CheckpointError, match="not finite"):
            pv.fit(
                vae(),
                [{"x": X}],
                epochs=3,
                hooks=[
                    Checkpoint(checkpoint),
                    EarlyStopping(best, patience=9, monitor="epoch"),
                    last,
                    hook,
                ],
            )
        assert kept == [path.read_bytes() for path in (best, checkpoint)]


def test_an_optimiser_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    def spoil_state(run: Run) -> None:
        next(iter(run.optimizer.state.values()))["exp_avg_sq"].fill_(torch.inf)

    path = tmp_path / "run"
    with pytest.raises(
        pv.CheckpointError, match="optimizer/state/0/exp_avg_sq holds .* not finite"
    ):
        pv.fit(vae(), [{"x": X}], epochs=1, hooks=[spoil_state, Checkpoint(path)])
    assert not path.exists()


def test_constants_may_be_infinite(tmp_path: Path) -> None:
    """The mask of an attention, the bounds of a support."""
    net, other, path = nn.Linear(2, 2), nn.Linear(2, 2), tmp_path / "file"
    for each, value in ((net, -torch.inf), (other, 0.0)):
        each.register_buffer("mask", torch.full((2, 2), value).triu(1))
    pv.save_weights(net, path)
    pv.load_weights(other, path)
    assert torch.equal(net.mask, other.mask)


def test_kinds_of_numbers_must_agree(tmp_path: Path) -> None:
    net, path = nn.Linear(2, 2), tmp_path / "file"
    write_tensors(
        path,
        {"weight": torch.zeros(2, 2).long(), "bias": net.bias},
        {"format": "pyrovae 2", "kind": "weights"},
    )
    with pytest.raises(
        pv.CheckpointError, match="weight is torch.int64 there and torch.float64 here"
    ):
        pv.load_weights(net, path)


def test_the_folder_is_written_down_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync, replace = [], os.fsync, os.replace

    def look(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)
        if calls[-1] == "folder":
            raise OSError("not on this file system")

    monkeypatch.setattr(os, "fsync", look)
    monkeypatch.setattr(
        os, "replace", lambda old, new: calls.append("rename") or replace(old, new)
    )
    write_atomically(tmp_path / "file", b"content")
    assert calls == ["file", "rename", "folder"] and (tmp_path / "file").read_bytes() == b"content"


def test_what_the_dead_began_to_write_is_removed(tmp_path: Path) -> None:
    code = "import os; print(os.getpid())"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    ).stdout.strip()
    gone = tmp_path / f".run.safetensors.{machine()}-{dead}-abc.part"
    kept = [
        tmp_path / f".run.safetensors.{machine()}-{os.getpid()}-abc.part",
        tmp_path / ".file.part",
        tmp_path / f".run.safetensors.00000000-{dead}-abc.part",
    ]  # of the living, of others, of another machine
    for path in (gone, *kept):
        path.write_bytes(b"half")
    write_atomically(tmp_path / "file", b"content")
    assert not gone.exists() and all(path.exists() for path in kept)


def test_a_hook_begins_when_nothing_can_be_refused_any_more(tmp_path: Path) -> None:
    path, told = tmp_path / "run", []

    class Hook:
        def begin(self, run: Run) -> None:
            told.append(("begin", run.epoch))

        def __call__(self, run: Run) -> None:
            told.append(("epoch", run.epoch))

    trained(path)
    pv.fit(vae(), [{"x": X}], epochs=2, resume=path, hooks=[Hook()])
    assert told == [("begin", 1), ("epoch", 2)]
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "damaged", hooks=[Hook()])
    with pytest.raises(ValueError, match="fabric"):
        pv.fit(vae(), [{"x": X}], epochs=2, compile="on", fabric=object(), hooks=[Hook()])
    assert len(told) == 2


def test_digests_of_data() -> None:
    x, y = torch.arange(6.0).reshape(2, 3), torch.tensor([1, 2])
    assert digest_of({"x": x, "y": y}) == digest_of({"y": y, "x": x.t().contiguous().t()})
    others = (
        {"x": x},
        {"x": x, "y": y + 1},
        {"x": x.reshape(3, 2), "y": y},
        {"x": x.float(), "y": y},
        {"x": x, "z": y},
    )
    assert len({digest_of(tensors) for tensors in ({"x": x, "y": y}, *others)}) == 6


def test_runs_load_what_they_save(tmp_path: Path) -> None:
    loss = vae()
    parameters = dict(loss.named_parameters())
    run = Run(loss, parameters, torch.optim.Adam(parameters.values()), None, 3, pv.History())
    save_checkpoint(run, tmp_path / "run")
    load_checkpoint(run, tmp_path / "run")
    assert run.epoch == 0
