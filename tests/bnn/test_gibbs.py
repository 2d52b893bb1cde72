"""Exact draws of a noise variance beside Pyro's chains on the weights."""

import math

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import InverseGamma
from pyro.infer import NUTS, RandomWalkKernel
from pyro.poutine import Trace
from test_mcmc import assert_mean, data, posterior, unknown_noise
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.samplers import Gibbs, chains_to_arviz, mcmc, noise_variance
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.priors import InverseGammaPrior


def test_gibbs_draws_weights_and_noise_of_a_regression() -> None:
    """By quadrature over the variance, given which the weights are normal and integrate out."""
    batch, log_v = data(), torch.linspace(-6.0, 4.0, 2001)
    v = log_v.exp()
    covariance = v[:, None, None] * torch.eye(10) + batch["x"] @ batch["x"].T
    marginal = torch.distributions.MultivariateNormal(torch.zeros(10), covariance).log_prob(
        batch["y"].squeeze(-1)
    )
    weights = (
        marginal + InverseGamma(torch.tensor(2.0), torch.tensor(0.5)).log_prob(v) + log_v
    ).softmax(0)
    mean, _ = posterior(batch, v)
    model = unknown_noise()
    chains = mcmc(
        model,
        batch,
        lambda model: Gibbs(model, NUTS, variance=noise_variance()),
        num_samples=150,
        warmup=60,
        num_chains=2,
        start=PointEstimate(model).values(),
        jitter=0.1,
    )
    assert_mean(chains.draws["variance"].log(), float(weights @ log_v))
    assert_mean(chains.draws["variance"].log() ** 2, float(weights @ log_v**2))
    for index in range(2):
        assert_mean(chains.draws["w.weight"][:, :, 0, index], float(weights @ mean[:, index]))
    assert float(arviz.rhat(chains_to_arviz(chains)["posterior"])["variance"]) < 1.05


