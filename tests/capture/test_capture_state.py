"""Captured runs see what changes in Python between epochs, and attempts to capture leave no trace."""

import logging
import types
from collections import deque
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from objective_cases import X, vae
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from test_capture import data, warnings_of
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.capture._rollback import UndoWrites
from pyrovae.capture.graph import Captured
from pyrovae.capture.guards import guard_state
from pyrovae.capture.user_code import is_user_code
from pyrovae.training import captured_stepper as steps

FACTOR = {"value": 1.0}


def scale_output(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return FACTOR["value"] * output


def scale_input(module: nn.Module, inputs: tuple) -> tuple:
    return (FACTOR["value"] * inputs[0],)


def scale_gradient(gradient: Tensor) -> Tensor:
    return FACTOR["value"] * gradient


def scale_gradients(module: nn.Module, inputs: tuple, outputs: tuple) -> tuple:
    return (FACTOR["value"] * inputs[0],)


HOOKS = {
    "forward": lambda net: net.register_forward_hook(scale_output),
    "forward-pre": lambda net: net.register_forward_pre_hook(scale_input),
    "backward": lambda net: net.register_full_backward_hook(scale_gradients),
    "tensor": lambda net: net.layers[0].weight.register_hook(scale_gradient),
    "all modules": lambda net: nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: (
            scale_output(module, inputs, output) if module is net else None
        )
    ),
}


def both_ways(run: Callable[[str], list[float]]) -> None:
    """Captured or not, the losses are the same to the last bit."""
    eager, captured = run("off"), run("on")
    assert captured == eager


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("late", [False, True])
def test_numbers_that_hooks_read_are_seen_to_change(
    kind: str, late: bool, uncompiled: None
) -> None:
    """Hooks that are there from the start, and such as a fit hook registers."""

    def run(mode: str) -> list[float]:
        pyro.set_rng_seed(0)
        FACTOR["value"] = 1.0
        loss, handles = pv.ElboLoss(*vae()), []
        net = loss.model.nodes["x"].conditional.net

        def change(run: object) -> None:
            if late and run.epoch == 1:
                handles.append(HOOKS[kind](net))
            if run.epoch == 2:
                FACTOR["value"] = 5.0

        if not late:
            handles.append(HOOKS[kind](net))
        try:
            history = pv.fit(loss, data(18), epochs=3, lr=1e-2, compile=mode, hooks=[change])
        finally:
            for handle in handles:
                handle.remove()
        return history["loss"] + [
            float(parameter.detach().sum()) for parameter in loss.parameters()
        ]

    both_ways(run)


def set_particles(loss: pv.ElboLoss) -> None:
    loss.elbo.num_particles = 3


def replace_estimator(loss: pv.ElboLoss) -> None:
    loss.elbo = TraceMeanField_ELBO(max_plate_nesting=1)


@pytest.mark.parametrize("change", [set_particles, replace_estimator])
def test_attributes_of_the_estimator_are_seen_to_change(
    change: Callable, uncompiled: None
) -> None:
    def run(mode: str) -> list[float]:
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae(), elbo=Trace_ELBO(max_plate_nesting=1))
        return pv.fit(
            loss,
            data(18),
            epochs=2,
            compile=mode,
            hooks=[lambda run: change(loss) if run.epoch == 1 else None],
        )["loss"]

    both_ways(run)


