"""Families on densities in two dims, and beliefs about two weights, against closed forms."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pyrovae.recipes.variational.families import FAMILIES, density, fit_family
from pyrovae.recipes.variational.targets import TARGETS, correlated, two_modes
from pyrovae.recipes.variational.weights import believe, exact, line_data


@pytest.fixture(autouse=True)
def single() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_normalised_and_draws_follow_them(name: str) -> None:
    reach, points = 9.0, 901
    p = density(TARGETS[name](), reach, points).double()
    cell = (2 * reach / (points - 1)) ** 2
    assert p.sum() * cell == pytest.approx(1.0, abs=1e-3)
    line = torch.linspace(-reach, reach, points).double()
    draws = TARGETS[name]().sample(torch.Size([20_000])).double()
    for dim, marginal in enumerate((p.sum(0), p.sum(1))):
        mean = (marginal * line).sum() * cell
        spread = draws[:, dim].std() / len(draws) ** 0.5
        assert abs(draws[:, dim].mean() - mean) < 5 * spread


def test_normal_families_reach_their_optimum_on_a_normal() -> None:
    """The best mean field has KL -log(1 - rho^2) / 2 in both directions, with variances 1 - rho^2 of
    the reverse and 1 of the forward one; the full rank has none."""
    best = -0.5 * math.log(1 - 0.9**2)
    for direction, variance in (("reverse", 0.19), ("forward", 1.0)):
        fit = fit_family(
            correlated, FAMILIES["mean field"], direction=direction, epochs=30, lr=0.1
        )
        kl, se = getattr(fit, direction)
        assert abs(kl - best) < 5 * se + 0.02
        found = fit.family.log_scale.detach().mul(2).exp()
        assert found.tolist() == pytest.approx([variance] * 2, rel=0.1)
        full = fit_family(
            correlated, FAMILIES["full rank"], direction=direction, epochs=30, lr=0.1
        )
        assert abs(getattr(full, direction)[0]) < 0.02
    assert fit.path.shape == (31, 2) and fit.path[0, 0] < -2 and fit.path[-1].abs().max() < 0.2


def test_one_direction_finds_a_mode_and_the_other_covers_both() -> None:
    reverse, forward = (
        fit_family(two_modes, FAMILIES["full rank"], direction=direction, epochs=30, lr=0.1)
        for direction in ("reverse", "forward")
    )
    assert reverse.reverse[0] == pytest.approx(math.log(2), abs=0.05)
    assert reverse.path[-1].abs().min() > 1.0 and forward.path[-1].abs().max() < 0.2
    assert forward.forward[0] < reverse.forward[0] - 1 and reverse.reverse[0] < forward.reverse[0]


def test_beliefs_are_those_of_conjugate_regression() -> None:
    x, y = line_data(10, 0)
    found = believe(x, y, epochs=40)
    posterior = MultivariateNormal(*found.exact)
    full = MultivariateNormal(*found.families["full rank"])
    assert kl_divergence(full, posterior) < 0.1
    precision = torch.linalg.inv(found.exact.covariance)
    narrow = found.families["mean field"].covariance.diagonal()
    assert narrow.tolist() == pytest.approx((1 / precision.diagonal()).tolist(), rel=0.15)
    assert found.elbos["mean field"] < found.elbos["full rank"] <= found.evidence
    points = torch.randn(200_000, 2)  # the evidence is the likelihood's mean under the prior
    lines = points[:, :1] + points[:, 1:] * x.T
    log_likelihood = torch.distributions.Normal(lines, 0.3).log_prob(y.T).sum(1)
    sampled = log_likelihood.logsumexp(0) - math.log(len(points))
    assert float(sampled) == pytest.approx(exact(x, y)[1], abs=0.05)
