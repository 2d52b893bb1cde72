"""Weight noise for each datum: its moments, its gradients, and where it does not reach."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import assert_mean, assert_moments, bayesian_regression
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MCDropout, MeanField, PointEstimate, Radial
from pyrovae.bnn.priors import fan_in, normal, scale_mixture
from pyrovae.core.provenance import origins
from pyrovae.core.traces import run_guide, run_model
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import CategoricalHead, FixedScaleNormalHead
from pyrovae.nets import MLP

LOCAL = {"local": pv.LocalReparameterization, "flipout": pv.Flipout}


def outputs(net: pv.Bayesian, guide: Callable, x: Tensor, particles: int | None) -> Tensor:
    """What the net returns under the guide's weights, `(K, B, *out)`; without vectorised particles
    `(B, *out)`."""

    def program(x: Tensor) -> Tensor:
        with net.drawn():
            return net(x)

    return (
        run_model(program, run_guide(guide, {"x": x}, particles), {"x": x}, particles)
        .nodes["_RETURN"]["value"]
        .detach()
    )


def spread_out(guide: MeanField) -> MeanField:
    """Unlike means and scales."""
    size = sum(loc.numel() for loc in guide.loc)
    return guide.set(torch.randn(size), 0.2 + torch.rand(size))


@pytest.mark.parametrize("particles", [True, False], ids=["vectorised", "one by one"])
@pytest.mark.parametrize("handler", LOCAL)
def test_outputs_of_a_linear_layer(handler: str, particles: bool) -> None:
    net = pv.Bayesian(nn.Linear(3, 2))
    guide, x = spread_out(MeanField(net)), torch.randn(2, 3)
    (loc, scale), (bias, bias_scale) = guide.moments().values()
    with LOCAL[handler]():
        draws = (
            outputs(net, guide, x, 20_000)
            if particles
            else torch.stack([outputs(net, guide, x, None) for _ in range(1000)])
        )
    assert draws.shape[1:] == (2, 2)
    mean, own = x @ loc.T + bias, x**2 @ (scale**2).T
    for row in range(2):
        assert_moments(draws[:, row], mean[row], torch.diag(own[row] + bias_scale**2))
    shared = (
        bias_scale**2 if handler == "flipout" else torch.zeros(2)
    )  # flipout gives signs to the weights alone
    assert_mean((draws[:, 0] - mean[0]) * (draws[:, 1] - mean[1]), shared)
    assert_mean((draws[:, 0] - mean[0]) * (draws[:, 1] - mean[1]).flip(-1), 0.0)
    if particles:
        plain = outputs(net, guide, x, 20_000)
        assert_mean(
            (plain[:, 0] - mean[0]) * (plain[:, 1] - mean[1]),
            (x[0] * x[1]) @ (scale**2).T + bias_scale**2,
        )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("handler", LOCAL)
def test_outputs_of_a_convolution(handler: str, bias: bool) -> None:
    """Mean and variance of each pixel; pixels of one datum keep their covariance under flipout
    alone."""
    net = pv.Bayesian(
        nn.Conv2d(2, 2, (1, 2), padding=(0, 1), stride=(1, 2), bias=bias), event_dim=3
    )
    guide, x = spread_out(MeanField(net)), torch.randn(2, 2, 1, 2)
    plain = outputs(net, guide, x, 20_000)
    with LOCAL[handler]():
        draws = outputs(net, guide, x, 20_000)
    moments = list(guide.moments().values())
    args = {"padding": (0, 1), "stride": (1, 2)}
    mean = nn.functional.conv2d(x, moments[0][0], moments[1][0] if bias else None, **args)
    variance = nn.functional.conv2d(
        x**2, moments[0][1] ** 2, moments[1][1] ** 2 if bias else None, **args
    )
    for values in (plain, draws):
        assert_mean(values, mean)
        assert_mean((values - mean) ** 2, variance)
    if handler == "flipout":
        expected = (plain - mean)[..., 0] * (plain - mean)[..., 1]
        got = (draws - mean)[..., 0] * (draws - mean)[..., 1]
        error = ((expected.var(0) + got.var(0)) / 20_000).sqrt()
        assert ((expected.mean(0) - got.mean(0)).abs() <= 5 * error + 1e-10).all()


def test_one_vectorised_particle_and_dead_inputs() -> None:
    net = pv.Bayesian(nn.Linear(3, 2, bias=False))
    guide, x = MeanField(net, init_scale=0.5), torch.cat([torch.zeros(1, 3), torch.randn(4, 3)])
    with pv.LocalReparameterization():
        value = outputs(net, guide, x, 1)
    assert value.shape == (1, 5, 2)
    torch.testing.assert_close(value[0, 0], torch.zeros(2))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    with pv.LocalReparameterization():
        pv.ElboLoss(model, guide, num_data=5)(x=x, y=torch.zeros(5, 2)).backward()
    assert all(torch.isfinite(p.grad).all() for p in guide.parameters())


def test_the_loss_stays_and_its_gradient_is_less_noisy() -> None:
    net = pv.Bayesian(MLP(3, [], 1), normal(1.0))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    guide = spread_out(MeanField(net))
    batch = {"x": torch.randn(30, 3), "y": torch.randn(30, 1)}
    loss = pv.ElboLoss(model, guide, num_data=30, elbo=TraceMeanField_ELBO())
    kinds = {"plain": pyro.poutine.block, **LOCAL}
    values, noise = {}, {}
    for name, kind in kinds.items():
        with kind():
            with torch.no_grad(), pyro.validation_enabled(False):
                values[name] = torch.stack([loss(**batch) for _ in range(200)])
            noise[name] = sum(
                variance.sum() for _, variance in gradient_moments(loss, batch, 100).values()
            )
    for name in LOCAL:
        error = (values[name].var() / 200 + values["plain"].var() / 200).sqrt()
        assert (values[name].mean() - values["plain"].mean()).abs() < 5 * error
    assert noise["local"] < 0.3 * noise["plain"] and noise["flipout"] < 0.6 * noise["plain"]


@pytest.mark.parametrize("prior", [normal(1.0), fan_in(), scale_mixture()])
@pytest.mark.parametrize(
    "make",
    [
        PointEstimate,
        lambda net: JointNormal(net, init_scale=0.5),
        Radial,
        lambda net: MCDropout(net, 0.5, by_weight=True),
    ],
)
@pytest.mark.parametrize("handler", LOCAL)
def test_draws_that_are_not_normal_are_used_as_they_are(
    handler: str, make: Callable, prior: Callable
) -> None:
    net = pv.Bayesian(nn.Linear(3, 2), prior)
    guide, x = make(net), torch.randn(4, 3)
    for particles in (None, 3):
        draws = run_guide(guide, {"x": x}, particles)
        weight, bias = (draws.nodes[f"w.{name}"]["value"] for name in ("weight", "bias"))
        with LOCAL[handler]():
            pyro.set_rng_seed(5)
            value = outputs(net, guide, x, particles)
        pyro.set_rng_seed(5)
        torch.testing.assert_close(value, outputs(net, guide, x, particles))
        with LOCAL[handler]():  # drawn before the block: they may be used in it, not drawn anew
            model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
            trace = run_model(model, draws, {"x": x}, particles)
        torch.testing.assert_close(
            trace.nodes["y"]["fn"].mean,
            x @ weight.squeeze(1).mT + bias if particles else x @ weight.T + bias,
        )


@pytest.mark.parametrize("handler", LOCAL)
def test_normal_draws_from_before_the_block_are_used_as_they_are(handler: str) -> None:
    net = pv.Bayesian(nn.Linear(3, 2))
    guide, x = MeanField(net, init_scale=0.5), torch.randn(4, 3)
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
    draws = run_guide(guide, {"x": x}, 3)
    expected = run_model(model, draws, {"x": x}, 3).nodes["y"]["fn"].mean
    with LOCAL[handler]():
        torch.testing.assert_close(
            run_model(model, draws, {"x": x}, 3).nodes["y"]["fn"].mean, expected
        )


def test_nothing_leaks() -> None:
    net = pv.Bayesian(nn.Linear(3, 1))
    guide, x = MeanField(net, init_scale=0.5), torch.ones(2, 3)

    def differ() -> bool:
        first, second = outputs(net, guide, x, None)
        return bool((first - second).abs() > 1e-6)

    assert not differ()
    with pv.LocalReparameterization():
        assert differ()
    assert not differ() and origins.get() is None
    with pytest.raises(ZeroDivisionError), pv.Flipout():
        1 / 0
    assert not differ() and origins.get() is None
    with pv.LocalReparameterization() as outer:
        with pytest.raises(ValueError, match="twice"), outer:
            pass
        with pv.LocalReparameterization():
            assert differ()
        assert differ()
    assert not differ() and origins.get() is None
    for _ in range(2):  # one object may be used again
        with outer:
            assert differ()
    assert not differ() and origins.get() is None


def test_the_inner_of_two_handlers_counts() -> None:
    """Flipout shares the bias between data, local reparameterisation draws it for each."""
    net = pv.Bayesian(nn.Linear(1, 1))
    guide, x = MeanField(net).set(torch.zeros(2), torch.tensor([1e-9, 1.0])), torch.zeros(2, 1)
    for outer, inner in (
        (pv.Flipout, pv.LocalReparameterization),
        (pv.LocalReparameterization, pv.Flipout),
    ):
        with outer(), inner():
            first, second = outputs(net, guide, x, None)
        assert (first == second).item() == (inner is pv.Flipout)


@pytest.mark.parametrize("num_samples", [3, 2000])
def test_prediction_inside_draws_from_the_guide(num_samples: int) -> None:
    """Not from the prior, however the draws are cut into parts."""
    net = pv.Bayesian(nn.Linear(1, 1), normal(100.0))
    guide = MeanField(net, init_scale=1e-6).set(torch.tensor([2.0, 1.0]), torch.full((2,), 1e-6))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
    batch = {"x": torch.randn(5, 1), "y": torch.randn(5, 1)}
    expected = dist.Normal(2 * batch["x"] + 1, 1.0).log_prob(batch["y"]).squeeze(-1)
    for handler in LOCAL.values():
        with handler():
            torch.testing.assert_close(
                pv.log_predictive(model, guide, batch, num_samples=num_samples),
                expected,
                atol=1e-4,
                rtol=0,
            )
            assert (
                pv.predict_moments(model, guide, batch, num_samples=num_samples).epistemic.max()
                < 1e-6
            )


def test_prediction_inside_has_noise_for_each_datum() -> None:
    exact = bayesian_regression()
    guide = spread_out(MeanField(exact.net))
    with pv.LocalReparameterization():
        moments = pv.predict_moments(exact.model, guide, exact.batch, num_samples=20_000)
    (loc, scale), (bias, bias_scale) = guide.moments().values()
    variance = (exact.batch["x"] ** 2 @ (scale**2).T + bias_scale**2).detach()
    error = variance * (2 / 20_000) ** 0.5
    assert ((moments.epistemic - variance).abs() < 5 * error).all()


def test_two_layers_classify_alike_on_average() -> None:
    net = pv.Bayesian(MLP(3, [5], 4))
    model, x = pv.Model(y=pv.Node(CategoricalHead(net), "x")), torch.randn(3, 3)
    guide = spread_out(MeanField(net))

    def probabilities() -> Tensor:
        return outputs(net, guide, x, 5000).softmax(-1)

    plain = probabilities()
    for handler in LOCAL.values():
        with handler():
            local = probabilities()
        error = ((plain.var(0) + local.var(0)) / 5000).sqrt()
        assert ((plain.mean(0) - local.mean(0)).abs() < 5 * error).all()
    with pv.LocalReparameterization():
        pv.check(model, guide, {"x": x, "y": torch.zeros(3).long()}, num_data=3)


def test_dropout_masks_are_each_datums_own() -> None:
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    guide, x = MCDropout(net, rate=0.3), torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    weight = guide.loc[0].detach()[0]
    with pv.LocalReparameterization():
        draws = outputs(net, guide, x, 20_000).squeeze(-1)
    plain = outputs(net, guide, x, 20_000).squeeze(-1)
    mean = 0.7 * x @ weight
    covariance = 0.21 * (x * weight) @ (x * weight).T
    assert_moments(plain, mean, covariance)
    assert_moments(draws, mean, torch.diag(covariance.diagonal()))


def test_dropout_of_images_drops_whole_channels() -> None:
    net = pv.Bayesian(nn.Conv2d(6, 1, 2, bias=False), event_dim=3)
    nn.init.ones_(net.initial["weight"])
    guide, x = (
        MCDropout(net, rate=0.5),
        torch.ones(5, 6, 3, 3) * (7.0 ** torch.arange(6)).reshape(6, 1, 1),
    )
    for handler in (pv.LocalReparameterization, pyro.poutine.block):
        with handler():
            value = (
                outputs(net, guide, x, 4)
                if handler is pv.LocalReparameterization
                else outputs(net, guide, x, None)
            )
        assert (value == value[..., :1, :1]).all()  # all pixels miss the same channels
    with pv.LocalReparameterization():
        assert len(outputs(net, guide, x, 4)[..., 0, 0].unique()) > 10
    assert len(outputs(net, guide, x, None)[..., 0, 0].unique()) == 1


def test_training_of_dropout_with_masks_of_their_own_is_unbiased() -> None:
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    guide = MCDropout(net, rate=0.3)
    batch = {"x": torch.randn(6, 2), "y": torch.randn(6, 1)}
    loss = pv.ElboLoss(
        model, guide, num_data=6, elbo=Trace_ELBO(num_particles=50, vectorize_particles=True)
    )
    exact = 0.0
    for mask, probability in (((1, 1), 0.49), ((1, 0), 0.21), ((0, 1), 0.21), ((0, 0), 0.09)):
        weight = guide.loc[0].detach() * torch.tensor(mask)
        exact -= (
            probability
            * (
                dist.Normal(batch["x"] @ weight.T, 0.5).log_prob(batch["y"]).sum()
                + dist.Normal(0.0, 1.0).log_prob(weight).sum()
            )
            / 6
        )
    for handler in (pyro.poutine.block, pv.LocalReparameterization):
        with handler():
            assert_mean(torch.stack([loss(**batch).detach() for _ in range(100)]), exact)


class Squared(nn.Module):
    """A layer beside which its weight is used in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.linear.weight.square().sum()


