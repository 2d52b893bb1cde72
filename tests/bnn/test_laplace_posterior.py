"""Laplace's evidence, curvatures and guides against closed forms."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn as nn
from oracles import Regression, assert_moments, bayesian_regression, with_one
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import pyrovae as pv
from pyrovae.bnn.curvature import Diagonal, Full, Kron, LowRank
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.posthoc import LaplacePosterior, fit_laplace, laplace, tune_prior
from pyrovae.bnn.priors import fan_in, last_layer, normal, scale_mixture
from pyrovae.core.param_store import local_param_scope
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    FixedScaleNormalHead,
    NormalHead,
    PoissonHead,
    SharedVarianceHead,
    StudentTHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior

EXACT = {"full": Full(), "kron": Kron(), "low rank": LowRank(3)}
"""Exact for one linear layer of three weights."""


def classifier(net: nn.Module, prior=None) -> tuple[pv.Bayesian, pv.Model]:
    bayesian = pv.Bayesian(net, prior or normal(0.7))
    return bayesian, pv.Model(y=pv.Node(CategoricalHead(bayesian), "x"))


def point(net: nn.Module) -> dict[str, Tensor]:
    return PointEstimate(net).values()


def fisher(model: pv.Model, mode: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """sum_i F_i by autograd of each log-probability of each class, an independent way."""
    flat = torch.cat([value.flatten() for value in mode.values()]).detach()
    sizes = [value.numel() for value in mode.values()]

    def log_probs(flat: Tensor) -> Tensor:
        values = {
            name: part.reshape(value.shape)
            for (name, value), part in zip(mode.items(), flat.split(sizes))
        }
        trace = pyro.poutine.trace(pyro.condition(model, data=values)).get_trace(**batch)
        return trace.nodes["y"]["fn"].logits.log_softmax(-1)

    jacobian = torch.autograd.functional.jacobian(log_probs, flat)
    return torch.einsum("nc,nci,ncj->ij", log_probs(flat).exp(), jacobian, jacobian)


def draws_of(guide: nn.Module, count: int = 4000) -> Tensor:
    """Draws `(S, P)`."""
    with local_param_scope(), pyro.plate("particles", count, dim=-2), torch.no_grad():
        values = guide()
    return torch.cat([values[site.name].reshape(count, -1) for site in guide.sites], 1)


def exact_log_evidence(exact: Regression, precision: Tensor, noise: Tensor) -> Tensor:
    rows = with_one(exact.batch["x"])
    spread = exact.prior_scale**2 / precision * rows @ rows.T
    matrix = spread + (exact.noise * noise) ** 2 * torch.eye(len(rows))
    return dist.MultivariateNormal(torch.zeros(len(rows)), matrix).log_prob(
        exact.batch["y"].squeeze(-1)
    )


@pytest.mark.parametrize("kind", EXACT)
def test_evidence_and_its_derivatives_in_linear_regression(kind: str) -> None:
    exact = bayesian_regression()
    posterior = fit_laplace(exact.model, exact.values(exact.mean), exact.batch, EXACT[kind])
    found = posterior.log_marginal_likelihood()
    torch.testing.assert_close(found, exact.log_evidence)
    torch.testing.assert_close(posterior.log_det(), -torch.logdet(exact.covariance))
    # at the mode the evidence does not depend on it to first order, so the slopes are exact too
    factors = torch.ones(2, requires_grad=True)
    slopes = torch.autograd.grad(posterior.log_marginal_likelihood(*factors), factors)[0]
    other = torch.ones(2, requires_grad=True)
    expected = torch.autograd.grad(exact_log_evidence(exact, *other), other)[0]
    torch.testing.assert_close(slopes, expected)
    traced = 3 - (exact.covariance.diagonal() / exact.prior_scale**2).sum()
    torch.testing.assert_close(posterior.effective_parameters(), traced)


@pytest.mark.parametrize("kind", EXACT)
def test_alternating_modes_and_fits_reach_the_largest_evidence(kind: str) -> None:
    exact = bayesian_regression(40)
    rows, y = with_one(exact.batch["x"]), exact.batch["y"].squeeze(-1)
    factors, mean = torch.ones(2), exact.mean
    for _ in range(20):
        posterior = fit_laplace(exact.model, exact.values(mean), exact.batch, EXACT[kind])
        fitted = posterior.fit_prior()
        factors = torch.stack([fitted.prior_precision[0], fitted.noise_scale])
        ratio = factors[0] / exact.prior_scale**2 * (exact.noise * factors[1]) ** 2
        mean = torch.linalg.solve(rows.T @ rows + ratio * torch.eye(3), rows.T @ y)
    moved = factors.clone().requires_grad_()
    slope = torch.autograd.grad(exact_log_evidence(exact, *moved), moved)[0]
    assert (slope.abs() < 1e-4).all()  # where L-BFGS ends
    fixed = posterior.fit_prior(noise=False)
    assert fixed.noise_scale == 1.0 and fixed.prior_precision[0] != posterior.prior_precision[0]


@pytest.mark.parametrize("kind", EXACT)
def test_predictions_in_linear_regression_are_exact(kind: str) -> None:
    exact = bayesian_regression()
    posterior = fit_laplace(exact.model, exact.values(exact.mean), exact.batch, EXACT[kind])
    guide = posterior.guide(exact.net)
    assert_moments(draws_of(guide), exact.mean, exact.covariance)
    weights = pv.log_weights(exact.model, guide, exact.batch, 50, plate=None)
    torch.testing.assert_close(weights, exact.log_evidence.expand(50))  # q is the posterior
    fitted = posterior.fit_prior(noise=False)
    matrix = torch.linalg.inv(exact.covariance)
    matrix += (fitted.prior_precision[0] - 1.0) / exact.prior_scale**2 * torch.eye(3)
    assert_moments(draws_of(fitted.guide(exact.net)), exact.mean, torch.linalg.inv(matrix))


def test_full_is_the_gauss_newton_matrix_of_a_classifier() -> None:
    net, model = classifier(MLP(2, [3], 3, nn.Tanh))
    batch = {"x": torch.randn(6, 2), "y": torch.arange(6) % 3}
    expected = fisher(model, point(net), batch) * 0.7**2
    full = fit_laplace(model, point(net), batch, Full()).curvature.matrix
    torch.testing.assert_close(full, expected)
    parts = [
        {name: value[rows] for name, value in batch.items()} for rows in ([0, 1], [2, 3, 4, 5])
    ]
    for curvature in (Full(), LowRank(21), Kron(), Diagonal()):
        whole = fit_laplace(model, point(net), batch, curvature)
        halves = fit_laplace(model, point(net), parts, curvature)
        torch.testing.assert_close(whole.log_det(), halves.log_det())
    diagonal = fit_laplace(model, point(net), batch, Diagonal()).curvature.diagonal
    torch.testing.assert_close(diagonal, expected.diagonal())
    low = fit_laplace(model, point(net), batch, LowRank(21)).curvature
    torch.testing.assert_close((low.directions * low.eigenvalues) @ low.directions.T, expected)


def test_leading_eigenvalues() -> None:
    net, model = classifier(MLP(2, [3], 3, nn.Tanh))
    batch = {"x": torch.randn(6, 2), "y": torch.arange(6) % 3}
    values = torch.linalg.eigvalsh(fisher(model, point(net), batch) * 0.7**2)
    low = fit_laplace(model, point(net), batch, LowRank(2, oversampling=3, rounds=20))
    torch.testing.assert_close(low.curvature.eigenvalues, values[-2:], rtol=1e-6, atol=0)
    torch.testing.assert_close(
        low.curvature.log_det(torch.ones(2), torch.tensor(1.0)), values[-2:].log1p().sum()
    )
    drawn = draws_of(low.guide(net))
    inverse = (
        torch.eye(21)
        - low.curvature.directions * (values[-2:] / (1 + values[-2:])) @ low.curvature.directions.T
    )
    assert_moments(drawn, low.weights.loc, 0.7**2 * inverse)


@pytest.mark.parametrize("kind", [Full(), LowRank(26), Kron(), Diagonal()])
def test_a_precision_for_each_layer(kind) -> None:
    """The posterior under factors of the prior is that of the model with that prior."""
    layers = MLP(2, [4], 2, nn.Tanh)
    batch = {"x": torch.randn(9, 2), "y": torch.randn(9, 2)}

    def posterior(scales: dict[str, float]):
        def prior(site: str, tensor: Tensor) -> dist.Normal:
            return dist.Normal(torch.zeros_like(tensor), scales[site.rpartition(".")[0]])

        net = pv.Bayesian(layers, prior)
        model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.4), "x"))
        return net, fit_laplace(model, point(net), batch, kind)

    first, second = "w.layers.0", "w.layers.2"
    net, start = posterior({first: 1.0, second: 2.0})
    if start.layers != (first, second):
        first, second = start.layers
    _, other = posterior({first: 0.5, second: 4.0})
    factors = torch.tensor([4.0, 0.25])
    torch.testing.assert_close(
        start.log_marginal_likelihood(factors), other.log_marginal_likelihood(), rtol=1e-9, atol=0
    )
    fitted = start.fit_prior(per_layer=True)
    slopes = torch.autograd.functional.jacobian(
        lambda v: fitted.log_marginal_likelihood(v[:2].exp(), v[2].exp()),
        torch.cat([fitted.prior_precision, fitted.noise_scale.reshape(1)]).log(),
    )
    assert (slopes.abs() < 1e-3).all()
    assert fitted.log_marginal_likelihood() >= start.fit_prior().log_marginal_likelihood() - 1e-6


def test_kron_is_exact_within_layers_for_one_datum_and_for_linear_nets() -> None:
    net, model = classifier(MLP(2, [3], 3, nn.Tanh))
    one = {"x": torch.randn(1, 2), "y": torch.zeros(1).long()}
    deep = pv.Bayesian(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), normal(0.7))
    linear = pv.Model(y=pv.Node(FixedScaleNormalHead(deep, scale=0.3), "x"))
    many = {"x": torch.randn(8, 2), "y": torch.randn(8, 2)}
    for part, program, batch in ((net, model, one), (deep, linear, many)):
        full = fit_laplace(program, point(part), batch, Full())
        kron = fit_laplace(program, point(part), batch, Kron())
        blocks = full.weights.spread(torch.arange(2.0))
        matrix = torch.where(blocks.unsqueeze(1) == blocks, full.curvature.matrix, 0.0)
        expected = torch.logdet(0.5 * matrix + 3.0 * torch.eye(len(matrix)))
        found = kron.curvature.log_det(torch.full((2,), 3.0), torch.tensor(0.5))
        torch.testing.assert_close(found, expected)
        assert_moments(
            draws_of(kron.guide(part)),
            kron.weights.loc,
            0.7**2 * torch.linalg.inv(matrix + torch.eye(len(matrix))),
        )


def test_kron_of_several_data_is_the_product_of_averages() -> None:
    net, model = classifier(nn.Linear(2, 3), fan_in(0.5, 2.0))
    batch = {"x": torch.randn(7, 2), "y": torch.zeros(7).long()}
    p = (batch["x"] @ net.initial["weight"].T + net.initial["bias"]).softmax(-1)
    rows = with_one(batch["x"]) * torch.tensor([0.5 / 2**0.5, 0.5 / 2**0.5, 2.0])
    factor = (torch.diag(p.sum(0)) - p.T @ p) / 7
    expected = torch.logdet(torch.kron(factor, rows.T @ rows) + torch.eye(9))
    found = fit_laplace(model, point(net), batch).curvature
    torch.testing.assert_close(found.log_det(torch.ones(1), torch.tensor(1.0)), expected)


class Convolution(nn.Module):
    """One convolution whose outputs are the logits, or their means over places."""

    in_shape = (2, 4, 3)

    def __init__(self, **settings) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(-2).mean(-1)


def test_a_kernel_as_large_as_the_image_is_a_linear_layer() -> None:
    conv = Convolution(kernel_size=(4, 3))
    net, model = classifier(conv)
    flat = nn.Linear(24, 3)
    flat.weight.data, flat.bias.data = conv.conv.weight.data.flatten(1), conv.conv.bias.data
    dense, linear = classifier(flat)
    x, y = torch.randn(6, 2, 4, 3), torch.arange(6) % 3
    found = fit_laplace(model, point(net), {"x": x, "y": y})
    expected = fit_laplace(linear, point(dense), {"x": x.flatten(1), "y": y})
    torch.testing.assert_close(found.log_marginal_likelihood(), expected.log_marginal_likelihood())
    one = {"x": x[:1], "y": y[:1]}
    exact = fit_laplace(model, point(net), one, Full())
    torch.testing.assert_close(fit_laplace(model, point(net), one).log_det(), exact.log_det())
    guide = found.guide(net)
    with pyro.plate("particles", 5, dim=-2):
        assert guide()["w.conv.weight"].shape == (5, 1, 3, 2, 4, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": (3, 2), "padding": 1, "dilation": (1, 2)},
        {"kernel_size": 3, "padding": "same", "padding_mode": "circular", "bias": False},
    ],
)
def test_factors_of_a_convolution_by_loops_over_places(settings: dict) -> None:
    conv = Convolution(**settings)
    net, model = classifier(conv, normal(1.0))
    x = torch.randn(5, 2, 4, 3)
    mode = point(net)
    weight = mode["w.conv.weight"]
    outputs = conv.conv(x)
    places = outputs[0, 0].numel()
    patches = []
    for index in range(weight[0].numel()):  # the input that each weight multiplies
        probe = torch.zeros(1, weight[0].numel())
        probe[0, index] = 1.0
        layer = nn.Conv2d(2, 1, **{**settings, "bias": False})
        layer.weight.data = probe.reshape(1, *weight.shape[1:])
        patches.append(layer(x).detach().flatten())
    rows = torch.stack(patches, 1)
    if conv.conv.bias is not None:
        rows = with_one(rows)
    p = outputs.flatten(2).mean(-1).softmax(-1)
    factor = (torch.diag(p.sum(0)) - p.T @ p) / places**2 * places / (5 * places)
    expected = torch.logdet(torch.kron(factor, rows.T @ rows) + torch.eye(3 * rows.shape[1]))
    batch = {"x": x, "y": torch.zeros(5).long()}
    found = fit_laplace(model, mode, batch).curvature
    torch.testing.assert_close(found.log_det(torch.ones(1), torch.tensor(1.0)), expected)


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class Tripled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, 3.0 * self.weight, self.bias)


@pytest.mark.parametrize(
    "layers, words",
    [(Tied, r"'w.a.weight' and \['w.b.weight'\] are one"), (lambda: Tripled(3, 3), "not weights")],
)
def test_kron_refuses_layers_whose_factors_it_does_not_see(layers, words: str) -> None:
    net, model = classifier(layers())
    batch = {"x": torch.randn(4, 3), "y": torch.arange(4) % 3}
    with pytest.raises(pv.PairError, match=words):
        fit_laplace(model, point(net), batch)
    assert fit_laplace(model, point(net), batch, Full()).log_det().isfinite()


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.mark.parametrize("kind", [Kron(), LowRank(5), Diagonal()])
def test_memory_is_linear_in_the_weights(kind) -> None:
    net, model = classifier(MLP(30, [40, 40], 3))
    batch = {"x": torch.randn(4, 30), "y": torch.zeros(4).long()}
    with Sizes() as sizes:
        posterior = fit_laplace(model, point(net), batch, kind)
        posterior.fit_prior(per_layer=True).guide(net)()
    size = posterior.weights.size
    limit = {Kron: 2 * 41**2, LowRank: 15 * size, Diagonal: 12 * size}[type(kind)]
    assert size < 3100 and sizes.largest <= max(limit, size) < size**2 / 100


@pytest.mark.parametrize(
    "head",
    [
        lambda net: BernoulliHead(net),
        lambda net: PoissonHead(net),
        lambda net: NormalHead(net),
        lambda net: StudentTHead(net),
    ],
)
def test_other_likelihoods_agree_with_drawn_targets(head) -> None:
    """The exact Fisher information against the mean over targets drawn from the model."""
    net = pv.Bayesian(nn.Linear(2, 2), normal(1.0))
    model = pv.Model(y=pv.Node(head(net), "x"))
    batch = {"x": torch.randn(3, 2)}
    batch["y"] = model(**batch)["y"].detach()
    mode = point(net)
    draws = 500
    posterior = fit_laplace(model, mode, batch, Full(), num_draws=draws)
    matrix = posterior.curvature.matrix + torch.eye(6)
    _, tril = laplace(model, mode, batch, full=True, num_draws=400)
    sampled = torch.linalg.inv(tril @ tril.T)
    scale = matrix.diagonal().sqrt()
    # scores have at most about 10 times the kurtosis of a normal here: errors of (10 / 400)^(1/2)
    assert ((matrix - sampled) / scale / scale.unsqueeze(1)).abs().max() < 0.35
    kron = fit_laplace(model, mode, {k: v[:1] for k, v in batch.items()}, num_draws=5)
    assert kron.log_det().isfinite()
    assert (posterior.observations > 0) is False


def test_predictions_have_the_fitted_noise() -> None:
    exact = bayesian_regression()
    batch = exact.batch
    posterior = fit_laplace(exact.model, exact.values(exact.mean), batch).fit_prior()
    linear = posterior.linearize(exact.model)
    found = pv.predict_moments(linear, posterior.guide(exact.net), batch, num_samples=9, site="y")
    noise = exact.noise * posterior.noise_scale
    torch.testing.assert_close(found.aleatoric, (noise**2).expand(12, 1))
    assert noise != exact.noise and repr(posterior).count("\n") == 0
    draws = posterior.guide(exact.net)
    held = pyro.condition(linear, data=exact.values(exact.mean))
    expected = dist.Normal(with_one(batch["x"]) @ exact.mean, noise).log_prob(
        batch["y"].squeeze(-1)
    )
    log_p = pv.log_predictive(held, draws, batch, num_samples=1)
    torch.testing.assert_close(log_p, expected)


def test_one_factor_of_the_precisions_by_a_score(caplog: pytest.LogCaptureFixture) -> None:
    net = pv.Bayesian(MLP(2, [3], 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    batch = {"x": torch.randn(5, 2), "y": torch.randn(5, 1)}
    posterior = fit_laplace(model, point(net), batch).fit_prior(per_layer=True)
    start = posterior.prior_precision
    seen, state = [], torch.get_rng_state()

    def score(other: LaplacePosterior) -> float:
        seen.append(float(torch.randn(())))
        factor = other.prior_precision / start
        assert torch.allclose(factor, factor[0])
        return -((float(factor[0].log10()) - 1.7) ** 2)

    found = tune_prior(posterior, score)
    assert not caplog.text
    torch.testing.assert_close(found.prior_precision, start * 10 ** (5 / 3))
    assert len(set(seen)) == 1 and torch.equal(state, torch.get_rng_state())
    ends = tune_prior(posterior, lambda other: float(other.prior_precision[0]), largest=1e3)
    torch.testing.assert_close(ends.prior_precision, start * 1e3)
    assert "is the largest of those tried (1000): the held-out data want the mode" in caplog.text
    last = [math.nan] * 8 + [0.0] + [math.nan] * 4
    torch.testing.assert_close(
        tune_prior(posterior, lambda other: last.pop(0)).prior_precision, start * 1e6
    )
    with pytest.raises(ValueError, match="0 < smallest < largest"):
        tune_prior(posterior, score, smallest=10.0, largest=1.0)
    with pytest.raises(ValueError, match="NaN at every factor"):
        tune_prior(posterior, lambda other: math.nan)


def masked_program(exact: Regression, how: str):
    net = exact.net

    def model(x: Tensor, seen: Tensor, y: Tensor | None = None) -> None:
        with net.drawn(), pyro.plate("data", len(x)):
            fn = dist.Normal(pyro.deterministic("mean", net(x), event_dim=1), exact.noise)
            fn = fn.to_event(1)
            if how == "obs_mask":
                pyro.sample("y", fn, obs=y, obs_mask=seen)
            elif how == "fn.mask":
                pyro.sample("y", fn.mask(seen), obs=y)
            elif how == "poutine.mask":
                with pyro.poutine.mask(mask=seen):
                    pyro.sample("y", fn, obs=y)
            else:
                with pyro.poutine.scale(scale=0.5):
                    pyro.sample("y", fn, obs=y)

    return model


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("how", ["fn.mask", "poutine.mask"])
def test_masked_data_are_as_if_left_out(kind: str, how: str) -> None:
    exact = bayesian_regression()
    seen = torch.arange(12) % 3 > 0
    few = {name: value[seen] for name, value in exact.batch.items()}
    mode, curvature = exact.values(exact.mean), EXACT[kind]
    expected = fit_laplace(exact.model, mode, few, curvature).fit_prior()
    program, batch = masked_program(exact, how), {**exact.batch, "seen": seen}
    found = fit_laplace(program, mode, batch, curvature).fit_prior()
    torch.testing.assert_close(found.log_det(), expected.log_det())
    torch.testing.assert_close(found.noise_scale, expected.noise_scale)
    torch.testing.assert_close(found.log_marginal_likelihood(), expected.log_marginal_likelihood())


@pytest.mark.parametrize(
    "how, words", [("scale", "'y' is scaled by 0.5"), ("obs_mask", "missing values .obs_mask=")]
)
def test_scaled_and_missing_targets_are_refused(how: str, words: str) -> None:
    exact = bayesian_regression()
    program, batch = masked_program(exact, how), {**exact.batch, "seen": torch.ones(12).bool()}
    for fit in (fit_laplace, laplace):
        with pytest.raises(pv.PairError, match=words):
            fit(program, exact.values(exact.mean), batch)


def test_what_stays_fixed_and_what_is_refused() -> None:
    net = pv.Bayesian(MLP(2, [3], 1), normal(1.0))
    model = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(net), "x", "v")
    )
    batch = {"x": torch.randn(5, 2), "y": torch.randn(5, 1)}
    fixed = pyro.condition(model, data={"v": torch.tensor(0.25)})
    state = torch.get_rng_state()
    found = fit_laplace(fixed, point(net), batch)
    assert torch.equal(state, torch.get_rng_state())
    reference = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    other = fit_laplace(reference, point(net), batch)
    torch.testing.assert_close(found.log_marginal_likelihood(), other.log_marginal_likelihood())
    with pytest.raises(pv.PairError, match=r"\['v'\].*pyro.condition"):
        fit_laplace(model, point(net), batch)
    with pytest.raises(pv.PairError, match="hold no 'y'"):
        fit_laplace(reference, point(net), {"x": batch["x"]})
    with pytest.raises(ValueError, match="expected one number or one for each of the 2 layers"):
        found.log_marginal_likelihood(torch.ones(3))
    mixed = pv.Bayesian(MLP(2, [3], 2), scale_mixture())
    classes = {"x": batch["x"], "y": torch.zeros(5).long()}
    with pytest.raises(pv.PairError, match="expected a Normal, whose precision"):
        fit_laplace(pv.Model(y=pv.Node(CategoricalHead(mixed), "x")), point(mixed), classes)
    normed, program = classifier(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))
    with pytest.raises(pv.PairError, match=r"\['w.1.bias', 'w.1.weight'\].*not weights"):
        fit_laplace(program, point(normed), classes)
    assert fit_laplace(program, point(normed), classes, Full()).log_det().isfinite()
    layers = MLP(2, [3], 3)
    part, program = classifier(layers, last_layer(layers, normal(1.0)))
    last = fit_laplace(program, point(part), classes)
    full = fit_laplace(program, point(part), {k: v[:1] for k, v in classes.items()}, Full())
    assert len(last.layers) == 1 and full.weights.size == 12
    with pytest.raises(ValueError, match="no noise to scale"):
        last.log_marginal_likelihood(1.0, 2.0)
    uneven = pv.Bayesian(
        nn.Linear(2, 3), lambda site, v: dist.Normal(0.0 * v, 1.0 + torch.rand_like(v))
    )
    with pytest.raises(pv.PairError, match="differ between the outputs"):
        fit_laplace(pv.Model(y=pv.Node(CategoricalHead(uneven), "x")), point(uneven), classes)
    assert math.isfinite(other.fit_prior().log_marginal_likelihood())
