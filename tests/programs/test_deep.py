"""A deep hierarchy by wiring: its pair, its shapes, its steps, and what it must equal."""

import dataclasses
import math

import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.traces import run_guide
from pyrovae.heads import LearnedScaleNormalHead, NormalHead
from pyrovae.posteriors import ResidualNormal
from pyrovae.priors import StandardNormal
from pyrovae.recipes.deep_vae import Hierarchy, deep_vae
from pyrovae.recipes.image_likelihoods import Bits, ImageLikelihood, Levels, RealPixels

TINY = Hierarchy((1, 2), (6, 8), latents=2)


def pair(
    hierarchy: Hierarchy = TINY,
    shape: tuple[int, ...] = (1, 7, 6),
    likelihood: ImageLikelihood | None = None,
) -> tuple[pv.Model, pv.Guide, Tensor]:
    """With 5 data of mean one half."""
    likelihood = likelihood or Bits()
    torch.manual_seed(0)
    model, guide = deep_vae(shape, hierarchy, likelihood)
    return model, guide, torch.bernoulli(torch.full((5, *shape), 0.5))


def test_the_pair_is_sound_and_latents_lie_in_space() -> None:
    model, guide, x = pair()
    pv.check(model, guide, {"x": x})
    z = {name: tuple(value.shape) for name, value in guide(x=x).items()}
    assert z == {"z1": (5, 2, 2, 2), "z2": (5, 2, 2, 2), "z3": (5, 2, 4, 3)}
    assert model(num=3)["x"].shape == (3, 1, 7, 6)
    assert pv.log_weights(model, guide, {"x": x}, 4).shape == (4, 5)
    assert pv.log_evidence(model, guide, {"x": x}, num_particles=20).log_px.shape == (5,)


def test_particles_are_computed_as_they_would_be_alone() -> None:
    model, guide, x = pair()
    guide_trace = run_guide(guide, {"x": x}, 3)
    z = {name: guide_trace.nodes[name]["value"] for name in ("z1", "z2", "z3")}
    together = model.nodes["x"](_states(model, z)).mean
    assert together.shape == (3, 5, 1, 7, 6)
    for k in range(3):
        one = {name: value[k] for name, value in z.items()}
        torch.testing.assert_close(model.nodes["x"](_states(model, one)).mean, together[k])


