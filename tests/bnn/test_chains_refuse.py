"""What all samplers of chains say of data and losses that do not fit."""

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import NUTS, RandomWalkKernel
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, MeanField, PointEstimate
from pyrovae.bnn.samplers import (
    Chains,
    Gibbs,
    chees,
    hmc,
    mcmc,
    noise_variance,
    nuts,
    random_walk,
    stacked_nuts,
)
from pyrovae.heads import FixedScaleNormalHead

FEW = {"num_samples": 1, "warmup": 0}


def line() -> pv.Model:
    net = pv.Bayesian(nn.Linear(1, 1))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))


def loss() -> pv.ElboLoss:
    model = line()
    return pv.ElboLoss(model, PointEstimate(model), num_data=6)


def stacked(run: Callable[..., Chains]) -> Callable[[dict], Chains]:
    losses = pv.Stacked([loss(), loss()], shared=True)
    return lambda data: run(losses, data, num_data=6, **FEW)


RUNS = {
    "nuts": lambda data: nuts(line(), data, **FEW),
    "chees": lambda data: chees(line(), data, **FEW),
    "mcmc": lambda data: mcmc(line(), data, RandomWalkKernel, **FEW),
    "stacked_nuts": stacked(stacked_nuts),
    "hmc": stacked(hmc),
    "random_walk": stacked(random_walk),
}
X = torch.linspace(-1.0, 1.0, 6).unsqueeze(-1)


@pytest.mark.parametrize("name", RUNS)
def test_targets_that_would_be_broadcast(name: str) -> None:
    """Targets (6,) for outputs (6, 1): all of them for each datum."""
    with pytest.raises(pv.PairError, match="which would be broadcast"):
        RUNS[name]({"x": X, "y": X[:, 0]})


@pytest.mark.parametrize("sampler", [nuts, chees])
def test_targets_of_a_program_by_hand(sampler: Callable[..., Chains]) -> None:
    """Outputs (6, 1) without an event dimension in a plate of 6: 36 scores."""

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 6):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    with pytest.raises(pv.PairError, match="each of 6 data would be scored 6 times"):
        sampler(model, {"x": X, "y": X[:, 0]}, **FEW)
    with pytest.raises(pv.PairError, match="would be scored 6 times"):
        mcmc(model, {"x": X, "y": X[:, 0]}, RandomWalkKernel, **FEW)
    sampler(model, {"x": X[:, 0], "y": X[:, 0]}, **FEW)


def test_log_predictive_refuses_them_too() -> None:
    draws = Empirical({"w.weight": torch.ones(3, 1, 1), "w.bias": torch.zeros(3, 1)})
    with pytest.raises(pv.PairError, match="which would be broadcast"):
        pv.log_predictive(line(), draws, {"x": X, "y": X[:, 0]}, num_samples=3)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numpy_data_of_any_precision(name: str, kind: type) -> None:
    chains = RUNS[name]({"x": X.numpy().astype(kind), "y": X.numpy().astype(kind)})
    assert chains.draws["w.weight"].shape[0] == 1


def test_what_is_no_stack_of_point_estimates() -> None:
    data, model = {"x": X, "y": X}, line()
    for wrong in (loss(), [loss()]):
        with pytest.raises(TypeError, match=r"expected Stacked\(\[loss, ...\]\)"):
            stacked_nuts(wrong, data, num_data=6, **FEW)
    apart = pv.Stacked([loss() for _ in range(6)])
    with pytest.raises(ValueError, match="shared=True"):
        stacked_nuts(apart, data, num_data=6, **FEW)
    spread = pv.ElboLoss(model, MeanField(model), num_data=6)
    with pytest.raises(ValueError, match="no PointEstimate"):
        stacked_nuts(pv.Stacked([spread], shared=True), data, num_data=6, **FEW)


@pytest.mark.parametrize("sampler", [nuts, chees])
def test_starts_that_do_not_serve(sampler: Callable[..., Chains]) -> None:
    def model(y: Tensor) -> None:
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(0.0, scale), obs=y)

    for start, words in (
        ({"scale": torch.tensor(-1.0)}, "Pass another start="),
        ({"scale": torch.ones(3)}, r"shapes \{'scale': \(3,\)\}"),
        ({"sigma": torch.ones(())}, "'sigma'"),
    ):
        with pytest.raises(ValueError, match=words):
            sampler(model, {"y": X[:, 0]}, start=start, **FEW)
    with pytest.raises(ValueError, match=r"The data \['y'\] hold NaN"):
        sampler(model, {"y": X[:, 0] / 0.0 * 0.0}, **FEW)


def test_a_noise_variance_of_other_names() -> None:
    with pytest.raises(ValueError, match=r"no sites \['variance'\], but \['w.bias'"):
        mcmc(
            line(),
            {"x": X, "y": X},
            lambda model: Gibbs(model, NUTS, **{"w.bias": noise_variance()}),
            **FEW,
        )
