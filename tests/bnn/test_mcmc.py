"""Pyro's chains on our models, against posteriors that are known."""

import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, NUTS, RandomWalkKernel
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, PointEstimate
from pyrovae.bnn.samplers import Chains, chains_to_arviz, mcmc
from pyrovae.heads import FixedScaleNormalHead, SharedVarianceHead
from pyrovae.priors import InverseGammaPrior

NOISE = 0.5


def data(rows: int = 10) -> dict[str, Tensor]:
    x = torch.randn(rows, 2)
    return {"x": x, "y": x @ torch.tensor([[1.0], [-1.0]]) + NOISE * torch.randn(rows, 1)}


def known_noise() -> pv.Model:
    return pv.Model(
        y=pv.Node(FixedScaleNormalHead(pv.Bayesian(nn.Linear(2, 1, bias=False)), scale=NOISE), "x")
    )


def unknown_noise() -> pv.Model:
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    return pv.Model(
        variance=pv.Global(InverseGammaPrior(2.0, 0.5)),
        y=pv.Node(SharedVarianceHead(net), "x", "variance"),
    )


def posterior(batch: dict[str, Tensor], variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(*, 2)` and covariance of the weights given the noise's variance `(*,)`, under N(0,
    1)."""
    gram, moment = batch["x"].T @ batch["x"], (batch["x"].T @ batch["y"]).squeeze(-1)
    covariance = torch.linalg.inv(torch.eye(2) + gram / variance[..., None, None])
    return (covariance @ moment.unsqueeze(-1)).squeeze(-1) / variance[..., None], covariance


def assert_mean(draws: Tensor, exact: float) -> None:
    """`(S, R)` draws, within 5 standard errors of the mean by their effective number."""
    values = draws.T.numpy()
    error = values.std() / math.sqrt(float(arviz.ess(values, method="mean")))
    assert abs(values.mean() - exact) < 5 * error, (values.mean(), exact, error)


def assert_posterior(chains: Chains, batch: dict[str, Tensor]) -> None:
    """The first two moments of both weights."""
    mean, covariance = posterior(batch, torch.tensor(NOISE**2))
    for index in range(2):
        weight = chains.draws["w.weight"][:, :, 0, index]
        assert_mean(weight, float(mean[index]))
        assert_mean((weight - mean[index]) ** 2, float(covariance[index, index]))


@pytest.fixture(scope="module")
def nuts() -> tuple[Chains, dict[str, Tensor]]:
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(1)
    batch, run = data(), dict(num_samples=200, warmup=100, num_chains=2, compile="on")
    with pytest.MonkeyPatch.context() as patch:  # replays of the captured potential, uncompiled
        patch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
        patch.setattr("pyrovae.capture.graph.use_fastest_route", lambda graph: None)
        return mcmc(known_noise(), batch, NUTS, **run), batch


def test_nuts_finds_the_conjugate_posterior(nuts: tuple[Chains, dict[str, Tensor]]) -> None:
    chains, batch = nuts
    assert_posterior(chains, batch)
    assert chains.draws["w.weight"].shape == (200, 2, 1, 2) and chains.step_size.shape == (2,)
    assert not chains.divergent.any() and 0.6 < chains.accept.mean() < 1.0


def test_energy_is_the_potential_and_two_halves_of_kinetic_energy(
    nuts: tuple[Chains, dict[str, Tensor]],
) -> None:
    """U - min U and the kinetic energy of two weights are Gamma(1, 1) each: their sum has mean 2."""
    chains, batch = nuts
    mean, _ = posterior(batch, torch.tensor(NOISE**2))
    model, lowest = known_noise(), {"w.weight": mean.unsqueeze(0)}
    trace = poutine.trace(poutine.condition(model, data=lowest)).get_trace(**batch)
    assert_mean(chains.energy + trace.log_prob_sum(), 2.0)


def test_arviz_reads_the_chains(nuts: tuple[Chains, dict[str, Tensor]]) -> None:
    chains, _ = nuts
    read = chains_to_arviz(chains)
    weight = read["posterior"]["w.weight"]
    assert dict(weight.sizes) == {
        "chain": 2,
        "draw": 200,
        "w.weight_dim_0": 1,
        "w.weight_dim_1": 2,
    }
    assert np.array_equal(weight.values[1, :, 0, 1], chains.draws["w.weight"][:, 1, 0, 1].numpy())
    assert np.array_equal(read["sample_stats"]["diverging"].values, chains.divergent.T.numpy())
    assert float(arviz.rhat(read["posterior"])["w.weight"].max()) < 1.05
    assert float(arviz.ess(read["posterior"])["w.weight"].min()) > 50


def test_draws_predict(nuts: tuple[Chains, dict[str, Tensor]]) -> None:
    chains, batch = nuts
    guide = Empirical({name: value.flatten(0, 1) for name, value in chains.draws.items()})
    moments = pv.predict_moments(known_noise(), guide, batch, num_samples=400)
    mean, covariance = posterior(batch, torch.tensor(NOISE**2))
    spread = (batch["x"] @ covariance * batch["x"]).sum(-1, keepdim=True).sqrt()
    assert (
        (moments.mean - batch["x"] @ mean.unsqueeze(-1)).abs() < 5 * spread / math.sqrt(50)
    ).all()  # ESS above 50


def test_random_walk_finds_the_conjugate_posterior() -> None:
    batch = data()
    chains = mcmc(known_noise(), batch, RandomWalkKernel, num_samples=1500, warmup=500)
    assert_posterior(chains, batch)
    assert 0.1 < chains.accept.mean() < 0.5 and not chains.divergent.any()


@pytest.mark.parametrize(
    "kernel",
    [
        lambda model: HMC(model, step_size=1e-9, num_steps=1, adapt_step_size=False),
        lambda model: RandomWalkKernel(model, init_step_size=1e-9),
    ],
)
def test_chains_start_where_they_are_told(kernel: object) -> None:
    model, seen = unknown_noise(), []
    start = {name: value.detach() for name, value in PointEstimate(model).values().items()}
    begin = dict(num_samples=2, warmup=0, num_chains=2, start=start)
    chains = mcmc(model, data(), kernel, **begin, progress=seen.append)
    assert all(
        torch.allclose(chains.draws[name], value.expand(2, 2, *value.shape), atol=1e-6)
        for name, value in start.items()
    )
    assert seen == [0, 1, 2, 3]
    jittered = (
        mcmc(model, data(), kernel, **begin, jitter=0.1).draws["variance"].log()
        - start["variance"].log()
    )
    assert (
        (jittered.abs() > 1e-4).all()
        and (jittered.abs() < 0.6).all()
        and jittered[0, 0] != jittered[0, 1]
    )


def test_bad_starts() -> None:
    with pytest.raises(ValueError, match="'w.weight': \\(1, 2\\)"):
        mcmc(
            known_noise(),
            data(),
            NUTS,
            num_samples=1,
            warmup=0,
            start={"w.weight": torch.zeros(2)},
        )
    with pytest.raises(ValueError, match="num_samples=0"):
        mcmc(known_noise(), data(), NUTS, num_samples=0, warmup=0)


def test_settings_and_weights_stay() -> None:
    model, settings = unknown_noise(), dict(pyro.settings.get())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mcmc(model, data(), NUTS, num_samples=2, warmup=2)
    assert dict(pyro.settings.get()) == settings and not list(pyro.get_param_store().keys())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_support_that_depends_on_another_site_is_refused() -> None:
    """Pyro's kernels would keep the support of their first run."""

    def model() -> None:
        top = pyro.sample("top", dist.Gamma(3.0, 1.0))
        pyro.sample("part", dist.Uniform(torch.zeros(2), top).to_event(1))

    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="support of site 'part' depends on other sites"):
        mcmc(model, {}, NUTS, num_samples=2, warmup=2)
    assert torch.equal(torch.get_rng_state(), state)
    top = pyro.condition(model, data={"top": torch.tensor(2.0)})
    assert mcmc(top, {}, NUTS, num_samples=2, warmup=2).draws["part"].shape == (2, 1, 2)
