"""What changes between epochs is seen even if it makes no difference at first."""

import pyro
import pytest
import torch
from objective_cases import X, vae
from test_capture import data, warnings_of
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.capture.graph import Captured
from pyrovae.training.captured_stepper import RENEWALS


class Limited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.limit, self.note = nn.Parameter(torch.zeros(4)), 100.0, 0
        self.table = {"array": torch.arange(4.0).numpy()}
        self.register_buffer("mask", torch.tensor([True, True, False, True]))

    def forward(self, x: Tensor) -> Tensor:
        kept = self.weight[self.mask.nonzero().squeeze(-1)]
        scale = torch.tensor(self.limit)
        return (kept.clamp(max=self.limit) - x.mean() - 2).square().sum() + 0 * scale


def ends(mode: str, hook: object, epochs: int = 6) -> list[list[float]]:
    pyro.set_rng_seed(0)
    limited = Limited()

    def change(run: object) -> None:
        hook(limited, run.epoch)

    pv.fit(limited, [{"x": X}] * 10, epochs=epochs, lr=0.1, hooks=[change], compile=mode)
    return limited.weight.tolist()


def test_a_limit_that_binds_later_is_seen(uncompiled: None) -> None:
    def lower(limited: Limited, epoch: int) -> None:
        if epoch == 1:
            limited.limit = 1.5

    off, on = ends("off", lower), ends("on", lower)
    assert on == off != ends("off", lambda limited, epoch: None)


@pytest.mark.filterwarnings("ignore::pyrovae.core.errors.CollapseWarning")
def test_free_bits_that_bind_later_are_seen(uncompiled: None) -> None:
    def run(mode: str, bits: float = 1.0) -> list[float]:
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae(), free_bits=1e-3)
        with torch.no_grad():  # a KL far above
            list(loss.guide.parameters())[-1].add_(2)

        def raise_bits(run: object) -> None:
            if run.epoch == 1:
                loss.free_bits = bits

        return pv.fit(loss, data(), epochs=12, lr=0.05, hooks=[raise_bits], compile=mode)["kl"]

    off = run("off")
    assert run("on") == off and off[1] > 1.5 and off[-1] != run("off", 1e-3)[-1]


def test_changes_that_no_program_reads_are_no_renewal(
    uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(
        "pyrovae.training.captured_step.Captured",
        lambda *args, **kwargs: found.append(None) or Captured(*args, **kwargs),
    )

    def note(limited: Limited, epoch: int) -> None:
        limited.note = epoch
        limited.table["array"][0] += 1

    assert ends("on", note, RENEWALS + 3) == ends("off", note, RENEWALS + 3)
    assert len(found) == 1


@pytest.mark.parametrize("change", ["number", "scalar tensor", "tensor", "part", "mask"])
def test_recordings_tell_programs_apart(change: str) -> None:
    limited = Limited()
    limited.offset = torch.ones(4)
    limited.last = nn.Identity()

    def program(batch: dict[str, Tensor]) -> Tensor:
        factor = torch.tensor(limited.note)
        return limited.last(limited(**batch) + factor + limited.offset.sum()).detach()

    captured = Captured(program, {"x": X}, modules=[limited], compiled=False)
    assert captured.records_the_same()
    if change == "number":
        limited.limit = 99.0
    elif change == "scalar tensor":
        limited.note = 1
    elif change == "tensor":
        limited.offset = limited.offset.clone()
    elif change == "part":
        limited.last = nn.Tanh()
    else:
        limited.mask[0] = False
    assert not captured.records_the_same()


def stop(weight: Tensor) -> None:
    weight.grad.zero_()


def test_a_hook_after_the_accumulation_ends_replays_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)

    def run(mode: str) -> list[float]:
        pyro.set_rng_seed(0)
        loss = pv.ElboLoss(*vae())

        def freeze(run: object) -> None:
            if run.epoch == 2:
                next(loss.parameters()).register_post_accumulate_grad_hook(stop)

        return pv.fit(loss, data(), epochs=5, lr=0.05, hooks=[freeze], compile=mode)["loss"]

    assert run("on") == run("off")
    (message,) = warnings_of(caplog)
    assert "uncompiled" in message and "hooks after the accumulation" in message
