"""Capture: replays equal the programs, whatever the objective, and what cannot be replayed says
so."""

import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from objective_cases import LOSSES, Noisy, X, Y, batch_for, bnn, program_of, stacked, vae
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import MCDropout, MeanField, PointEstimate, Radial
from pyrovae.capture.auto import AutoCapture
from pyrovae.capture.graph import Captured
from pyrovae.data import Batches, DictDataset
from pyrovae.evidence import annealed_importance, bidirectional
from pyrovae.heads import NormalHead
from pyrovae.losses import CapacityLoss, Lagging
from pyrovae.programs.semi_amortized import SemiAmortized
from pyrovae.training.averages import Averages, Measured
from pyrovae.training.evaluate import Evaluation
from pyrovae.training.hooks import Checkpoint


@pytest.mark.filterwarnings("ignore:.*parameters have no influence:UserWarning")
@pytest.mark.parametrize("name", LOSSES)
def test_replays_equal_the_program(name: str, uses_param_store: None) -> None:
    loss = LOSSES[name]()
    batch = batch_for(loss, name)
    program = program_of(loss, batch)
    other = {**batch, "x": 1 - X}
    buffers = {key: buffer.clone() for key, buffer in loss.named_buffers()}
    replay = Captured(program, batch, modules=[loss], compiled=False)
    for key, buffer in loss.named_buffers():
        assert torch.equal(buffer, buffers[key]), f"the capture changed {key}"
    results, ends = [], []
    for run in (program, replay):
        torch.manual_seed(1)
        with torch.no_grad():
            loss.load_state_dict({**loss.state_dict(), **buffers})
            results.append(
                [torch.utils._pytree.tree_leaves(run(data)) for data in (batch, other, batch)]
            )
        ends.append([buffer.clone() for buffer in loss.buffers()] + [torch.get_rng_state()])
    for expected, seen in zip(*results):
        assert len(expected) == len(seen) > 1
        for one, another in zip(expected, seen):
            assert torch.equal(one, another)
    for one, another in zip(*ends):
        assert torch.equal(one, another), "buffers or the random stream went another way"
    assert not torch.equal(results[0][0][0], results[0][1][0])


@pytest.mark.parametrize("context", [pv.LocalReparameterization, pv.Flipout])
def test_contexts_are_captured(context: Callable) -> None:
    loss = bnn()
    batch = {"x": X, "y": Y}
    plain = program_of(loss, batch)

    def program(batch: dict[str, Tensor]) -> object:
        with context():
            return plain(batch)

    replay = Captured(program, batch, modules=[loss], compiled=False)
    values = []
    for run in (program, replay, plain):
        torch.manual_seed(1)
        with torch.no_grad():
            values.append(run(batch)[0])
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


# --- what cannot be captured
# ----------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.calls, self.weight = way, 0, nn.Parameter(torch.ones(4))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.way == "counter"
        self.step += 1
        value = (self.weight * x).mean()
        if self.way == "float":
            return value * float(value)
        if self.way == "branch":
            return value if self.step % 2 == 0 else 2 * value
        if self.way == "shape":
            return (self.weight * x)[x > 0].mean()
        return value * (self.calls if self.way == "counter" else random.random())


@pytest.mark.parametrize(
    "way, says",
    [
        ("float", "value of a tensor"),
        ("branch", "value of a tensor"),
        ("shape", "value of a tensor"),
        ("counter", "Odd.calls"),
        ("random", "random numbers|other results"),
    ],
)
def test_what_depends_on_more_than_tensors_is_refused(way: str, says: str) -> None:
    odd = Odd(way)
    step = odd.step
    with pytest.raises(pv.CaptureError, match=says):
        Captured(lambda batch: odd(**batch).detach(), {"x": X}, modules=[odd], compiled=False)
    assert odd.step is step and int(step) == 0