class Transposed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    net[1].weight = net[0].weight
    return net


def auto(model: nn.Module) -> AutoNormal:
    guide = AutoNormal(model, init_scale=0.7)
    guide(x=torch.zeros(1, 2), y=torch.zeros(1, 1))
    return guide


def mean_field(model: nn.Module) -> MeanField:
    return MeanField(model, init_scale=0.7)


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))


@pytest.mark.parametrize(
    "make_net, make_guide, is_drawn",
    [
        (layers, mean_field, False),
        (layers, auto, True),
        (Squared, mean_field, True),
        (tied, mean_field, True),
        (lambda: Transposed(2, 1, bias=False), mean_field, True),
    ],
)
@pytest.mark.parametrize("handler", LOCAL.values())
def test_prediction_draws_the_weights_only_where_their_numbers_are_needed(
    make_net: Callable[[], nn.Module],
    make_guide: Callable,
    is_drawn: bool,
    handler: type,
    monkeypatch: pytest.MonkeyPatch,
    uses_param_store: None,
) -> None:
    model = pv.Model(
        y=pv.Node(FixedScaleNormalHead(pv.Bayesian(make_net(), event_dim=1), scale=0.1), "x")
    )
    guide, drawn, draw = make_guide(model), [], dist.Normal.rsample
    is_drawn = is_drawn or handler is pv.Flipout
    monkeypatch.setattr(
        dist.Normal,
        "rsample",
        lambda fn, shape=torch.Size(): drawn.append(fn.loc.shape[-2:]) or draw(fn, shape),
    )
    x = torch.randn(3, 2)
    with handler():
        local = pv.predict_moments(model, guide, {"x": x}, num_samples=20_000)
    if make_guide is mean_field:  # the targets are drawn in any case
        assert any(loc.shape in drawn for loc, _ in guide.moments().values()) == is_drawn
    plain = pv.predict_moments(model, guide, {"x": x}, num_samples=20_000)
    assert local.mean.isfinite().all() and (local.epistemic > 0.3 * plain.epistemic).all()
    if make_net in (Squared, tied):  # whose two uses of a weight are drawn apart
        return
    error = ((plain.epistemic + local.epistemic) / 20_000).sqrt()
    assert ((plain.mean - local.mean).abs() < 5 * error).all()
    assert torch.allclose(local.epistemic, plain.epistemic, rtol=0.15)
