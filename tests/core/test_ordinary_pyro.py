"""Programs as Pyro's own tutorials write them: what trains can also be predicted with, scored and
exported."""

import logging
from collections.abc import Callable

import numpy as np
import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import linear_gaussian
from pyro import poutine
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical
from pyrovae.core.broadcasting import Particles
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

B, GROUPS = 6, 4
X, Y = (
    torch.linspace(-1.0, 1.0, 2 * B, dtype=torch.float64).reshape(B, 2),
    torch.arange(B, dtype=torch.float64) / 3,
)


def with_param(x: Tensor, y: Tensor | None = None) -> None:
    """A regression whose noise is a `pyro.param`."""
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x * w).sum(-1), noise), obs=y)


class WithParam(PyroModule):
    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        with_param(x, y)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("module", [False, True])
def test_an_autoguide_on_a_model_with_a_param_statement_trains_that_param(
    autoguide: type[AutoGuide], module: bool, uses_param_store: None
) -> None:
    model = WithParam() if module else with_param
    guide, x = autoguide(model), torch.randn(40, 2)
    batch = {"x": x, "y": x.sum(-1) + 0.1 * torch.randn(40)}
    loss = pv.ElboLoss(model, guide, num_data=40)
    if not module:
        loss(
            **batch
        )  # Pyro's validation, on here, refuses param statements in PyroModules with parameters of their own
    parameters = []
    history = pv.fit(
        loss, [batch], epochs=60, lr=0.1, hooks=[lambda run: parameters.append(run.parameters)]
    )
    noise = parameters[0]["param_store.noise"].exp()
    assert abs(noise.item() - 1.0) > 0.5, "the noise was not trained"
    assert history[-1]["elbo"] > history[0]["elbo"] + 0.5
    aleatoric = pv.predict_moments(model, guide, batch, num_samples=3).aleatoric
    torch.testing.assert_close(aleatoric, noise.detach().square().expand(40))


class TutorialNet(PyroModule):
    """The Bayesian net of Pyro's tutorial: layers whose weights are `PyroSample`s of shape (out,
    in)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = PyroModule[nn.Linear](2, 3), PyroModule[nn.Linear](3, 1)
        for layer in (self.first, self.last):
            layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand(layer.weight.shape).to_event(2))
            layer.bias = PyroSample(dist.Normal(0.0, 1.0).expand(layer.bias.shape).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        noise = pyro.sample("noise", dist.Gamma(2.0, 2.0))
        mean = pyro.deterministic("mean", self.last(torch.tanh(self.first(x))).squeeze(-1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, noise), obs=y)
        return mean


@pytest.mark.parametrize(
    "make",
    [
        AutoDelta,
        AutoDiagonalNormal,
        AutoIAFNormal,
        AutoLowRankMultivariateNormal,
        AutoMultivariateNormal,
        AutoNormal,
        AutoStructured,
    ],
)
def test_every_autoguide_trains_the_tutorial_net_and_predicts(make: type[AutoGuide]) -> None:
    model, batch = TutorialNet(), {"x": X, "y": Y}
    guide = make(model)
    history = pv.fit(pv.ElboLoss(model, guide, num_data=B), [batch], epochs=2)
    assert len(history) == 2
    draws = pv.posterior_draws(model, guide, batch, num_samples=4)
    assert {name: value.shape for name, value in draws["posterior"].items()} == {
        "noise": (4, 1),
        "first.weight": (4, 1, 3, 2),
        "first.bias": (4, 1, 3),
        "last.weight": (4, 1, 1, 3),
        "last.bias": (4, 1, 1),
    }
    assert pv.log_predictive(model, guide, batch, num_samples=4).isfinite().all()


def varying_intercepts(x: Tensor, y: Tensor | None = None) -> None:
    """`alpha[g]`: the group of a datum indexes the first dim."""
    g = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    with pyro.plate("groups", GROUPS):
        alpha = pyro.sample("alpha", dist.Normal(0.0, scale))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(alpha[g], 0.5), obs=y)


def centred(x: Tensor, y: Tensor | None = None) -> None:
    """All shapes are right under particles, and the numbers are not: `softmax(0)` is over the
    particles then."""
    with pyro.plate("weights", 2):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x * w.softmax(0).unsqueeze(-2)).sum(-1), 0.5), obs=y)


def one_more_dim(x: Tensor, y: Tensor | None = None) -> None:
    """Log-probabilities of a dim more than particles and data have."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x * w.unsqueeze(-2)).sum(-1), 0.5), obs=y)


