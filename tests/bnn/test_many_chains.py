"""ChEES-HMC and NUTS of many chains at once against posteriors that are known. Moments lie within 5 standard
errors, by their effective number: a failure rate of 6e-7 for each comparison, 1e-4 for the file."""

import logging
import math
from collections.abc import Callable

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.samplers import Chains, chains_to_arviz, chees, nuts
from pyrovae.bnn.samplers.chees import van_der_corput
from pyrovae.heads import FixedScaleNormalHead

SHORT = dict(num_chains=32, num_samples=100, warmup=90, compile="on")
both = pytest.mark.parametrize("sampler", [chees, nuts])
Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
S = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)


def few(sampler: Callable[..., Chains]) -> dict[str, int]:
    """Paths of at most 3 leapfrog steps."""
    return {"max_leapfrogs": 3} if sampler is chees else {"max_depth": 2}


def eight_schools(y: Tensor, s: Tensor) -> None:
    """Non-centred, of Rubin 1981."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, s), obs=y)


def assert_mean(draws: Tensor, exact: float | Tensor) -> None:
    """`(S, R, *shape)` draws, within 5 standard errors of the mean by their effective number."""
    flat = draws.reshape(*draws.shape[:2], -1)
    for values, expected in zip(
        flat.unbind(-1), torch.as_tensor(exact).flatten().expand(flat.shape[-1])
    ):
        size = float(arviz.ess(values.T.numpy(), method="mean"))
        error = float(values.std()) / math.sqrt(size)
        assert abs(float(values.mean() - expected)) < 5 * error, (values.mean(), expected, error)


def assert_mixed(chains: Chains) -> None:
    read = chains_to_arviz(chains)["posterior"]
    for name, values in arviz.rhat(read).data_vars.items():
        assert float(values.max()) < 1.05, name
    assert not chains.divergent.any()


@both
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_normal(sampler: Callable[..., Chains], condition: float) -> None:
    """A correlated normal whose standard deviations span a factor of `condition`."""
    if sampler is nuts:  # whose paths are long before the scales are known
        condition **= 0.25
    scale = condition ** torch.linspace(-0.5, 0.5, 6)
    root = (torch.eye(6) + 0.3 * torch.randn(6, 6).tril(-1)) * scale[:, None]
    mean = 3.0 * scale

    def model() -> None:
        pyro.sample("w", dist.MultivariateNormal(mean, scale_tril=root))

    chains = sampler(model, {}, **SHORT)
    w = chains.draws["w"]
    assert_mixed(chains)
    assert_mean(w, mean)
    products = (w - mean).unsqueeze(-1) * (w - mean).unsqueeze(-2)
    assert_mean(products, root @ root.T)
    assert chains.step_size.shape == (32,) and 0.6 < chains.accept.mean() < 1.0


@both
@pytest.mark.usefixtures("uncompiled")
def test_energy_is_the_potential_and_half_the_squared_momenta(
    sampler: Callable[..., Chains],
) -> None:
    """U - min U and the kinetic energy of 4 numbers are Gamma(2, 1) each: their sum has mean 4."""

    def model() -> None:
        pyro.sample("w", dist.Normal(torch.zeros(4), 2.0).to_event(1))

    chains = sampler(model, {}, **SHORT)
    assert_mean(chains.energy, 4.0 + 4 * math.log(2.0 * math.sqrt(2 * math.pi)))


@both
@pytest.mark.usefixtures("uncompiled")
def test_conjugate_regression(sampler: Callable[..., Chains]) -> None:
    x = torch.randn(20, 2)
    y = x @ torch.tensor([[1.0], [-1.0]]) + 0.5 * torch.randn(20, 1)
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    covariance = torch.linalg.inv(torch.eye(2) + x.T @ x / 0.25)
    mean = (covariance @ x.T @ y / 0.25).squeeze(-1)
    chains = sampler(model, {"x": x, "y": y}, **SHORT)
    weight = chains.draws["w.weight"].squeeze(-2)
    assert_mixed(chains)
    assert_mean(weight, mean)
    assert_mean((weight - mean).prod(-1), covariance[0, 1])
    assert_mean((weight - mean).square(), covariance.diagonal())


def hyperparameters() -> tuple[Tensor, Tensor, Tensor]:
    """Posterior of (mu, log tau) on a grid, the effects integrated out: weights, mu, tau."""
    mu = torch.linspace(-25, 35, 401)
    log_tau = torch.linspace(-14, 6, 801)
    mu, log_tau = torch.meshgrid(mu, log_tau, indexing="ij")
    tau = log_tau.exp()
    log_p = dist.Normal(0.0, 5.0).log_prob(mu) + dist.HalfCauchy(5.0).log_prob(tau) + log_tau
    marginal = dist.Normal(mu[..., None], (S**2 + tau[..., None] ** 2).sqrt())
    return (log_p + marginal.log_prob(Y).sum(-1)).flatten().softmax(0), mu.flatten(), tau.flatten()


@both
@pytest.mark.usefixtures("uncompiled")
def test_eight_schools(sampler: Callable[..., Chains]) -> None:
    careful = {"target": 0.95} if sampler is nuts else {}
    chains = sampler(eight_schools, {"y": Y, "s": S}, **SHORT, **careful)
    weight, mu, tau = hyperparameters()
    assert_mixed(chains)
    for draws, grid in ((chains.draws["mu"], mu), (chains.draws["tau"], tau)):
        assert_mean(draws, (weight * grid).sum())
        assert_mean((draws > grid.median()).double(), (weight * (grid > grid.median())).sum())
    assert_mean(chains.draws["tau"].log(), (weight * tau.log()).sum())
    # E[z_1 | mu, tau] is a normal's
    mean = tau * (Y[0] - mu) / (S[0] ** 2 + tau**2)
    assert_mean(chains.draws["z"][..., 0], (weight * mean).sum())


@both
@pytest.mark.usefixtures("uncompiled")
def test_positive_and_simplex_sites(sampler: Callable[..., Chains]) -> None:
    """Gamma-Poisson and Dirichlet-categorical posteriors in closed form."""
    counts, votes = torch.tensor([3.0, 5.0, 4.0]), torch.tensor([4, 1, 0, 7])
    ballots = torch.arange(4).repeat_interleave(votes)

    def model() -> None:
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        share = pyro.sample("share", dist.Dirichlet(torch.ones(4)))
        with pyro.plate("rows", 3):
            pyro.sample("counts", dist.Poisson(rate), obs=counts)
        with pyro.plate("voters", len(ballots)):
            pyro.sample("votes", dist.Categorical(share), obs=ballots)

    chains = sampler(model, {}, **SHORT)
    exact = {"rate": dist.Gamma(14.0, 4.0), "share": dist.Dirichlet(1.0 + votes)}
    assert_mixed(chains)
    for name, posterior in exact.items():
        assert_mean(chains.draws[name], posterior.mean)
        assert_mean((chains.draws[name] - posterior.mean).square(), posterior.variance)


@pytest.mark.usefixtures("uncompiled")
def test_a_funnel_has_divergences() -> None:
    def funnel() -> None:
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        pyro.sample("x", dist.Normal(torch.zeros(9), (v / 2).exp()).to_event(1))

    chains = chees(
        funnel,
        {},
        **(SHORT | {"target": 0.2, "max_leapfrogs": 30, "num_samples": 40, "warmup": 40}),
    )
    assert chains.divergent.any() and not chains.divergent.all()
    assert torch.equal(chains.accept[chains.divergent], torch.zeros(int(chains.divergent.sum())))


@both
@pytest.mark.usefixtures("uncompiled")
def test_captured_chains_are_the_eager_ones(sampler: Callable[..., Chains]) -> None:
    draws = {}
    for compile in ("off", "on"):
        pyro.set_rng_seed(2)
        run = dict(num_samples=4, warmup=6, num_chains=8, compile=compile, **few(sampler))
        draws[compile] = sampler(lambda: pyro.sample("w", dist.Gamma(2.0, 3.0)), {}, **run).draws
    assert torch.allclose(draws["off"]["w"], draws["on"]["w"], atol=1e-5)


@both
def test_a_seed_gives_the_same_draws(sampler: Callable[..., Chains]) -> None:
    def run(seed: int) -> Tensor:
        pyro.set_rng_seed(seed)
        options = dict(num_samples=2, warmup=3, num_chains=4, compile="off", **few(sampler))
        return sampler(eight_schools, {"y": Y, "s": S}, **options).draws["z"]

    first = run(0)
    assert torch.equal(first, run(0)) and not torch.equal(first, run(1))


@both
def test_chains_start_where_they_are_told(sampler: Callable[..., Chains]) -> None:
    start = {"mu": torch.tensor(4.0), "tau": torch.tensor(2.0), "z": torch.zeros(8)}
    seen: list[int] = []
    chains = sampler(
        eight_schools, {"y": Y, "s": S}, num_samples=2, warmup=0, num_chains=3, start=start,
        progress=seen.append, compile="off", **few(sampler),
    )  # fmt: skip
    assert seen == [0, 1] and chains.draws["z"].shape == (2, 3, 8)
    assert repr(chains).startswith("Chains(") and "z (2, 3, 8)" in repr(chains)
    with pytest.raises(ValueError, match="expected at least 1|'mu'"):
        sampler(eight_schools, {"y": Y, "s": S}, num_samples=1, warmup=0, start={"mu": Y[0]})


def test_refusals_and_what_cannot_be_captured(caplog: pytest.LogCaptureFixture) -> None:
    def branches() -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("bend", w if w > 0 else 2 * w)

    run = dict(num_samples=2, warmup=2, num_chains=2)
    with pytest.raises(ValueError, match="'k' is discrete"):
        chees(lambda: pyro.sample("k", dist.Bernoulli(0.5)), {}, **run)
    with pytest.raises(ValueError, match="num_samples=0"):
        chees(branches, {}, num_samples=0, warmup=0)
    with pytest.raises(ValueError, match="no point of finite density"):
        chees(
            lambda: pyro.factor("f", pyro.sample("w", dist.Normal(0.0, 1.0)).sub(9).log()),
            {},
            **run,
        )
    with caplog.at_level(logging.WARNING):
        chains = chees(branches, {}, **run, max_leapfrogs=2)
    assert chains.draws["w"].shape == (2, 2) and "one after another" in caplog.text


def test_van_der_corput_fills_the_unit_interval() -> None:
    sequence = van_der_corput()
    values = np.sort([next(sequence) for _ in range(63)])
    assert np.array_equal(values, np.arange(1, 64) / 64)


def test_what_nuts_refuses_and_runs_row_by_row(caplog: pytest.LogCaptureFixture) -> None:
    def branches() -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("bend", w if w > 0 else 2 * w)

    for options, words in (
        ({"num_samples": 0}, "num_samples=0"),
        ({"max_depth": 0}, "max_depth=0"),
        ({"num_chains": 0}, "num_chains=0"),
    ):
        with pytest.raises(ValueError, match=words):
            nuts(branches, {}, **({"num_samples": 1, "warmup": 0} | options))
    with pytest.raises(ValueError, match="'k' is discrete"):
        nuts(lambda: pyro.sample("k", dist.Bernoulli(0.5)), {}, num_samples=1, warmup=0)
    with caplog.at_level(logging.WARNING):
        chains = nuts(branches, {}, num_samples=2, warmup=2, num_chains=1, max_depth=2)
    assert chains.draws["w"].shape == (2, 1) and "one after another" in caplog.text


@pytest.mark.usefixtures("uncompiled")
def test_chains_of_nuts_adapt_together() -> None:
    scale = torch.tensor([0.1, 1.0, 10.0])

    def model() -> None:
        pyro.sample("w", dist.Normal(torch.zeros(3), scale).to_event(1))

    chains = nuts(model, {}, num_samples=30, warmup=60, num_chains=16, max_depth=5)
    assert ((0.4 < chains.step_size) & (chains.step_size < 2.5)).all()
    assert_mean((chains.draws["w"] / scale).square(), 1.0)


def test_a_support_may_depend_on_other_sites() -> None:
    """Which Pyro's kernels do not follow: x ~ U(0, w), w ~ U(1, 2)."""

    def model() -> None:
        w = pyro.sample("w", dist.Uniform(1.0, 2.0))
        pyro.sample("x", dist.Uniform(0.0, w))

    chains = nuts(model, {}, num_samples=100, warmup=60, num_chains=16, max_depth=5)
    assert_mean(chains.draws["w"], 1.5)
    assert_mean(chains.draws["x"], 0.75)