class Masked(nn.Module):
    """Looks at the values of a mask, and may change it."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        self.way, self.weight = way, nn.Parameter(torch.ones(4))
        self.register_buffer("mask", torch.tensor([True, False, True, False]))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "in place":
            self.mask.logical_not_()
        if self.way == "by assignment":
            self.mask = ~self.mask
        mask = self.mask.clone()
        if self.way == "and=":
            mask &= (x > -5).all(0)
        if self.way == "at some":
            mask[x.sum(0) < -5] = False
        if self.way == "out":
            torch.logical_and(mask, (x > -5).all(0), out=mask)
        if self.way == "random":
            return (self.weight * x * torch.bernoulli(0.5 * mask.double())).mean()
        count = int(mask.sum())
        return count * (self.weight * x)[:, self.mask.nonzero().squeeze(-1)].mean()


def test_the_values_of_masks_may_be_looked_at(uncompiled: None) -> None:
    masked = Masked()
    replay = Captured(
        lambda batch: masked(**batch).detach(), {"x": X}, modules=[masked], compiled=False
    )
    assert torch.equal(replay({"x": 3 * X}), masked(3 * X)) and replay.guards_hold()
    masked.mask = ~masked.mask
    assert not replay.guards_hold()


@pytest.mark.parametrize("way", ["in place", "by assignment", "and=", "at some", "out", "random"])
def test_masks_that_a_program_changes_are_refused(way: str) -> None:
    masked = Masked(way)
    mask, before = masked.mask, masked.mask.clone()
    torch.manual_seed(0)
    with pytest.raises(pv.CaptureError, match="Boolean buffer"):
        Captured(
            lambda batch: masked(**batch).detach(), {"x": X}, modules=[masked], compiled=False
        )
    assert masked.mask is mask and torch.equal(mask, before)


def test_masks_that_a_hook_changes_are_seen(uncompiled: None) -> None:
    ends = []
    for compile in ("off", "on"):
        masked = Masked()

        def swap(run: object) -> None:
            masked.mask.logical_not_()

        pv.fit(masked, [{"x": X}] * 2, epochs=3, compile=compile, hooks=[swap])
        ends.append(masked.weight.detach())
    assert torch.equal(*ends)


class Spoiling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return (self.weight * x).mean()


def test_a_capture_leaves_the_data_alone(uncompiled: None) -> None:
    spoiling, x = Spoiling(), X.clone()
    Captured(
        lambda batch: spoiling(**batch).detach(), {"x": x}, modules=[spoiling], compiled=False
    )
    assert torch.equal(x, X)


def test_a_program_that_gives_more_than_it_did_agrees_no_more() -> None:
    factors = [2.0]
    replay = Captured(
        lambda batch: [factor * batch["x"] for factor in factors], {"x": X}, compiled=False
    )
    assert replay.matches_eager({"x": X})
    factors[0] = 3.0
    assert not replay.matches_eager({"x": X})
    factors[:] = [2.0, 2.0]
    assert not replay.matches_eager({"x": X})


def test_messages_name_the_users_line() -> None:
    with pytest.raises(pv.CaptureError, match=r"test_capture.py:\d+, `if batch"):

        def program(batch: dict[str, Tensor]) -> Tensor:
            if batch["x"].sum() > 0:
                return batch["x"]
            return -batch["x"]

        Captured(program, {"x": X}, compiled=False)
    replay = Captured(lambda batch: 2 * batch["x"], {"x": X}, compiled=False)
    with pytest.raises(
        pv.CaptureError, match=r"captured for x \(12, 4\) float64, called with x \(3, 4\)"
    ):
        replay({"x": X[:3]})


@pytest.mark.parametrize("of", ["parameter", "module"])
def test_a_gradients_hook_is_seen(of: str, uncompiled: None) -> None:
    ends = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae())
        decoder = loss.model.nodes["x"].conditional.net
        weight = loss.guide.nodes["z"].conditional.net.layers[0].weight

        def freeze(run: object) -> None:
            if run.epoch == 1 and of == "parameter":
                weight.register_hook(torch.zeros_like)
            if run.epoch == 1 and of == "module":
                decoder.register_full_backward_hook(
                    lambda part, inputs, outputs: (0.5 * inputs[0],)
                )

        pv.fit(loss, data(18), epochs=2, hooks=[freeze], compile=mode)
        ends.append(weight.detach())
    assert torch.equal(*ends)


def test_labels_out_of_range_are_named(uncompiled: None) -> None:
    good, bad = {"x": X, "y": Y}, {"x": X, "y": Y + 5}
    with pytest.raises(pv.PairError, match="y"):
        pv.fit(bnn(), [good, bad], epochs=2, compile="on")
    evaluation = Evaluation(bnn(), compile="on")
    with pytest.raises(pv.PairError, match="y"):
        evaluation([good, bad])


def test_items_are_tensors_in_a_recording() -> None:
    replay = Captured(lambda batch: batch["x"] * batch["x"].sum().item(), {"x": X}, compiled=False)
    assert torch.equal(replay({"x": 2 * X}), 4 * X * X.sum())


def test_data_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(pv.CaptureError, match="'name' among the data"):
        Captured(lambda batch: batch["x"], {"x": X, "name": "digits"}, compiled=False)


def test_strides_are_part_of_a_shape(uncompiled: None) -> None:
    replay = AutoCapture(lambda batch: batch["x"].reshape(-1) * 2, compile="on")
    square = torch.rand(4, 4)
    assert torch.equal(replay({"x": square}), 2 * square.flatten())
    assert torch.equal(replay({"x": square.t()}), 2 * square.t().flatten())


def test_a_global_counter_shows_in_the_results() -> None:
    calls = []

    def program(batch: dict[str, Tensor]) -> Tensor:
        calls.append(None)
        return batch["x"].sum() * (1 + 1e-3 * len(calls))

    with pytest.raises(pv.CaptureError, match="^calls changes from call to call"):
        Captured(program, {"x": X}, compiled=False)
    assert not calls


@pytest.mark.parametrize(
    "loss",
    [
        lambda: pv.ElboLoss(*vae(), beta=lambda: 0.5),
        lambda: CapacityLoss(*vae(), capacity=lambda: 0.5),
    ],
)
def test_schedules_of_python_numbers_are_refused(loss: Callable[[], nn.Module]) -> None:
    loss = loss()
    with pytest.raises(pv.CaptureError, match="LinearWarmup"):
        Captured(program_of(loss, {"x": X}), {"x": X}, modules=[loss], compiled=False)


def fallback_of(loss: nn.Module, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        pv.fit(loss, {"x": X}, epochs=2, compile="on")
    return warnings_of(caplog)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and record.name.startswith("pyrovae")
    ]


def semi_amortised() -> pv.ElboLoss:
    """Its refinement sets random states back, which a replay does not."""
    model, guide = vae()
    return pv.ElboLoss(model, SemiAmortized(guide, model, steps=1))


@pytest.mark.parametrize("name", ["enumeration", "lagging", "schedule", "semi-amortised"])
def test_training_goes_on_uncompiled_and_says_why(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def discrete() -> pv.ElboLoss:
        net = nn.Embedding(2, 4)

        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Bernoulli(logits=net(k.long())).to_event(1), obs=x)

        return pv.ElboLoss(model, lambda x: None, elbo=TraceEnum_ELBO(max_plate_nesting=1))

    losses = {
        "enumeration": discrete,
        "lagging": lambda: Lagging(pv.ElboLoss(*vae()), guide_steps=2),
        "schedule": lambda: pv.ElboLoss(*vae(), beta=lambda: 0.5),
        "semi-amortised": semi_amortised,
    }
    results = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = losses[name]()
        if mode == "on":
            messages = fallback_of(loss, caplog)
        else:
            pv.fit(loss, {"x": X}, epochs=2, compile="off")
        results.append([parameter.detach().clone() for parameter in loss.parameters()])
    assert len(messages) == 1 and messages[0].startswith("training goes on uncompiled")
    for one, another in zip(*results):
        assert torch.equal(one, another), "the attempt left its mark"


class Kept(nn.Module):
    """Modules that keep what a replay would not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.weight, self.seen = way, nn.Parameter(torch.ones(4)), {"n": 0}
        self.average, self.list = 0.0, []
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        value = (self.weight * x).mean()
        if self.way == "dict":
            self.seen["n"] += 1
        elif self.way == "numpy":
            self.calls = np.int64(getattr(self, "calls", 0) + 1)
        elif self.way == "item":
            self.average += value.item()
        elif self.way == "attribute":
            self.last = value.detach()
        elif self.way == "list":
            self.list.append(value.detach())
        elif self.way == "dtype":
            self.count = self.count * 0.5 + 1
        return value


