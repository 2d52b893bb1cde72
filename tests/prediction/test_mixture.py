"""The predictive mixture of a regression net, against the mixture's own formulas and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, MeanField, PointEstimate
from pyrovae.heads import CategoricalHead, NormalHead
from pyrovae.prediction.mixture import NormalMixture, fit_width, predict_mixtures


def some_mixture() -> NormalMixture:
    loc = torch.randn(7, 4, 2) * 3
    return NormalMixture(loc, torch.rand(7, 4, 2) + 0.05)


def test_moments_are_those_of_the_mixture() -> None:
    mixture = some_mixture()
    loc, scale = mixture.loc.numpy(), mixture.scale.numpy()
    second = (scale**2 + loc**2).mean(0)  # E[y^2] of a mixture
    assert np.allclose(mixture.mean, loc.mean(0), atol=1e-12)
    total = mixture.aleatoric + mixture.epistemic
    assert np.allclose(total, second - loc.mean(0) ** 2, atol=1e-12)


@pytest.mark.parametrize("p", [1e-4, 0.05, 0.5, 0.95])
def test_quantiles_invert_the_cdf(p: float) -> None:
    mixture = some_mixture()
    found = mixture.quantile(p)
    for index in np.ndindex(4, 2):
        loc, scale = (part[(slice(None), *index)].numpy() for part in (mixture.loc, mixture.scale))
        exact = brentq(
            lambda y: norm.cdf(y, loc, scale).mean() - p,  # noqa: B023
            -40,
            40,
            xtol=1e-13,
        )
        assert found[index].item() == pytest.approx(exact, abs=1e-9)
    assert torch.allclose(mixture.cdf(found), torch.full((4, 2), p), atol=1e-12)


def test_one_component_is_a_normal() -> None:
    mixture = NormalMixture(torch.tensor([[2.0]]), torch.tensor([[3.0]]))
    assert mixture.quantile(0.9).item() == pytest.approx(norm.ppf(0.9, 2, 3), abs=1e-12)
    assert mixture.epistemic.item() == 0
    for p in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            mixture.quantile(p)


def test_a_nets_mixture_has_its_moments_and_density() -> None:
    net = pv.Bayesian(nn.Linear(3, 2))
    model = pv.Model(y=pv.Node(NormalHead(net), "x"))
    weights = PointEstimate(net).values()
    guide = Empirical({name: torch.randn(50, *value.shape) for name, value in weights.items()})
    batch = {"x": torch.randn(20, 3), "y": torch.randn(20, 1)}
    moments = pv.predict_moments(model, guide, batch, num_samples=50)
    (mixture,) = predict_mixtures(model, guide, batch, num_samples=50, read=lambda found: found)
    assert mixture.loc.shape == (50, 20, 1)
    for name in ("mean", "aleatoric", "epistemic"):
        assert torch.allclose(getattr(mixture, name), getattr(moments, name), atol=1e-10), name
    density = pv.log_predictive(model, guide, batch, num_samples=50)
    each = torch.distributions.Normal(mixture.loc, mixture.scale).log_prob(batch["y"]).sum(-1)
    assert torch.allclose(density, each.logsumexp(0) - np.log(50), atol=1e-10)


def test_other_sites_are_refused() -> None:
    net = pv.Bayesian(nn.Linear(3, 4))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    with pytest.raises(pv.PairError, match="is a Categorical"):
        predict_mixtures(
            model, MeanField(net), {"x": torch.zeros(2, 3)}, num_samples=2, read=lambda found: 0
        )


def test_deviations_from_the_mean_are_widened_by_the_factor_that_fits() -> None:
    mixture = NormalMixture(torch.randn(5, 400, 1), torch.rand(5, 400, 1) + 0.5)
    index = torch.randint(5, (1, 400, 1))
    y = mixture.loc.gather(0, index)[0] + mixture.scale.gather(0, index)[0] * torch.randn(400, 1)
    wide = mixture.widened(2.0)
    assert torch.allclose(wide.mean, mixture.mean)
    total = [part.aleatoric + part.epistemic for part in (wide, mixture)]
    assert torch.allclose(total[0], 4 * total[1])
    assert torch.allclose(
        wide.quantile(0.3) - wide.mean, 2 * (mixture.quantile(0.3) - mixture.mean)
    )
    first, grid = NormalMixture(wide.loc[:, :1], wide.scale[:, :1]), torch.linspace(-30, 30, 4001)
    mass = torch.trapezoid(first.log_prob(grid[:, None]).exp()[:, 0], grid)
    assert mass == pytest.approx(1.0, abs=1e-6)
    factor = fit_width(wide, y)
    assert 0.42 < factor < 0.58  # twice too wide
    around = [wide.widened(by * factor).log_prob(y).mean() for by in (0.99, 1.0, 1.01)]
    assert max(around) == around[1]


@pytest.mark.parametrize("y", [torch.zeros(3), torch.full((3, 1), math.nan)])
def test_a_width_wants_finite_targets_of_the_mixture(y: Tensor) -> None:
    with pytest.raises(ValueError, match="expected \\(3, 1\\)"):
        fit_width(NormalMixture(torch.zeros(2, 3, 1), torch.ones(2, 3, 1)), y)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 3, 1)])
def test_targets_of_another_shape_do_not_broadcast(shape: tuple[int, ...]) -> None:
    mixture = NormalMixture(torch.zeros(2, 3, 1), torch.ones(2, 3, 1))
    for ask in (mixture.log_prob, mixture.cdf):
        with pytest.raises(ValueError, match="expected \\(3, 1\\)"):
            ask(torch.zeros(shape))
        assert ask(torch.zeros(3, 1)).shape == ask(torch.tensor(0.0)).shape == (3, 1)
