"""Attempts to capture leave no trace in tensors, parameters and objects that keep their state to
themselves."""

import array
import itertools
import logging
import os
import random
from collections.abc import Callable
from contextvars import ContextVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from objective_cases import X
from test_capture import warnings_of
from torch import Tensor, nn

import pyrovae as pv


class Net(nn.Module):
    """Changes tensors behind the back of a recording."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.line = way, nn.Linear(4, 4)
        self.plain, self.pair = torch.ones(1), (torch.ones(4),)
        self.kept = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.line(x)
        if self.way == "grows":
            self.plain.data = torch.cat([self.plain.data, torch.ones(1)])
            y = y * (1 + 0.1 * len(self.plain))
        elif self.way == "resized":
            self.plain.resize_(len(self.plain) + 1).fill_(1)
            y = y * (1 + 0.1 * len(self.plain))
        elif self.way == "plain":
            self.plain.data = self.plain.data * 0.9 + 0.2
            y = y * self.plain
        elif self.way == "in a tuple":
            self.pair[0].data = self.pair[0].data * 0.9 + 0.2
            y = y * self.pair[0]
        elif self.way == "parameter":
            self.kept = nn.Parameter(
                self.kept * 0.9 + 0.1 * y.detach().mean(0), requires_grad=False
            )
            y = y - self.kept
        elif self.way == "data of a parameter":
            self.kept.data = self.kept.data * 0.9 + 0.1 * y.detach().mean(0)
            y = y - self.kept
        elif self.way == "gradient":
            gradient = self.line.weight.grad
            y = y if gradient is None else y * (1 + gradient.norm())
        return y

    def seen(self) -> list[object]:
        tensors = [self.plain, self.pair[0], self.kept, *self.line.parameters()]
        return [value.tolist() for value in tensors]


WAYS = {
    "grows": "Net.plain changes",
    "resized": "",
    "plain": "",
    "in a tuple": "",
    "parameter": "Net.kept changes",
    "data of a parameter": "",
    "gradient": "reads the gradient",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured is not compiled."""
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    monkeypatch.setattr("pyrovae.capture.graph.use_fastest_route", lambda graph: None)


def pair(net: nn.Module, factor: Callable[[], object] = lambda: 1.0) -> pv.ElboLoss:
    encoder = nn.Linear(4, 4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z) * factor(), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

    return pv.ElboLoss(model, guide)


def goes_on_uncompiled(
    run: Callable[[str], object], caplog: pytest.LogCaptureFixture, says: str
) -> None:
    expected = run("off")
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        assert run("on") == expected
    (message,) = warnings_of(caplog)
    assert message.startswith("training goes on uncompiled") and says in message, message


@pytest.mark.parametrize("way", WAYS)
def test_tensors_are_left_as_they_were(way: str, caplog: pytest.LogCaptureFixture) -> None:
    def run(mode: str) -> tuple:
        pyro.set_rng_seed(0)
        net = Net(way)
        history = pv.fit(pair(net), [{"x": X}] * 3, epochs=3, compile=mode)
        return history["loss"], net.seen()

    goes_on_uncompiled(run, caplog, WAYS[way])


@pytest.mark.parametrize("way", ["plain", "parameter"])
def test_validation_leaves_tensors_as_they_were(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)

    def run(mode: str) -> tuple:
        pyro.set_rng_seed(0)
        net = Net(way)
        loss = pair(net)
        history = pv.fit(loss, [{"x": X}] * 2, epochs=3, valid=[{"x": X}] * 3, compile=mode)
        return history["valid_loss"], net.seen()

    expected = run("off")
    with caplog.at_level(logging.INFO, logger="pyrovae"):
        assert run("auto") == expected
    assert "not compiled: " in caplog.text


VARIABLE: ContextVar[float] = ContextVar("variable", default=1.0)


def endless() -> object:
    number = 0.0
    while True:
        yield (number := number + 1)


def stateful(kind: str) -> tuple[Callable[[], float], Callable[[], object]]:
    """A factor that moves the state of an object at each call, and a look at that state."""
    if kind in ("count", "cycle", "generator", "unused count"):
        iterator = {
            "cycle": lambda: itertools.cycle([1.0, 2.0, 3.0]),
            "generator": endless,
        }.get(kind, itertools.count)()
        return lambda: next(iterator) * (kind != "unused count") + 1.0, lambda: next(iterator)
    if kind == "random":
        generator = random.Random(0)
        return lambda: 1 + generator.random(), generator.random
    if kind == "numpy":
        numbers = np.random.default_rng(0)
        return lambda: 1 + numbers.random(), numbers.random
    if kind == "numpy, legacy":
        legacy = np.random.RandomState(0)
        return lambda: 1 + float(legacy.rand()), legacy.rand
    if kind == "torch":
        torches = torch.Generator().manual_seed(0)
        return (
            lambda: 1 + float(torch.rand((), generator=torches)),
            lambda: torch.rand((), generator=torches).item(),
        )
    if kind in ("bytes", "array"):
        cells = bytearray(1) if kind == "bytes" else array.array("d", [0.0])

        def factor() -> float:
            cells[0] += 1
            return 1 + 0.1 * cells[0]

        return factor, lambda: list(cells)
    if kind == "context":
        VARIABLE.set(1.0)

        def factor() -> float:
            VARIABLE.set(VARIABLE.get() + 0.1)
            return VARIABLE.get()

        return factor, VARIABLE.get
    os.environ["PYROVAE_TEST"] = "1"

    def factor() -> float:
        os.environ["PYROVAE_TEST"] = str(int(os.environ["PYROVAE_TEST"]) + 1)
        return 1 + 0.1 * int(os.environ["PYROVAE_TEST"])

    return factor, lambda: os.environ["PYROVAE_TEST"]


STATEFUL = ["count", "cycle", "generator", "unused count", "random", "numpy", "numpy, legacy"]
STATEFUL += ["torch", "bytes", "array", "context", "environment"]


@pytest.mark.parametrize("kind", STATEFUL)
def test_objects_with_state_of_their_own_are_left_as_they_were(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYROVAE_TEST", "1")

    def run(mode: str) -> tuple:
        pyro.set_rng_seed(0)
        factor, look = stateful(kind)
        history = pv.fit(pair(nn.Linear(4, 4), factor), [{"x": X}] * 3, epochs=2, compile=mode)
        return history["loss"], look()

    is_iterator = kind in ("count", "cycle", "generator", "unused count")
    goes_on_uncompiled(run, caplog, "iterator is an iterator" if is_iterator else "")