def classes(x: Tensor, y: Tensor | None = None) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Categorical(logits=torch.einsum("bi,ic->bc", x, w)), obs=y)


ORDINARY = {
    "net": TutorialNet,
    "intercepts": lambda: varying_intercepts,
    "softmax": lambda: centred,
    "dim": lambda: one_more_dim,
    "classes": lambda: classes,
}


def sampled(model: Callable, num: int) -> dict[str, Tensor]:
    """Draws of the latent sites from the prior, `(num, *shape)`, as a Markov chain would give
    them."""
    traces = [poutine.trace(model).get_trace(x=X) for _ in range(num)]
    names = [
        name
        for name in traces[0].stochastic_nodes
        if name not in ("y", "data", "groups", "weights")
    ]
    return {name: torch.stack([trace.nodes[name]["value"] for trace in traces]) for name in names}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("kind", ["autoguide", "draws"])
def test_predictions_are_those_of_a_loop(
    name: str, kind: str, caplog: pytest.LogCaptureFixture, uses_param_store: None
) -> None:
    model, count = ORDINARY[name](), 5
    batch = {"x": X, "y": (Y > 1).long() if name == "classes" else Y}
    guide = (
        AutoNormal(model, init_scale=0.5)
        if kind == "autoguide"
        else Empirical(sampled(model, count))
    )
    if kind == "autoguide":
        pv.fit(pv.ElboLoss(model, guide, num_data=B), [batch], epochs=2)
    with caplog.at_level(logging.WARNING, logger="pyrovae"):
        draws = pv.posterior_draws(model, guide, batch, num_samples=count)
    assert "one at a time" in caplog.text

    def likelihood(index: int) -> dist.Distribution:
        nodes = poutine.trace(model).get_trace(x=X).nodes
        values = {
            site: value[index].reshape(nodes[site]["value"].shape)
            for site, value in draws["posterior"].items()
            if site in nodes
        }
        return poutine.trace(poutine.condition(model, data=values)).get_trace(x=X).nodes["y"]["fn"]

    likelihoods = [likelihood(index) for index in range(count)]
    expected = torch.stack([fn.log_prob(batch["y"]) for fn in likelihoods])
    torch.testing.assert_close(draws["log_likelihood"]["y"], expected)
    assert expected.std(0).min() > 0.01, "the draws are all alike"
    assert draws["posterior_predictive"]["y"].shape == (count, B)
    if kind == "autoguide":
        return  # its draws are others at each call
    log_predictive = pv.log_predictive(model, guide, batch, num_samples=count)
    torch.testing.assert_close(
        log_predictive, expected.logsumexp(0) - torch.tensor(float(count)).log()
    )
    moments = pv.predict_moments(model, guide, {"x": X}, num_samples=count)
    means = torch.stack([fn.probs if name == "classes" else fn.mean for fn in likelihoods])
    torch.testing.assert_close(moments.mean, means.mean(0))
    if name != "classes":
        torch.testing.assert_close(moments.epistemic, means.var(0, correction=0))
        torch.testing.assert_close(
            moments.aleatoric, torch.stack([fn.variance for fn in likelihoods]).mean(0)
        )
    predicted = pv.predict(model, guide, {"x": X}, num_samples=count)
    assert predicted["y"].shape == (count, B)
    if name == "net":
        torch.testing.assert_close(predicted["mean"].flatten(1), means)


@pytest.mark.parametrize("name", ["net", "intercepts"])
def test_one_draw_is_captured_and_replayed(name: str) -> None:
    model = ORDINARY[name]()
    guide = Empirical(sampled(model, 4))
    runs = [
        pv.log_predictive(model, guide, {"x": X, "y": Y}, num_samples=4, compile=compile)
        for compile in ("off", "on")
    ]
    torch.testing.assert_close(*runs)


def test_what_broadcasts_runs_at_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def model(x: Tensor, y: Tensor | None = None) -> None:
        calls.append(len(x))
        with pyro.plate("groups", GROUPS):
            alpha = pyro.sample("alpha", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(alpha[..., torch.arange(len(x)) % GROUPS], 0.5), obs=y)

    guide = AutoNormal(model)
    pv.fit(pv.ElboLoss(model, guide, num_data=B), [{"x": X, "y": Y}], epochs=1)
    state = torch.get_rng_state()
    assert Particles.of(model, guide, {"x": X, "y": Y}).at_once
    assert torch.equal(state, torch.get_rng_state())
    calls.clear()
    pv.log_predictive(model, guide, {"x": X, "y": Y}, num_samples=200)
    assert len(calls) < 10 and not caplog.records