@pytest.mark.parametrize("way", ["dict", "numpy", "item", "attribute", "list", "dtype"])
def test_what_modules_keep_in_python_is_refused_and_left_alone(way: str) -> None:
    kept = Kept(way)
    with pytest.raises(pv.CaptureError, match="Kept"):
        Captured(program_of(kept, {"x": X}), {"x": X}, modules=[kept], compiled=False)
    assert kept.average == 0.0 or type(kept.average) is float
    assert not [
        value for value in (*vars(kept).values(), *kept.list) if "Fake" in type(value).__name__
    ]


# --- training
# -------------------------------------------------------------------------------------------------------


def data(size: int = 8) -> Batches:
    return Batches(DictDataset(x=torch.cat([X] * 3)), size, shuffle=True)


OPTIMIZERS = {
    "adam": None,
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "decay": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, fused=True),
    "plain adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "groups": lambda p: torch.optim.Adam(
        [{"params": p[:2], "lr": 0.0}, {"params": p[2:]}], lr=1e-2, fused=True
    ),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


@pytest.mark.parametrize(
    ("optimizer", "clip_norm"),
    [*((name, None) for name in OPTIMIZERS), ("adam", 0.5), ("groups", 0.5), ("sgd", 0.5)],
)
def test_training_is_the_same_captured(
    optimizer: str, clip_norm: float | None, uncompiled: None
) -> None:
    """Ragged batches, schedules, buffers, dropout and optimiser state included: to the last bit
    without clipping."""
    results = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae(lambda head: NormalHead(Noisy())), beta=pv.LinearWarmup(10))
        history = pv.fit(
            loss,
            data(),
            epochs=3,
            valid=[{"x": X}],
            lr=1e-2,
            optimizer=OPTIMIZERS[optimizer],
            compile=mode,
            schedule=lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, 0.5),
            clip_norm=clip_norm,
        )
        rows = [
            {key: value for key, value in row.items() if key != "seconds"} for row in history.rows
        ]
        results.append((rows, {name: value.clone() for name, value in loss.state_dict().items()}))
    (rows, state), (captured_rows, captured_state) = results
    close = {"rtol": 0, "atol": 0} if clip_norm is None else {"rtol": 1e-12, "atol": 1e-12}
    for row, captured in zip(rows, captured_rows):
        assert captured == pytest.approx(row, rel=1e-12 if clip_norm is None else 1e-9)
    for name in state:
        torch.testing.assert_close(captured_state[name], state[name], **close)