def test_a_change_that_nothing_suggests_is_seen_after_so_many_replays(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    monkeypatch.setattr(steps, "COMPARED_AFTER", 1)
    monkeypatch.setattr("pyrovae.training.captured_stepper.guard_state", lambda roots: ([], []))
    monkeypatch.setattr("pyrovae.capture.verify.has_backward_hooks", lambda module: False)

    class Watch:
        def __enter__(self) -> list[str]:
            return []

        def __exit__(self, *exception: object) -> None:
            pass

    monkeypatch.setattr("pyrovae.capture.verify.watch_user_code", Watch)

    def run(mode: str) -> list[float]:
        pyro.set_rng_seed(0)
        FACTOR["value"] = 1.0
        loss = pv.ElboLoss(*vae())
        loss.model.nodes["x"].conditional.net.register_forward_hook(scale_output)
        return pv.fit(
            loss, data(), epochs=3, compile=mode, hooks=[lambda run: FACTOR.update(value=2.0)]
        )["loss"]

    both_ways(run)


def test_only_code_that_was_seen_to_run_is_compared_each_epoch(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    compared = []
    matches_eager = Captured.matches_eager
    monkeypatch.setattr(
        Captured,
        "matches_eager",
        lambda *args, **options: compared.append(None) or matches_eager(*args, **options),
    )
    pv.fit(pv.ElboLoss(*vae()), data(), epochs=4, compile="on")
    assert not compared
    loss = pv.ElboLoss(*vae())
    loss.model.nodes["x"].conditional.net.register_forward_hook(scale_output)
    pv.fit(loss, data(), epochs=4, compile="on")
    assert len(compared) == 3


def test_guards_tell_changes_of_what_is_reached() -> None:
    settings = types.SimpleNamespace(beta=1.0, names=["a"])
    loss = pv.ElboLoss(*vae())
    loss.extra = {"settings": settings}

    def changed(change: Callable[[], object]) -> bool:
        before = guard_state([loss])
        change()
        return guard_state([loss])[0] != before[0]

    assert not changed(lambda: loss(x=X))
    assert changed(lambda: setattr(settings, "beta", 2.0))
    assert changed(lambda: settings.names.append("b"))
    assert changed(lambda: setattr(loss.elbo, "num_particles", 2))
    assert changed(lambda: loss.model.nodes["x"].register_forward_hook(scale_output))
    weight = next(loss.parameters())
    assert changed(lambda: setattr(weight, "data", weight.data.t().contiguous().t()))
    assert not is_user_code("torch.nn") and is_user_code("__main__") and is_user_code(__name__)


# --- attempts leave no trace
# --------------------------------------------------------------------------------------

COUNT, LOG, CALLS = 0, [], {"n": 0}


class Plain:
    """An object that is no module."""

    total = 0

    def __init__(self) -> None:
        self.last, self.seen, self.array, self.running = (
            None,
            deque([0]),
            np.zeros(3),
            torch.zeros(4),
        )
        self.slot = Slot()

    def touch(self, way: str, value: Tensor) -> None:
        if way == "attribute":
            self.last = value.detach()
        elif way == "deque":
            self.seen.append(value.detach())
        elif way == "array":
            self.array += 1
        elif way == "class":
            Plain.total += 1
        elif way == "slot":
            self.slot.number += 1
        elif way == "tensor":
            self.running += value.detach()
        elif way == "count":
            self.running += 1


class Slot:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


def state_of(plain: Plain) -> tuple:
    return (
        plain.last,
        list(plain.seen),
        plain.array.tolist(),
        plain.running.tolist(),
        plain.slot.number,
        Plain.total,
        COUNT,
        list(LOG),
        dict(CALLS),
    )


class Touching(nn.Module):
    def __init__(self, way: str, plain: Plain, fail: str = "") -> None:
        super().__init__()
        self.way, self.plain, self.fail, self.weight = (
            way,
            (plain,),
            fail,
            nn.Parameter(torch.ones(4)),
        )

    def forward(self, x: Tensor) -> Tensor:
        global COUNT
        value = (self.weight * x).mean(0)
        self.plain[0].touch(self.way, value)
        if self.way == "global":
            COUNT += 1
        elif self.way == "list":
            LOG.append(value.detach())
        elif self.way == "dict":
            CALLS["n"] += 1
        if self.fail == "branch" and value.sum() > 1e9:
            return value.sum() * 0
        if self.fail == "error" and type(value.detach().abs()).__name__ == "FakeTensor":
            raise KeyError("no such thing among tensors without values")
        return value.sum()


WAYS = ["attribute", "deque", "array", "class", "slot", "global", "list", "dict"]


@pytest.mark.parametrize("fail", ["", "branch", "error"])
@pytest.mark.parametrize("way", [*WAYS, "tensor", "count"])
def test_an_attempt_to_capture_leaves_no_trace(way: str, fail: str) -> None:
    plain = Plain()
    touching, before = Touching(way, plain, fail), state_of(plain)
    if way in ("tensor", "count") and not fail:
        Captured(
            lambda batch: touching(**batch).detach(), {"x": X}, modules=[touching], compiled=False
        )
    else:
        with pytest.raises(pv.CaptureError):
            Captured(
                lambda batch: touching(**batch).detach(),
                {"x": X},
                modules=[touching],
                compiled=False,
            )
    assert state_of(plain) == before


@pytest.mark.parametrize("fail", ["", "error"])
@pytest.mark.parametrize("way", WAYS)
def test_training_goes_on_as_if_nothing_had_been_tried(
    way: str, fail: str, caplog: pytest.LogCaptureFixture
) -> None:
    def run(mode: str) -> tuple:
        global COUNT
        COUNT, Plain.total = 0, 0
        LOG.clear(), CALLS.update(n=0)
        pyro.set_rng_seed(0)
        plain = Plain()
        touching = Touching(way, plain, fail)
        history = pv.fit(touching, [{"x": X}] * 2, epochs=2, compile=mode)
        last, seen, *rest, log, calls = state_of(plain)
        return (
            history["loss"],
            *rest,
            calls,
            None if last is None else last.tolist(),
            [torch.as_tensor(value).tolist() for value in seen],
            [value.tolist() for value in log],
        )

    expected = run("off")
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        assert run("on") == expected
    (message,) = warnings_of(caplog)
    assert message.startswith("training goes on uncompiled")


@pytest.mark.parametrize("way", ["tensor", "count"])
def test_tensors_that_a_program_writes_to_are_written_to_by_replays(
    way: str, uncompiled: None
) -> None:
    ends = []
    for mode in ("off", "on"):
        plain = Plain()
        pv.fit(Touching(way, plain), [{"x": X}] * 2, epochs=3, compile=mode)
        ends.append(plain.running)
    assert torch.equal(*ends) and ends[0].abs().sum() > 0


def test_writes_are_undone_but_not_to_what_is_new() -> None:
    kept, part = torch.zeros(4), torch.zeros(2, 3)
    with UndoWrites():
        kept += 1
        torch.add(part, 1, out=part)
        part[:, 1].mul_(7)
        fresh = torch.zeros(3)
        fresh.add_(2)
    assert torch.equal(kept, torch.zeros(4)) and torch.equal(part, torch.zeros(2, 3))
    assert torch.equal(fresh, 2 * torch.ones(3))


# --- nothing that compiling does may end a run
# ----------------------------------------------------------------------


def deep_markov(x: Tensor) -> tuple[Callable, Callable, nn.Module]:
    """A program whose initial state is one expanded parameter, which enters a linear layer."""
    nets = nn.ModuleDict(
        {"step": nn.Linear(3, 3), "emit": nn.Linear(3, 4), "encode": nn.Linear(4, 6)}
    )
    nets.start = nn.Parameter(torch.zeros(3))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            loc = nets["step"](nets.start.expand(len(x), 3))
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=nets["emit"](z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = nets["encode"](x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return model, guide, nets


def test_expanded_tensors_that_enter_layers_are_compiled(caplog: pytest.LogCaptureFixture) -> None:
    model, guide, nets = deep_markov(X)
    nets.float()
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        pv.fit(pv.ElboLoss(model, guide), {"x": X.float()}, epochs=2, compile="on")
    assert not warnings_of(caplog)


@pytest.mark.parametrize(
    "place",
    [f"graph.{name}" for name in ("use_fastest_route", "compile_graph", "lift")]
    + ["verify.are_close"],
)
def test_whatever_fails_in_a_capture_is_no_end(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr(f"pyrovae.capture.{place}", fail)
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        history = pv.fit(pv.ElboLoss(*vae()), data(), epochs=2, compile="on")
    assert len(history) == 2
    (message,) = warnings_of(caplog)
    assert "goes on uncompiled" in message and "not foreseen" in message


def test_a_replay_that_fails_is_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiled(graph: Callable, inputs: list[Tensor]) -> Callable:
        calls = []

        def run(*inputs: Tensor) -> list[Tensor]:
            calls.append(None)
            if len(calls) > 3:
                raise AssertionError("wrong strides")
            return graph(*inputs)

        return run

    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", compiled)
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        history = pv.fit(pv.ElboLoss(*vae()), data(), epochs=3, compile="on")
    assert len(history) == 3 and "wrong strides" in warnings_of(caplog)[0]


def test_parameters_that_a_hook_lays_out_anew(uncompiled: None) -> None:
    ends = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae())
        weight = loss.model.nodes["x"].conditional.net.layers[0].weight

        def turn(run: object) -> None:
            if run.epoch == 1:
                weight.data = weight.data.t().contiguous().t()
                run.optimizer.state.clear()

        pv.fit(loss, data(), epochs=3, hooks=[turn], compile=mode)
        ends.append(weight.detach().clone())
    assert torch.equal(*ends)


def test_a_capture_leaves_nothing_in_tables_that_live_as_long_as_the_process() -> None:
    from torch._inductor.codecache import PyCodeCache
    from torch.fx.graph_module import _loader

    def sizes() -> tuple[int, int]:
        return len(_loader.eval_cache), len(PyCodeCache.modules)

    weight, before = nn.Parameter(torch.ones(4)), sizes()
    for _ in range(2):
        captured = Captured(lambda batch: (weight * batch["x"]).sum().detach(), {"x": X})
        assert captured({"x": X}) == X.sum() and sizes() == before