def test_noise_outside_sites_is_drawn_anew_for_each_draw(caplog: pytest.LogCaptureFixture) -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1) + torch.randn(()), 0.5), obs=y)

    draws = pv.predict(model, Empirical({"w": torch.zeros(50, 2)}), {"x": X}, num_samples=50)
    assert "by random numbers of no site" in caplog.text
    assert draws["y"].mean(-1).std() > 0.5, "all draws share their noise"


def test_a_guide_that_does_not_broadcast_runs_one_draw_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1) + a, 0.5), obs=y)

    def guide(**data: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("a", dist.Normal(w[0], 1e-6))

    draws = pv.predict(model, guide, {"x": X}, num_samples=20)
    assert (
        "the guide" in caplog.text
        and draws["w"].shape == (20, 1, 2)
        and draws["a"].shape == (20, 1)
    )
    torch.testing.assert_close(draws["a"], draws["w"][..., 0], atol=1e-4, rtol=0.0)


def test_what_fails_by_itself_fails_as_it_does() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(
                "y",
                dist.Normal(
                    x @ pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1)), 1.0
                ),
                obs=y,
            )

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        pv.predict(model, Empirical({"w": torch.zeros(5, 3)}), {"x": X}, num_samples=5)


def test_evidence_of_programs_that_do_not_broadcast(caplog: pytest.LogCaptureFixture) -> None:
    oracle = linear_gaussian(num_data=4, shift=0.3, spread=1.2)
    likelihood = oracle.model.nodes["x"].conditional

    def model(x: Tensor) -> None:
        """A decoder that takes matrices only."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = torch.mm(z, likelihood.weights[0].T) + likelihood.bias
            pyro.sample("x", dist.MultivariateNormal(loc, scale_tril=likelihood.scale_tril), obs=x)

    results = []
    for program, compile in ((model, "on"), (oracle.model, "off")):
        torch.manual_seed(1)
        results.append(
            pv.log_evidence(
                program, oracle.guide, oracle.batch, num_particles=60, chunk=17, compile=compile
            ).log_px
        )
    assert "one at a time" in caplog.text
    torch.testing.assert_close(*results)
    with pytest.raises(pv.PairError, match="defensive sampling needs programs that broadcast"):
        pv.log_evidence(model, oracle.guide, oracle.batch, num_particles=60, defensive=0.1)


def test_evidence_with_varying_intercepts() -> None:
    batch, guide = {"x": X, "y": Y}, AutoNormal(varying_intercepts, init_scale=0.3)
    pv.fit(pv.ElboLoss(varying_intercepts, guide, num_data=B), [batch], epochs=60, lr=0.05)
    with pytest.raises(pv.PairError, match="lies outside plate 'data'.* Pass plate=None"):
        pv.log_evidence(varying_intercepts, guide, batch, num_particles=30)
    torch.manual_seed(3)
    evidence = pv.log_evidence(varying_intercepts, guide, batch, num_particles=1500, plate=None)

    g = (X[:, 0] > 0).long() + 2 * (
        X[:, 1] > 0
    ).long()  # the intercepts are integrated out, the scale by quadrature
    scale = torch.linspace(1e-3, 12.0, 4000)
    covariance = scale.square()[:, None, None] * (g[:, None] == g) + 0.25 * torch.eye(B)
    given = dist.MultivariateNormal(torch.zeros(B), covariance).log_prob(Y)
    exact = torch.trapezoid((given + dist.Gamma(2.0, 2.0).log_prob(scale)).exp(), scale).log()
    assert abs(evidence.mean - exact) < 5 * evidence.se.item() < 0.5


def test_a_loss_of_pyro_is_validated_with_global_latents(uses_param_store: None) -> None:
    model, _, batch, _ = oracles.linear_regression()
    loss = pyro.infer.Trace_ELBO()(model, AutoNormal(model))
    history = pv.fit(loss, [batch], valid=[batch], epochs=2)
    assert "valid_loss" in history[-1] and pv.evaluate(loss, [batch])["loss"] > 0


def test_evidence_and_validation_take_arrays_of_another_precision() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")).float()
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")).float()
    x = np.random.default_rng(0).integers(0, 2, (6, 4)).astype(float)
    results = []
    for data in ({"x": torch.tensor(x, dtype=torch.float32)}, {"x": x}, {"x": torch.tensor(x)}):
        torch.manual_seed(1)
        results.append(pv.log_evidence(model, guide, data, num_particles=20).log_px)
        assert pv.evaluate(pv.ElboLoss(model, guide), data)["loss"] > 0
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert pv.log_evidence(model, guide, x, names=("x",), num_particles=5).log_px.shape == (6,)