def test_captured_paths_see_the_present_variance(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two chains of the same start share a graph, whose replays have the variance of each."""
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    monkeypatch.setattr("pyrovae.capture.graph.use_fastest_route", lambda graph: None)
    model, found = unknown_noise(), []
    start = PointEstimate(model).values()
    for compile in ("off", "on"):
        pyro.set_rng_seed(3)
        with caplog.at_level("INFO"):
            found.append(
                mcmc(
                    model,
                    data(),
                    lambda model: Gibbs(model, NUTS, variance=noise_variance()),
                    num_samples=4,
                    warmup=5,
                    num_chains=2,
                    start=start,
                    compile=compile,
                )
            )
    assert caplog.text.count("captured an evaluation") == 1 and "not compiled" not in caplog.text
    for name, value in found[0].draws.items():
        torch.testing.assert_close(value, found[1].draws[name])
    assert (found[0].draws["variance"].diff(dim=0) != 0).all()


def test_the_draw_of_a_variance_is_its_conditional() -> None:
    """1/v given the residuals is Gamma(a + n/2, b + sum r^2 / 2), with its mean and variance."""
    batch, model = data(), unknown_noise()
    values = {"w.weight": torch.tensor([[0.5, -0.5]]), "variance": torch.tensor(0.3)}
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(**batch)
    draw = noise_variance()
    precision = torch.stack([1.0 / draw(trace) for _ in range(2000)])
    shape = 2.0 + 5.0
    rate = 0.5 + float((batch["y"] - batch["x"] @ values["w.weight"].T).square().sum()) / 2
    assert abs(precision.mean() - shape / rate) < 5 * math.sqrt(shape / rate**2 / 2000)
    spread = (precision - shape / rate) ** 2
    assert abs(spread.mean() - shape / rate**2) < 5 * spread.std() / math.sqrt(2000)


@pytest.mark.parametrize("where", ["site", "data", "elements"])
def test_masked_targets_say_nothing_of_the_variance(where: str) -> None:
    y = torch.tensor([[0.5, -1.0], [2.0, 0.3], [9.0, 9.0]])
    seen = torch.tensor([True, True, False])

    def model() -> None:
        v = pyro.sample("variance", InverseGamma(torch.tensor(2.0), torch.tensor(0.5)))
        fn = dist.Normal(torch.zeros(3, 2), v.sqrt())
        with pyro.plate("data", 3), poutine.mask(mask=seen if where == "site" else True):
            if where == "elements":
                fn = fn.mask(seen[:, None].expand(3, 2))
            fn = fn.to_event(1)
            pyro.sample("y", fn.mask(seen) if where == "data" else fn, obs=y)

    trace = poutine.trace(model).get_trace()
    precision = torch.stack([1.0 / noise_variance()(trace) for _ in range(2000)])
    shape, rate = 2.0 + 2.0, 0.5 + float(y[:2].square().sum()) / 2
    assert abs(precision.mean() - shape / rate) < 5 * math.sqrt(shape / rate**2 / 2000)


def test_a_variance_of_two_targets_and_a_scaled_one_are_refused() -> None:
    def model(scale: float, others: int) -> None:
        v = pyro.sample("variance", InverseGamma(torch.tensor(2.0), torch.tensor(0.5)))
        with pyro.plate("data", 3), poutine.scale(scale=scale):
            for name in ["y", "z"][: 1 + others]:
                pyro.sample(name, dist.Normal(torch.zeros(3), v.sqrt()), obs=torch.ones(3))

    with pytest.raises(ValueError, match="'y'. are scaled"):
        noise_variance()(poutine.trace(model).get_trace(0.5, 0))
    known = poutine.condition(model, data={"variance": torch.tensor(0.3, requires_grad=True)})
    with pytest.raises(ValueError, match="site 'z' depends on 'variance'"):
        noise_variance().check(poutine.trace(known).get_trace(1.0, 1))


def test_a_variance_may_be_that_of_the_prior_of_a_weight() -> None:
    """By chance: a chain that passes v = 1 must not end there."""
    known = {"w.weight": torch.zeros(1, 2), "variance": torch.tensor(1.0)}
    trace = poutine.trace(poutine.condition(unknown_noise(), data=known)).get_trace(**data())
    assert noise_variance()(trace) > 0


def test_several_variances_are_refused() -> None:
    def model() -> None:
        prior = InverseGamma(torch.full((2,), 2.0), torch.full((2,), 0.5))
        v = pyro.sample("variance", prior.to_event(1))
        with pyro.plate("data", 3):
            fn = dist.Normal(torch.zeros(3, 2), v.sqrt()).to_event(1)
            pyro.sample("y", fn, obs=torch.ones(3, 2))

    with pytest.raises(ValueError, match=r"InverseGamma of shape \(2,\).* one number"):
        noise_variance()(poutine.trace(model).get_trace())


@pytest.mark.parametrize("what", ["weights", "mean"])
def test_what_else_depends_on_the_variance_is_refused(what: str) -> None:
    """As in the conjugate prior of a regression, w ~ N(0, k v): residuals alone do not tell v."""

    def model(y: torch.Tensor) -> None:
        v = pyro.sample("variance", InverseGamma(torch.tensor(3.0), torch.tensor(2.0)))
        w = pyro.sample("w", dist.Normal(0.0, (10 * v).sqrt() if what == "weights" else 1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(w + v if what == "mean" else w, v.sqrt()), obs=y)

    words = "site 'w' depends on" if what == "weights" else "the mean of site 'y' depends on"
    with pytest.raises(ValueError, match=words):
        mcmc(
            model,
            {"y": torch.ones(4)},
            lambda model: Gibbs(model, NUTS, variance=noise_variance()),
            num_samples=1,
            warmup=0,
        )


def test_gibbs_draws_the_components_of_a_mixture(caplog: pytest.LogCaptureFixture) -> None:
    """Beside the mean of one component: by quadrature over it, all components summed out."""
    y = torch.tensor([-1.5, -0.8, 0.3, 0.9, 2.2, 2.6])

    def model(y: torch.Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
        with pyro.plate("data", len(y)):
            k = pyro.sample("k", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(k * mean, 1.0), obs=y)

    def components(mean: torch.Tensor) -> torch.Tensor:
        """log p(k, y | mean), the values of k last."""
        first = dist.Normal(0.0, 1.0).log_prob(y) + math.log(0.6)
        second = dist.Normal(mean, 1.0).log_prob(y) + math.log(0.4)
        return torch.stack([first.expand_as(second), second], -1)

    def draw(trace: Trace) -> torch.Tensor:
        logits = components(trace.nodes["mean"]["value"])
        return dist.Categorical(logits=logits).sample().to(y)

    grid = torch.linspace(-15.0, 15.0, 3001)
    joint = components(grid[:, None])
    weights = (joint.logsumexp(-1).sum(-1) + dist.Normal(0.0, 3.0).log_prob(grid)).softmax(0)
    second = (weights[:, None] * joint.softmax(-1)[..., 1]).sum(0)
    chains = mcmc(
        model,
        {"y": y},
        lambda model: Gibbs(model, NUTS, k=draw),
        num_samples=300,
        warmup=60,
        compile="on",
    )
    assert "not compiled: sites ['k'] are discrete" in caplog.text
    assert_mean(chains.draws["mean"], float(weights @ grid))
    for i in range(len(y)):
        assert_mean(chains.draws["k"][..., i], float(second[i]))


def test_gibbs_refuses_what_is_not_conjugate() -> None:
    with pytest.raises(ValueError, match="sigma.*latent sites"):
        mcmc(
            unknown_noise(),
            data(),
            lambda model: Gibbs(model, NUTS, sigma=noise_variance()),
            num_samples=1,
            warmup=0,
        )
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    wrong = pv.Model(
        variance=pv.Global(InverseGammaPrior(2.0, 0.5)),
        y=pv.Node(FixedScaleNormalHead(net, scale=3.0), "x"),
    )
    with pytest.raises(ValueError, match="SharedVarianceHead"):
        mcmc(
            wrong,
            data(),
            lambda model: Gibbs(model, NUTS, variance=noise_variance()),
            num_samples=1,
            warmup=0,
        )


def test_gibbs_starts_where_it_is_told() -> None:
    """Without sites to draw it is the kernel alone; with one, that moves at once and the others
    stay."""
    model = unknown_noise()
    start = {name: value.detach() for name, value in PointEstimate(model).values().items()}
    for draws in ({}, {"variance": noise_variance()}):
        chains = mcmc(
            model,
            data(),
            lambda model: Gibbs(
                model, lambda m: RandomWalkKernel(m, init_step_size=1e-9), **draws
            ),
            num_samples=2,
            warmup=0,
            start=start,
        )
        assert torch.allclose(
            chains.draws["w.weight"], start["w.weight"].expand(2, 1, 1, 2), atol=1e-6
        )
        assert torch.allclose(
            chains.draws["variance"], start["variance"].expand(2, 1), atol=1e-6
        ) != bool(draws)
