"""Two processes are one process on the union of their data."""

import functools
import logging
import os
import socket
import time
from pathlib import Path

import oracles
import pyro
import pytest
import torch
import torch.multiprocessing as multiprocessing
from new_processes import START
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import PointEstimate
from pyrovae.data import Batches, DictDataset
from pyrovae.heads import BernoulliHead, CategoricalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.hooks import Checkpoint, EarlyStopping

X = (torch.rand(30, 4, generator=torch.Generator().manual_seed(0)) < 0.5).float()
Y = torch.arange(30) % 3


def vae() -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [6], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [6], 4)), "x"))


def point_loss() -> pv.ElboLoss:
    """Without noise, but with a term outside the plate, which no number of processes may count
    twice."""
    torch.manual_seed(0)
    model = pv.Model(y=pv.Node(CategoricalHead(pv.Bayesian(MLP(4, [5], 3))), "x"))
    return pv.ElboLoss(model, PointEstimate(model), num_data=len(X))


def train(
    ranks: object, epochs: int, path: Path | None = None, resume: bool = False, **options: object
) -> tuple:
    loss = point_loss()
    data = Batches(DictDataset(x=X, y=Y), 10)
    hooks = [Checkpoint(path)] if path and (ranks is None or ranks.first) else []
    history = pv.fit(
        loss,
        ranks.shard(data) if ranks else data,
        epochs=epochs,
        lr=1e-2,
        fabric=ranks,
        hooks=hooks,
        resume=path if resume else None,
        **options,
    )
    return history["loss"], {name: value.detach() for name, value in loss.named_parameters()}


class Loud(logging.Handler):
    """A warning, such as that of a step that was not captured, is an error."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


def worker(
    rank: int, port: int, size: int, task: object, folder: Path, environment: dict[str, str]
) -> None:
    os.environ.update(
        environment,
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
        LOCAL_WORLD_SIZE=str(size),
        GROUP_RANK="0",
    )
    torch.set_num_threads(1)
    logging.getLogger("pyrovae").addHandler(Loud(logging.WARNING))
    pyro.set_rng_seed(rank + 7)
    torch.save(task(pv.Ranks()), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def run(task: object, folder: Path, size: int = 2) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if "PYROVAE" in name}
    multiprocessing.start_processes(
        worker, (port, size, task, folder, environment), nprocs=size, start_method=START
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def both(ranks: pv.Ranks, folder: Path) -> dict[str, object]:
    """All that is asked of two processes, in one start of them."""
    eager = train(ranks, 3, folder / "run")
    captured = train(ranks, 3, compile="on")
    noisy = pv.ElboLoss(*vae())
    pv.fit(noisy, ranks.shard(Batches(DictDataset(x=X), 10, shuffle=True)), epochs=2, fabric=ranks)
    model, guide = noisy.model, noisy.guide
    own = {"x": torch.stack(ranks.share(X))}
    torch.manual_seed(ranks.rank)
    evidence = ranks.gather(pv.log_evidence(model, guide, own, num_particles=2000))
    torch.manual_seed(0)
    oracle = oracles.linear_gaussian(
        num_data=29
    )  # whose every weight is exact, so that only their order may differ
    exact = ranks.gather(
        pv.log_evidence(
            oracle.model,
            oracle.guide,
            {"x": torch.stack(ranks.share(oracle.batch["x"]))},
            num_particles=2,
        )
    )
    torch.manual_seed(ranks.rank)
    seen = sorted(
        int(row)
        for batch in ranks.shard(Batches(DictDataset(i=torch.arange(29)), 10, shuffle=True))
        for row in batch["i"]
    )
    return {
        "eager": eager,
        "captured": captured,
        "noisy": noisy.state_dict(),
        "log_px": evidence.log_px,
        "se": evidence.se,
        "seen": seen,
        "best": best_of(ranks, folder),
        "exact": exact.log_px,
        "right": oracle.log_px,
        "noise": torch.randn(3),
        "works": ranks.share(list("abcde")),
    }


def best_of(ranks: pv.Ranks, folder: Path) -> list[Tensor]:
    """The weights that the first process's hook brings back, at the end of a training that left
    them behind."""
    loss = point_loss()
    hooks = [EarlyStopping(folder / "best", patience=2)] if ranks.first else []
    history = pv.fit(
        loss,
        ranks.shard(Batches(DictDataset(x=X, y=Y), 10)),
        valid=[{"x": X, "y": (Y + 1) % 3}],
        epochs=40,
        lr=0.1,
        fabric=ranks,
        hooks=hooks,
    )
    assert len(history) < 40
    return [value.detach() for value in loss.parameters()]


def close(one: tuple, other: tuple, tolerance: float = 1e-5) -> None:
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    for name in other[1]:
        torch.testing.assert_close(one[1][name], other[1][name], rtol=0, atol=tolerance)


def test_two_processes_are_one(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    first, second = run(functools.partial(both, folder=tmp_path), tmp_path)
    alone = train(None, 3)
    for result in (first, second):
        close(result["eager"], alone)
        close(result["captured"], alone)
    for name, value in first["noisy"].items():
        assert torch.equal(value, second["noisy"][name]), "processes drifted apart"
    assert not torch.equal(first["noise"], second["noise"]), "processes draw the same noise"
    assert (
        not set(first["seen"]) & set(second["seen"]) and len(first["seen"] + second["seen"]) == 28
    )
    assert all(torch.equal(one, other) for one, other in zip(first["best"], second["best"])), (
        "other weights at the end"
    )
    best = point_loss()
    pv.load_weights(best, tmp_path / "best")
    assert all(torch.equal(one, other) for one, other in zip(first["best"], best.parameters()))
    for result in (first, second):
        torch.testing.assert_close(
            result["exact"].double(), result["right"].double(), rtol=1e-5, atol=1e-5
        )
    assert first["works"] == ["a", "c", "e"] and second["works"] == ["b", "d"]
    model, guide = vae()
    pv.ElboLoss(model, guide).load_state_dict(first["noisy"])
    evidence = pv.log_evidence(model, guide, {"x": X}, num_particles=2000)
    assert torch.equal(first["log_px"], second["log_px"])
    # 30 differences of independent estimates; 5 s.e. fail one in 6e4 runs, and the seed is fixed
    assert (
        (first["log_px"] - evidence.log_px).abs() < 5 * (first["se"] ** 2 + evidence.se**2).sqrt()
    ).all()
    close(
        train(None, 5, tmp_path / "run", resume=True), train(None, 5)
    )  # what two began one goes on with


def hang(ranks: pv.Ranks, folder: Path) -> str:
    """One process waits for a number of another, which never comes."""
    if not ranks.first:
        while not (folder / "given up").exists():
            time.sleep(0.02)
        return ""
    try:
        ranks.all_reduce(torch.ones(()))
        return "it came"
    except RuntimeError as error:
        return str(error)
    finally:
        (folder / "given up").touch()


def test_who_hangs_does_not_hold_up_the_others_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYROVAE_TIMEOUT", "1")
    message, _ = run(functools.partial(hang, folder=tmp_path), tmp_path)
    assert "1000ms" in message and "imed out" in message
    for timeout in (0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive number of seconds"):
            pv.Ranks(timeout=timeout)


def with_fabric(ranks: pv.Ranks) -> tuple:
    """The same by Lightning's Fabric."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    loss = point_loss()
    history = pv.fit(
        loss, ranks.shard(Batches(DictDataset(x=X, y=Y), 10)), epochs=3, lr=1e-2, fabric=fabric
    )
    return history["loss"], {name: value.detach() for name, value in loss.named_parameters()}