def test_resumed_runs_go_on_bit_for_bit(tmp_path: Path, uncompiled: None) -> None:
    def run(folder: Path, epochs: int, mode: str, resume: bool = False) -> dict[str, Tensor]:
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae(), beta=pv.LinearWarmup(10))
        pv.fit(
            loss,
            data(),
            epochs=epochs,
            hooks=[Checkpoint(folder / "run")],
            compile=mode,
            resume=folder / "run" if resume else None,
        )
        return {name: value.clone() for name, value in loss.state_dict().items()}

    whole = run(tmp_path / "a", 5, "on")
    run(tmp_path / "b", 2, "on")
    for one, another in zip(whole.values(), run(tmp_path / "b", 5, "on", resume=True).values()):
        assert torch.equal(one, another)
    run(tmp_path / "c", 2, "on")
    for one, another in zip(whole.values(), run(tmp_path / "c", 5, "off", resume=True).values()):
        assert torch.equal(one, another), "checkpoints of one mode serve the other"


def test_auto_compiles_long_runs_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uncompiled: None
) -> None:
    captures = []
    monkeypatch.setattr(
        "pyrovae.training.captured_step.Captured",
        lambda *args, **kwargs: captures.append(None) or Captured(*args, **kwargs),
    )
    pv.fit(pv.ElboLoss(*vae()), data(), epochs=3)
    assert not captures
    monkeypatch.setattr("pyrovae.training.compile_policy.WORTH_COMPILING", 0.0)
    loss = pv.ElboLoss(*vae())
    pv.fit(loss, data(), epochs=1)
    assert not captures, "nothing is ahead"
    pv.fit(loss, data(), epochs=2, hooks=[Checkpoint(tmp_path / "run")])
    assert len(captures) == 1
    monkeypatch.setattr("pyrovae.training.compile_policy.WORTH_COMPILING", 1e9)
    pv.fit(loss, data(), epochs=3, resume=tmp_path / "run")
    assert len(captures) == 2, "a resumed run goes on as it was"


def test_shapes_are_captured_when_they_come_again(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    shapes = []
    monkeypatch.setattr(
        "pyrovae.training.captured_step.Captured",
        lambda program, batch, **kwargs: (
            shapes.append(len(batch["x"])) or Captured(program, batch, **kwargs)
        ),
    )
    pv.fit(pv.ElboLoss(*vae()), [{"x": X}, {"x": X[:5]}], epochs=3, compile="on")
    assert shapes == [12]
    pv.fit(pv.ElboLoss(*vae()), [{"x": X}, {"x": X[:5]}, {"x": X[:5]}], epochs=3, compile="on")
    assert shapes == [12, 12, 5]


@pytest.mark.parametrize(
    "name",
    ["Trace_ELBO", "IWAE, dreg", "warm-up", "dropout, batch norm, buffers", "score function"],
)
def test_validation_is_the_same_captured(
    name: str, monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    histories = []
    for mode in ("off", "auto"):
        pyro.set_rng_seed(0)
        loss = LOSSES[name]()
        captures = []
        monkeypatch.setattr(
            "pyrovae.capture.auto.Captured",
            lambda *args, **kwargs: captures.append(None) or Captured(*args, **kwargs),
        )
        history = pv.fit(
            loss,
            data(18),
            epochs=2,
            valid=[{"x": X[:5]}, {"x": X[5:10]}, {"x": X[10:]}],
            compile=mode,
        )
        histories.append(history)
        assert len(captures) == (2 if mode == "auto" else 0)
    assert all("valid_loss" in row for row in histories[0])
    for one, another in zip(*histories):
        assert {**one, "seconds": 0} == {**another, "seconds": 0}


def test_captured_validation_refuses_data_outside_the_support(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    evaluation = Evaluation(pv.ElboLoss(*vae()), compile="on")
    fine = evaluation([{"x": X}] * 2)
    assert fine == evaluation([{"x": X}] * 2) == pv.evaluate(evaluation.loss, [{"x": X}] * 2)
    with pytest.raises(pv.PairError, match="grey values"):
        evaluation([{"x": X}, {"x": 0.5 * X}])
    assert evaluation.replays.captured


def test_autocast_is_captured(uncompiled: None) -> None:
    def losses(mode: str, context: Callable) -> list[float]:
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae()).float()
        return pv.fit(loss, [{"x": X.float()}] * 4, epochs=3, compile=mode, context=context)[
            "loss"
        ]

    def rough() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    assert losses("off", rough) == losses("on", rough) != losses("on", nullcontext)


def test_averages_are_over_the_data_that_reported_them() -> None:
    averages = Averages()
    averages.add(
        2,
        Measured(
            ("loss", "kl", "kl_a"),
            torch.tensor([1.0, 2.0, 2.0]),
            {"a": torch.tensor([[2.0], [2.0], [4.0]])},
        ),
    )
    averages.add(
        6, Measured(("loss", "kl", "kl_a", "kl_b"), torch.tensor([5.0, 6.0, 2.0, 4.0]), {})
    )
    averages.add(8, Measured(("loss",), torch.tensor([9.0]), {}))
    averages.merge(lambda value, reduce_op: value)
    assert averages.row() == {"loss": 6.5, "kl": 5.0, "kl_a": 2.0, "kl_b": 4.0, "active_units": 1}


def test_the_only_site_has_no_column_beside_the_kl() -> None:
    averages = Averages()
    averages.add(2, Measured(("loss", "kl", "kl_z"), torch.tensor([1.0, 2.0, 2.0]), {}))
    assert averages.row() == {"loss": 1.0, "kl": 2.0}


def test_validation_is_not_replayed_once_the_loss_changed(uncompiled: None) -> None:
    loss = pv.ElboLoss(*vae())
    evaluation = Evaluation(loss, compile="on")
    before = evaluation([{"x": X}])
    loss.beta = 3.0
    after = evaluation([{"x": X}])
    assert after == pv.evaluate(loss, [{"x": X}]) and after["loss"] > before["loss"]


def test_bad_losses_and_data_stop_a_captured_run(uncompiled: None) -> None:
    loss = pv.ElboLoss(*vae())
    before = None

    def look(run: object) -> None:
        nonlocal before
        before = {name: value.clone() for name, value in loss.state_dict().items()}

    spoiled = [{"x": X}, {"x": X}]

    class Spoil:
        def __iter__(self) -> object:
            yield from spoiled

    def spoil(run: object) -> None:
        look(run)
        spoiled[0] = {"x": 0.5 * X}

    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(loss, Spoil(), epochs=3, compile="on", hooks=[spoil])
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name])
    spoiled[0] = {"x": X}

    def explode(run: object) -> None:
        with torch.no_grad():
            loss.guide.nodes["z"].conditional.net.layers[0].weight.fill_(torch.nan)
        look(run)

    with pytest.raises(pv.NonFiniteLossError, match="epoch 2, batch 0"):
        pv.fit(loss, Spoil(), epochs=3, compile="on", hooks=[explode])


