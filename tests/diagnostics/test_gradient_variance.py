"""Gradient noise: measured right, without a trace, and what the reparameterisation trick is for."""

import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.losses import Lagging
from pyrovae.nets import MLP
from pyrovae.posteriors import NonReparameterized
from pyrovae.priors import StandardNormal

X = torch.eye(3, dtype=torch.float64)[torch.arange(30) % 3].repeat_interleave(32, dim=1)


class Noisy(nn.Module):
    """(a e) w with e ~ N(0, 1): a gradient of mean zero and variance a^2."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (x.mean(0) * torch.randn(3) * self.w).sum()


def test_moments_are_those_of_the_noise() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    mean, variance = gradient_moments(Noisy(), {"x": x}, num_draws=4000)["w"]
    scale = x[0]
    assert ((mean / scale).abs() < 5 / 4000**0.5).all()
    assert ((variance / scale**2 - 1).abs() < 5 * 2**0.5 / 4000**0.5).all()


def test_no_trace_is_left() -> None:
    loss = Noisy()
    loss.w.grad = torch.ones(3)
    state = torch.get_rng_state()
    first, second = (
        gradient_moments(loss, {"x": torch.ones(1, 3)}, num_draws=5)["w"] for _ in range(2)
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(torch.get_rng_state(), state) and loss.calls == 0 and loss.training
    assert torch.equal(loss.w, torch.ones(3)) and torch.equal(loss.w.grad, torch.ones(3))
    with pytest.raises(ValueError, match="num_draws=1"):
        gradient_moments(loss, {"x": torch.ones(1, 3)}, num_draws=1)


def nets() -> tuple[pv.Model, nn.Module]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 96)), "z"))
    return model, NormalHead(MLP(96, [8], 4))


def test_a_warm_up_stands_still_and_a_lagging_model_has_no_noise() -> None:
    model, encoder = nets()
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    warm = pv.ElboLoss(model, guide, beta=pv.LinearWarmup(3))
    zero = pv.ElboLoss(model, guide, beta=0.0)
    for name, (mean, variance) in gradient_moments(warm, {"x": X}, num_draws=10).items():
        torch.testing.assert_close(
            (mean, variance), gradient_moments(zero, {"x": X}, num_draws=10)[name]
        )
    loss = Lagging(zero, guide_steps=2)
    loss.step += 1
    moments = gradient_moments(loss, {"x": X}, num_draws=3)
    assert all(
        (part == 0).all() for name, parts in moments.items() for part in parts if ".model." in name
    )
    assert any((variance > 0).any() for _, variance in moments.values())


def test_the_reparameterisation_trick_is_worth_orders_of_magnitude() -> None:
    model, encoder = nets()
    pathwise = pv.ElboLoss(model, pv.Guide(z=pv.Node(encoder, "x")))
    pv.fit(pathwise, [{"x": X}], epochs=20, lr=1e-2)
    score = pv.ElboLoss(model, pv.Guide(z=pv.Node(NonReparameterized(encoder), "x")))
    draws = 600
    first, second = (gradient_moments(loss, {"x": X}, draws) for loss in (pathwise, score))
    totals, z = [0.0, 0.0], []
    for name, (mean, variance) in first.items():
        other, other_variance = second[
            name.replace("conditional.", "conditional.conditional.", 1)
            if name.startswith("guide")
            else name
        ]
        error = ((variance + other_variance) / draws).sqrt()
        z.append(((mean - other) / error)[error > 0].flatten())
        if name.startswith("guide"):
            totals = [totals[0] + variance.sum(), totals[1] + other_variance.sum()]
    z = torch.cat(z)
    assert z.abs().mean() < 1.5 and z.abs().max() < 5, "one expectation"
    assert totals[1] > 100 * totals[0], "two variances"