def test_lightning_fabric_gives_the_same(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    torch.set_default_dtype(torch.float32)
    for result in run(with_fabric, tmp_path):
        close(result, train(None, 3))


def test_one_process_needs_no_torchrun() -> None:
    torch.set_default_dtype(torch.float32)
    ranks = pv.Ranks()
    loss, alone = train(ranks, 2), train(None, 2)
    close(loss, alone, 1e-12)
    evidence = pv.log_evidence(*vae(), {"x": X}, num_particles=5)
    assert torch.equal(ranks.gather(evidence).log_px, evidence.log_px)
    with pytest.raises(TypeError, match="tensors"):
        ranks.gather([1.0])


def test_batches_must_split_evenly() -> None:
    ranks = pv.Ranks()
    ranks.size = 3
    with pytest.raises(ValueError, match="multiple of 3"):
        ranks.shard(Batches(DictDataset(x=X), 10))


def test_captured_steps_are_refused_where_a_fabric_wraps_the_backward() -> None:
    class Fabric:
        def setup(self, module: nn.Module, optimizer: object) -> tuple:
            return module, optimizer

        def backward(self, value: Tensor) -> None:
            value.backward()

    with pytest.raises(ValueError, match="fabric"):
        pv.fit(pv.ElboLoss(*vae()), {"x": X.double()}, epochs=1, fabric=Fabric(), compile="on")


class TwoKinds(nn.Module):
    """Two numbers, of which a batch moves one: the kinds of batch differ by process."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.idle = (nn.Parameter(torch.zeros(())) for _ in range(3))

    def forward(self, **batch: Tensor) -> Tensor:
        losses = [(getattr(self, name) - x).square().mean() for name, x in batch.items()]
        return torch.stack(losses).sum()


def kinds(ranks: pv.Ranks) -> dict[str, object]:
    loss, batch = TwoKinds(), {"a": torch.ones(4)} if ranks.first else {"b": -torch.ones(4)}
    sgd = torch.optim.SGD(loss.parameters(), lr=0.5)
    history = pv.fit(loss, [batch], epochs=40, optimizer=sgd, fabric=ranks, compile="off")
    return {
        "loss": history["loss"],
        "idle gradient": loss.idle.grad,
        **dict(loss.named_parameters()),
    }


def test_processes_may_see_batches_of_different_kinds(tmp_path: Path) -> None:
    first, second = run(kinds, tmp_path)
    for seen in (first, second):
        assert (
            abs(seen["a"] - 1) < 1e-3
            and abs(seen["b"] + 1) < 1e-3
            and seen["idle gradient"] is None
        )
    assert first["loss"] == second["loss"]