def test_hooks_may_change_what_a_capture_holds_fixed(uncompiled: None) -> None:
    """Numbers of the loss, what trains, numbers of the optimiser and its state."""

    def change(run: object) -> None:
        if run.epoch == 4:
            state = run.optimizer.state_dict()
            for moments in state["state"].values():
                moments["exp_avg"] = torch.zeros_like(moments["exp_avg"])
            run.optimizer.load_state_dict(state)
        if run.epoch == 1:
            run.loss.beta = 0.3
        if run.epoch == 2:
            run.loss.guide.nodes["z"].conditional.net.layers[0].weight.requires_grad_(False)
        if run.epoch == 3:
            run.optimizer.param_groups[0]["betas"] = (0.5, 0.9)

    ends = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae())
        pv.fit(loss, data(18), epochs=5, hooks=[change], compile=mode)
        ends.append([parameter.detach().clone() for parameter in loss.parameters()])
    for one, another in zip(*ends):
        assert torch.equal(one, another)


BETA = {"weight": 0.1}


def annealed_by_hand() -> pv.ElboLoss:
    """A pair whose weight of the KL is a number in a global."""
    encoder, decoder = nn.Linear(4, 2), nn.Linear(2, 4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            with pyro.poutine.scale(scale=BETA["weight"]):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.poutine.scale(scale=BETA["weight"]):
            pyro.sample("z", dist.Normal(encoder(x), 0.5).to_event(1))

    return pv.ElboLoss(model, guide)


def test_numbers_that_a_program_reads_from_outside_may_change_between_epochs(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    ends = []
    for mode in ("off", "on"):
        BETA["weight"] = 0.1
        pyro.set_rng_seed(0)
        loss = annealed_by_hand()
        found = captures(monkeypatch)
        history = pv.fit(
            loss,
            data(18),
            epochs=3,
            valid=[{"x": X}] * 2,
            compile=mode,
            hooks=[lambda run: BETA.update(weight=0.1 if run.epoch < 2 else 1.0)],
        )
        ends.append(
            (
                history["loss"],
                history["valid_loss"],
                [parameter.detach() for parameter in loss.parameters()],
            )
        )
        assert bool(found) == (mode == "on")
    assert ends[0][:2] == ends[1][:2]
    for one, another in zip(ends[0][2], ends[1][2]):
        assert torch.equal(one, another)


class Odds(nn.Module):
    """A gradient with strides of its own, one without any, and no terms."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return (
            torch.einsum("oi,bi->bo", self.weight, x).tanh().square().mean()
            + 0.01 * self.bias.sum()
        )


def test_gradients_are_applied_in_the_layout_of_their_parameters(uncompiled: None) -> None:
    ends = []
    for mode in ("off", "on"):
        torch.manual_seed(0)
        loss = Odds()
        pv.fit(loss, [{"x": X}] * 5, epochs=3, lr=1e-2, compile=mode)
        ends.append(
            [*(p.detach() for p in loss.parameters()), *(p.grad for p in loss.parameters())]
        )
    for one, another in zip(*ends):
        torch.testing.assert_close(one, another, rtol=0, atol=1e-12)


def test_a_replay_writes_to_no_data(uncompiled: None) -> None:
    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 2)
            self.register_buffer("reference", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            value = self.net(x - 0.1 * self.reference).square().mean()
            self.reference = x[0]
            return value

    ends = []
    for mode in ("off", "on"):
        torch.manual_seed(0)
        loss, rows = Reference(), X.clone()
        pv.fit(
            loss, [{"x": rows[:5]}, {"x": rows[5:10]}, {"x": rows[10:]}], epochs=3, compile=mode
        )
        assert torch.equal(rows, X)
        ends.append([value.clone() for value in loss.state_dict().values()])
    for one, another in zip(*ends):
        torch.testing.assert_close(one, another, rtol=0, atol=1e-12)


def test_one_tensor_under_two_names() -> None:
    replay = Captured(lambda batch: batch["x"] + 2 * batch["y"], {"x": X, "y": X}, compiled=False)
    assert torch.equal(replay({"x": X, "y": 1 - X}), X + 2 * (1 - X))


def two_groups(p: list[Tensor]) -> torch.optim.Adam:
    return torch.optim.Adam(
        [{"params": p[:1], "decoupled_weight_decay": True}, {"params": p[1:]}],
        weight_decay=0.1,
        fused=True,
    )


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1, fused=True), two_groups])
def test_other_fused_optimisers(make: Callable, uncompiled: None) -> None:
    ends = []
    for mode in ("off", "on"):
        torch.manual_seed(0)
        loss = nn.Linear(4, 1, bias=True)
        wrapped = Wrapped(loss)
        pv.fit(wrapped, [{"x": X}] * 5, epochs=3, optimizer=make, compile=mode)
        ends.append([p.detach() for p in loss.parameters()])
    for one, another in zip(*ends):
        torch.testing.assert_close(one, another, rtol=0, atol=1e-12)


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).square().mean()


def test_a_loss_that_changes_every_epoch_is_not_captured_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    found = []
    monkeypatch.setattr(
        "pyrovae.training.captured_step.Captured",
        lambda *args, **kwargs: found.append(None) or Captured(*args, **kwargs),
    )

    def change(run: object) -> None:
        run.loss.beta = 1 / (1 + run.epoch)

    pv.fit(pv.ElboLoss(*vae()), data(18), epochs=5, hooks=[change], compile="on")
    assert (
        len(found) == 4
        and len(warnings_of(caplog)) == 1
        and "from epoch to epoch" in warnings_of(caplog)[0]
    )


# --- compiled
# -------------------------------------------------------------------------------------------------------

MODELS = {
    "vae": lambda: pv.ElboLoss(*vae()),
    "dreg": LOSSES["IWAE, dreg"],
    "bnn": bnn,
    "stacked": stacked,
    "noisy": LOSSES["dropout, batch norm, buffers"],
}


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="older compilers draw in another order, or give up",
)
@pytest.mark.parametrize("name", MODELS)
def test_compiled_gradients_and_training_equal_eager_ones(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In float32: gradients within 1e-6 relative to the largest, 60 steps within what rounding
    makes of them."""
    torch.set_default_dtype(torch.float32)
    batch = {"x": X.float(), "y": Y} if name in ("bnn", "stacked") else {"x": X.float()}
    loss = MODELS[name]()
    program = program_of(loss, batch)
    replay, values = Captured(program, batch, modules=[loss]), []
    for run in (program, replay):
        torch.manual_seed(1)
        with torch.no_grad():
            value, gradients = run(batch)
        values.append([value, *gradients])
    largest = max(one.abs().max() for one in values[0])
    for one, another in zip(*values):
        assert (one - another).abs().max() <= 1e-6 * largest
    ends = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        loss = MODELS[name]()
        ends.append(pv.fit(loss, [batch] * 20, epochs=3, lr=1e-2, compile=mode)["loss"])
    torch.testing.assert_close(torch.tensor(ends[1]), torch.tensor(ends[0]), rtol=1e-3, atol=1e-4)
    assert not warnings_of(caplog)


def test_either_route_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    net = nn.Linear(5, 3)
    programs = {
        "addmm": lambda batch: net(batch["x"]).detach(),
        "mm": lambda batch: batch["x"] @ net.weight.detach().t(),
    }
    for name, program in programs.items():
        for faster in (False, True):
            monkeypatch.setattr("pyrovae.capture.onednn.onednn_is_faster", lambda *layout: faster)
            replay = Captured(program, {"x": torch.rand(7, 5)}, modules=[net])
            x = torch.rand(7, 5)
            torch.testing.assert_close(replay({"x": x}), program({"x": x}))


def test_the_measurement_of_routes_disturbs_nothing() -> None:
    from pyrovae.capture.onednn import onednn_is_faster

    before = torch.get_rng_state()
    assert onednn_is_faster(((64, 32), (32, 1)), ((32, 16), (1, 32)), True, 1) in (True, False)
    assert torch.equal(torch.get_rng_state(), before)


# --- evidence and prediction
# ----------------------------------------------------------------------------------------


def captures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    found: list[None] = []
    monkeypatch.setattr(
        "pyrovae.capture.auto.Captured",
        lambda *args, **kwargs: found.append(None) or Captured(*args, **kwargs),
    )
    return found


@pytest.mark.parametrize("num_particles, chunk", [(40, 500), (600, 100)])
def test_captured_evidence_is_the_same(
    num_particles: int, chunk: int, monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    model, guide = vae()
    found, results = captures(monkeypatch), []
    for mode in ("off", "on"):
        torch.manual_seed(0)
        results.append(
            pv.log_evidence(
                model,
                guide,
                {"x": torch.cat([X] * 12)},
                num_particles=num_particles,
                chunk=chunk,
                compile=mode,
            )
        )
    assert found and torch.equal(results[0].log_px, results[1].log_px)
    assert torch.equal(results[0].khat, results[1].khat)


def test_captured_evidence_refuses_data_outside_the_support(uncompiled: None) -> None:
    model, guide = vae()
    with pytest.raises(pv.PairError, match="grey values"):
        pv.log_evidence(model, guide, [{"x": X}, {"x": 0.5 * X}], num_particles=400, compile="on")


@pytest.mark.parametrize("from_guide", [False, True])
def test_captured_chains_go_the_same_way(
    from_guide: bool, monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    model, guide = vae()
    found, results = captures(monkeypatch), []
    monkeypatch.setattr("pyrovae.evidence.runtime.ROWS", 16)
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    for mode in ("off", "on"):
        torch.manual_seed(0)
        results.append(
            annealed_importance(
                model,
                {"x": X},
                guide=guide if from_guide else None,
                num_chains=4,
                num_steps=5,
                num_leapfrog=2,
                compile=mode,
            ).log_px
        )
    assert found and torch.equal(*results)


def test_captured_chains_go_the_same_way_back(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    model, _ = vae()
    found, results = captures(monkeypatch), []
    monkeypatch.setattr("pyrovae.evidence.runtime.ROWS", 16)
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    for mode in ("off", "on"):
        torch.manual_seed(0)
        results.append(
            bidirectional(model, 5, num_chains=4, num_steps=5, num_leapfrog=2, compile=mode).upper
        )
    assert found and torch.equal(*results)


def test_guides_that_adapt_to_data_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    model, guide = vae()
    found = captures(monkeypatch)
    pv.log_evidence(
        model, SemiAmortized(guide, model, steps=1), {"x": X}, num_particles=5, compile="on"
    )
    assert not found


@pytest.mark.parametrize(
    "guide", [MeanField, PointEstimate, lambda model: MCDropout(model, 0.2), Radial]
)
def test_captured_predictions_are_the_same(
    guide: Callable, monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    loss, found = bnn(guide), captures(monkeypatch)
    monkeypatch.setattr("pyrovae.prediction.chunked_draws.ROWS", 60)
    batch, results = {"x": X, "y": Y}, []
    for mode in ("off", "on"):
        torch.manual_seed(0)
        moments = pv.predict_moments(loss.model, loss.guide, batch, num_samples=7, compile=mode)
        torch.manual_seed(1)  # the targets that only the program draws
        results.append(
            [
                pv.log_predictive(loss.model, loss.guide, batch, num_samples=7, compile=mode),
                moments.mean,
                moments.aleatoric,
                moments.epistemic,
            ]
        )
    assert len(found) == 2
    for one, another in zip(*results):
        assert torch.equal(one, another)
    with pv.LocalReparameterization():
        pv.log_predictive(loss.model, loss.guide, batch, num_samples=7, compile="on")
    assert len(found) == 2, "what follows tensors by identity is not captured"


def test_auto_captures_what_took_long(monkeypatch: pytest.MonkeyPatch, uncompiled: None) -> None:
    model, guide = vae()
    found = captures(monkeypatch)
    data = [{"x": X}] * 40
    plain = pv.log_evidence(model, guide, data, num_particles=500)
    assert not found
    monkeypatch.setattr("pyrovae.capture.auto.PATIENCE", 0.0)
    pv.log_evidence(model, guide, data, num_particles=500)
    assert found and plain.log_px.shape == (480,)


def test_modes_of_compiling_are_named() -> None:
    model, guide = vae()
    for call in (
        lambda: pv.fit(pv.ElboLoss(model, guide), {"x": X}, epochs=1, compile="yes"),
        lambda: pv.log_evidence(model, guide, {"x": X}, num_particles=2, compile="yes"),
    ):
        with pytest.raises(ValueError, match="expected one of auto, on, off"):
            call()


# --- without waiting for a device
# -----------------------------------------------------------------------------------


def deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps as they are on CUDA."""
    from pyrovae.training.captured_stepper import CapturedSteps

    begin = CapturedSteps.__init__

    def patched(self: CapturedSteps, *args: object, **kwargs: object) -> None:
        begin(self, *args, **kwargs)
        self.deferred = True

    monkeypatch.setattr(CapturedSteps, "__init__", patched)


def test_steps_that_do_not_wait_train_the_same(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    ends = []
    for wait in (True, False):
        if not wait:
            deferred(monkeypatch)
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae())
        pv.fit(
            loss,
            data(),
            epochs=3,
            compile="on",
            hooks=[lambda run: run.epoch != 2 or run.optimizer.state.clear()],
            schedule=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1),
        )
        ends.append([parameter.detach().clone() for parameter in loss.parameters()])
    for one, another in zip(*ends):
        assert torch.equal(one, another)


def test_a_bad_step_that_nobody_waited_for_moves_nothing(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None
) -> None:
    deferred(monkeypatch)
    loss, spoiled = pv.ElboLoss(*vae()), [{"x": X}] * 3

    class Spoil:
        def __iter__(self) -> object:
            yield from spoiled

    def spoil(run: object) -> None:
        if run.epoch == 1:
            spoiled[1:2] = [{"x": X * torch.nan}]

    with pytest.raises(pv.NonFiniteLossError, match="epoch 2, batch 1"):
        pv.fit(loss, Spoil(), epochs=4, compile="on", hooks=[spoil])
    spoiled[1:2] = [{"x": X}]

    def grey(run: object) -> None:
        spoiled[2:3] = [{"x": 0.5 * X}]

    with pytest.raises(pv.PairError, match="batch 2 of the epoch holds data outside the support"):
        pv.fit(pv.ElboLoss(*vae()), Spoil(), epochs=3, compile="on", hooks=[grey])
    assert all(parameter.isfinite().all() for parameter in loss.parameters())


def test_a_recorded_graph_leaves_no_trace_of_its_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With CUDA's calls played by others: what is copied where, and when the graph is made anew."""
    from types import SimpleNamespace

    from pyrovae.capture import cuda_graph

    record_cuda_graph, updates = [], []

    def play(graph: SimpleNamespace) -> None:
        epilogue, results = next(
            (epilogue, results)
            for epilogue, (known, results) in replayed.graphs.items()
            if known is graph
        )
        results[0].copy_(run(*replayed.fixed)[0])
        if epilogue is not None:
            epilogue(results)

    def graph() -> SimpleNamespace:
        record_cuda_graph.append(None)
        made = SimpleNamespace(replay=lambda: play(made))
        return made

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fake = SimpleNamespace(
        CUDAGraph=graph,
        Stream=lambda: stream,
        current_stream=lambda: stream,
        graph=lambda g: nullcontext(),
        stream=lambda s: nullcontext(),
        get_rng_state=lambda device: torch.get_rng_state(),
        set_rng_state=lambda state, device: torch.set_rng_state(state),
    )
    monkeypatch.setattr(cuda_graph.torch, "cuda", fake)
    count, weight = torch.zeros(()), torch.ones(3)

    def run(x: Tensor, count: Tensor, weight: Tensor) -> list[Tensor]:
        count += 1
        return [x * weight + 0 * torch.rand(3)]

    replayed, x = cuda_graph.CudaGraphRunner(run, 1), torch.rand(3)
    before = torch.get_rng_state()
    assert torch.equal(replayed(x, count, weight)[0], x) and len(record_cuda_graph) == 1
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    (
        torch.rand(3),
        torch.rand(3),
    )  # the replay's, and that of the recording, which on CUDA draws nothing
    assert int(count) == 2 and torch.equal(torch.get_rng_state(), after)
    assert torch.equal(replayed(2 * x, count, weight)[0], 2 * x) and len(record_cuda_graph) == 1
    weight = 3 * weight
    assert torch.equal(replayed(x, count, weight)[0], 3 * x) and len(record_cuda_graph) == 2
    first, second = (
        (lambda leaves: updates.append("first")),
        (lambda leaves: updates.append("second")),
    )
    for epilogue, expected in (
        (first, ["first"]),
        (first, ["first"]),
        (None, []),
        (first, ["first"]),
        (second, ["second"]),
    ):
        updates.clear()
        assert (
            torch.equal(replayed(2 * x, count, weight, epilogue=epilogue)[0], 6 * x)
            and updates[-1:] == expected
        )
    assert len(record_cuda_graph) == 4 and len(replayed.graphs) == 2