def _states(model: pv.Model, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The latents with the states that the model computes from them."""
    values = dict(values)
    for name, node in model.nodes.items():
        if isinstance(node, pv.Value):
            values[name] = node(values)
    return values


def test_every_parameter_gets_a_gradient() -> None:
    model, guide, x = pair(dataclasses.replace(TINY, cells=2))
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    loss(x=x).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_datum_does_not_depend_on_its_neighbours() -> None:
    model, guide, x = pair()
    together = guide.nodes["z1"]({"h2": _features(guide, x)}).base_dist.loc
    alone = [guide.nodes["z1"]({"h2": _features(guide, row)}).base_dist.loc for row in x.split(1)]
    torch.testing.assert_close(torch.cat(alone), together)


def _features(guide: pv.Guide, x: Tensor) -> Tensor:
    return guide.nodes["h2"]({"h1": guide.nodes["h1"]({"x": x})})


@pytest.mark.usefixtures("uncompiled")
def test_captured_and_eager_steps_agree() -> None:
    histories = []
    for compile in ("off", "on"):
        model, guide, x = pair(Hierarchy((1, 1), (2, 2), latents=1))
        loss = pv.ElboLoss(
            model, guide, elbo=TraceMeanField_ELBO(), beta=pv.LinearWarmup(4), free_bits=0.01
        )
        torch.manual_seed(1)
        histories.append(
            pv.fit(loss, [{"x": x}], epochs=4, clip_norm=10.0, compile=compile)["loss"]
        )
    assert histories[0] == pytest.approx(histories[1], rel=1e-9)


def test_a_guide_without_differences_has_no_kl() -> None:
    model, guide, x = pair()
    for name in ("z1", "z2", "z3"):
        last = guide.nodes[name].conditional.net.net.both.net[-1]
        nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    value = loss(x=x)
    assert {name: kl.item() for name, kl in loss.terms.kl.items()} == {"z1": 0, "z2": 0, "z3": 0}
    assert value == -loss.terms.reconstruction


def test_it_learns_what_two_patterns_cost() -> None:
    """Of two patterns one is drawn: log p(x) rises towards -log 2, from -64 log 2."""
    patterns = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    model, guide, _ = pair(Hierarchy((1, 1), (8, 8), latents=1), (1, 8, 8))
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO(), beta=pv.LinearWarmup(50))
    x = patterns.repeat(5, 1, 1, 1)
    pv.fit(loss, [{"x": x}], epochs=150, lr=1e-2, clip_norm=100.0, compile="off")
    found = pv.log_evidence(model, guide, {"x": patterns}, num_particles=200)
    assert -math.log(2) - 2.0 < found.mean < -math.log(2) + 0.1


@pytest.mark.parametrize("likelihood", [Levels(256, num_components=2), RealPixels()])
def test_colour_images_of_32_pixels(likelihood: ImageLikelihood) -> None:
    model, guide, x = pair(Hierarchy((0, 1, 1), (4, 4, 8), latents=2), (3, 32, 32), likelihood)
    if isinstance(likelihood, Levels):
        x = 255 * x
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    history = pv.fit(loss, [{"x": x[:2]}], epochs=3, lr=1e-2, compile="off")
    assert history["loss"][-1] < history["loss"][0]
    assert guide(x=x)["z2"].shape == (5, 2, 8, 8)


@pytest.mark.parametrize("levels, channels", [((1, 0), (4, 4)), ((1,), (4, 4)), ((), ())])
def test_hierarchies_without_a_top_are_refused(levels: tuple, channels: tuple) -> None:
    with pytest.raises(ValueError, match="the coarsest resolution"):
        Hierarchy(levels, channels)


class Exact(nn.Module):
    """The differences from p(z2 | z1) that make q(z2 | x, z1) the exact posterior of a line of
    normals."""

    def __init__(self, weights: tuple[float, float, float]) -> None:
        super().__init__()
        self.gain, self.noise, self.step = weights

    def forward(self, x: Tensor, *above: Tensor) -> Tensor:
        gain, noise = self.gain, self.noise
        if not above:  # q(z1 | x): x = gain z2 + noise e, z2 = z1 + step e
            variance = (gain * self.step) ** 2 + noise**2
            precision = 1 + gain**2 / variance
            loc, scale = gain * x / variance / precision, precision**-0.5
            return torch.cat([loc, torch.full_like(x, math.log(scale))], -1)
        (z,) = above
        precision = 1 / self.step**2 + (gain / noise) ** 2
        loc = (z / self.step**2 + gain * x / noise**2) / precision
        ratio = precision**-0.5 / self.step
        d = (loc - z) / self.step
        return torch.cat([d, torch.full_like(d, math.log(ratio))], -1)


def test_two_levels_of_normals_reach_the_exact_evidence() -> None:
    """z1 ~ N(0, 1), z2 = z1 + 0.7 e, x = 1.5 z2 + 0.4 e: with the exact posterior every log-weight
    is log N(x; 0, 1.5^2 (1 + 0.7^2) + 0.4^2)."""
    gain, noise, step = 1.5, 0.4, 0.7
    line = nn.Linear(1, 1, bias=False)
    nn.init.constant_(line.weight, gain)
    prior = NormalHead(_Spread(step))
    net = Exact((gain, noise, step))
    model = pv.Model(
        z1=StandardNormal(1),
        z2=pv.Node(prior, "z1"),
        x=pv.Node(LearnedScaleNormalHead(line, initial_scale=noise), "z2"),
    )
    guide = pv.Guide(
        z1=pv.Node(ResidualNormal(net, StandardNormal(1)), "x"),
        z2=pv.Node(ResidualNormal(net, prior), "x", "z1"),
    )
    x = torch.linspace(-3, 3, 7).unsqueeze(-1)
    variance = gain**2 * (1 + step**2) + noise**2
    exact = torch.distributions.Normal(0.0, variance**0.5).log_prob(x).squeeze(-1)
    torch.testing.assert_close(pv.log_weights(model, guide, {"x": x}, 4), exact.expand(4, 7))


class _Spread(nn.Module):
    """(z, log step) from z."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, torch.full_like(z, math.log(self.step))], -1)
