"""What every conditional promises: shapes, a normalised density that matches its draws, gradients,
independence."""

import conformance
import pyro
import pyro.distributions as dist
import pytest
import torch
from conformance import CONDITIONALS, WEIGHT_GUIDES, WEIGHT_PRIORS, Case, fingerprint, parents_of
from pyro import poutine
from pyro.distributions.testing.gof import auto_goodness_of_fit
from pyro.infer import Trace_ELBO
from torch import nn
from torch.distributions import biject_to, constraints

import pyrovae as pv
from pyrovae.core.broadcasting import Particles
from pyrovae.core.log_weights import log_weights_of
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.traces import run_guide, run_model
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    FixedScaleNormalHead,
    LearnedScaleNormalHead,
)
from pyrovae.nets import MLP, ConvDecoder, ConvEncoder, Standardized
from pyrovae.programs.adapter import as_pyro

TEST_FAILURE_RATE = 2e-5
"""Chance that a right component fails one goodness-of-fit test (as in Pyro's own suite)."""

every_conditional = pytest.mark.parametrize("name", CONDITIONALS)


def build(name: str) -> tuple[Case, nn.Module]:
    case = CONDITIONALS[name]
    return case, case.make().double()


@every_conditional
@pytest.mark.parametrize("batch", [(5,), (1, 5), (3, 5)])
def test_shapes(name: str, batch: tuple[int, ...]) -> None:
    case, module = build(name)
    fn = as_pyro(module(*parents_of(case, *batch)))
    assert fn.event_shape == case.event and fn.batch_shape == (batch if case.parents else ())
    value = fn.expand(batch)()
    assert value.shape == (*batch, *case.event) and fn.log_prob(value).shape == batch
    assert fn.log_prob(value).dtype == torch.float64


@every_conditional
def test_particles_and_data_in_programs(name: str) -> None:
    case, module = build(name)
    sources = {
        f"s{i}": dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))
        for i, shape in enumerate(case.parents)
    }

    class Source(nn.Module):
        def __init__(self, fn: dist.Distribution) -> None:
            super().__init__()
            self.fn = fn

        def forward(self) -> dist.Distribution:
            return self.fn

    nodes = {name: Source(fn) for name, fn in sources.items()}
    model = pv.Model(**nodes, v=pv.Node(module, *sources))
    value = model(num=5)["v"]
    guide = pv.Guide(**nodes) if nodes else lambda v: None
    weights = pv.log_weights(model, guide, {"v": value}, 3)
    assert weights.shape == (3, 5)
    if not nodes:
        torch.testing.assert_close(weights, module().log_prob(value).expand(3, 5))


@every_conditional
def test_every_parameter_gets_a_gradient(name: str) -> None:
    case, module = build(name)
    if not list(module.parameters()):
        pytest.skip("has no parameters")
    value = as_pyro(module(*parents_of(case, 5))).expand((5,))().detach()
    fn = as_pyro(module(*parents_of(case, 5)))
    fingerprint(fn, value).sum().backward()
    for parameter, tensor in module.named_parameters():
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), parameter
        assert tensor.grad.abs().sum() > 0, parameter


@every_conditional
def test_a_datum_does_not_depend_on_its_neighbours(name: str) -> None:
    case, module = build(name)
    parents = parents_of(case, 6)
    fn = as_pyro(module(*parents))
    value = fn.expand((6,))().detach()
    together = fingerprint(fn.expand((6,)), value)
    alone = torch.cat(
        [
            fingerprint(
                as_pyro(module(*(p[i : i + 1] for p in parents))), value[i : i + 1]
            ).expand(1)
            for i in range(6)
        ]
    )
    torch.testing.assert_close(alone, together)
    eval_fn = as_pyro(module.eval()(*parents))
    torch.testing.assert_close(fingerprint(eval_fn.expand((6,)), value), together)


@every_conditional
def test_state_round_trip_precision_and_repr(name: str, tmp_path: object) -> None:
    case, module = build(name)
    other = case.make().double()
    pv.save_weights(module, tmp_path / "weights")
    pv.load_weights(other, tmp_path / "weights")
    parents = parents_of(case, 4)
    fn, twin = as_pyro(module(*parents)), as_pyro(other(*parents))
    value = fn.expand((4,))().detach()
    assert torch.equal(fingerprint(fn, value), fingerprint(twin, value))
    single = as_pyro(module.float()(*(p.float() for p in parents)))
    assert single.log_prob(value.float()).dtype == torch.float32
    assert type(module).__name__ in repr(module)


@every_conditional
def test_density_is_normalised(name: str) -> None:
    case, module = build(name)
    fn = as_pyro(module(*parents_of(case)) if case.parents else module())
    with torch.no_grad():
        total = sum_or_integral(fn, 451 if case.kinks else 401)
    if total is None:
        factors = conformance.factors_of(fn)
        total = torch.stack(
            [
                sum_or_integral(
                    as_pyro(
                        type(factors)(
                            **{
                                name: getattr(factors, name).flatten()[i : i + 1]
                                for name in factors.arg_constraints
                                if name in factors.__dict__
                            }
                        ).to_event(1)
                    )
                )
                for i in range(factors.batch_shape.numel())
            ]
        )
    assert (torch.as_tensor(total) - 1).abs().max() < (1e-3 if case.kinks else 1e-5)


def sum_or_integral(fn: dist.Distribution, points: int = 401) -> torch.Tensor | None:
    """Total mass by enumeration, or by a grid over at most two real dims; None where there are
    more."""
    if isinstance(fn, dist.Delta):
        return fn.log_prob(fn.mean).exp()
    if (grid := conformance.one_hot_grid(fn)) is not None:
        return fn.log_prob(grid).exp().sum()
    size, values = fn.event_shape.numel(), conformance.values_of(fn)
    if values is not None:
        return (
            fn.log_prob(torch.cartesian_prod(*[values] * size).reshape(-1, *fn.event_shape))
            .exp()
            .sum()
        )
    if size > 2:
        return None
    axis, log_widths = real_grid(conformance.support_of(fn), points)
    grid, cells = (
        torch.cartesian_prod(*[part] * size).reshape(-1, *fn.event_shape)
        for part in (axis, log_widths)
    )
    return (fn.log_prob(grid) + cells.flatten(1).sum(-1)).exp().sum()


def real_grid(support: constraints.Constraint, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of an interval and the logs of their widths: even steps of t in x = f(sinh(t)), f
    from R to the interval.

    Below the least standard deviation here near 0, and as far out as heavy tails reach: the sum is
    as good as exact.
    """
    t = torch.linspace(-8.0, 8.0, points)
    transform = biject_to(support)
    x = transform(t.sinh())
    return x, transform.log_abs_det_jacobian(t.sinh(), x) + t.cosh().log() + (t[1] - t[0]).log()


@every_conditional
def test_draws_follow_the_density(name: str) -> None:
    case, module = build(name)
    fn = as_pyro(module(*parents_of(case)) if case.parents else module())
    factors, values = conformance.factors_of(fn), conformance.values_of(fn)
    with torch.no_grad():
        draws = fn(torch.Size([20_000]))
        if isinstance(fn, dist.Delta):
            assert (draws == fn.mean).all()
        elif (grid := conformance.one_hot_grid(fn)) is not None:
            observed = torch.stack([(draws == v).flatten(1).all(-1).double().mean() for v in grid])
            expected = fn.log_prob(grid).exp()
            error = (expected * (1 - expected) / 20_000).sqrt() + 1 / 20_000
            assert ((observed - expected).abs() <= 5 * error).all()
        elif (
            values is not None
        ):  # exact probabilities of each value, dim by dim where dims are independent
            if factors is not None:
                each = values.reshape(-1, *[1] * len(case.event)).expand(-1, *factors.batch_shape)
                expected = factors.log_prob(each).exp()
                observed = torch.stack([(draws == v).double().mean(0) for v in values])
            else:
                grid = torch.cartesian_prod(*[values] * fn.event_shape.numel())
                expected = fn.log_prob(grid).exp()
                observed = torch.stack([(draws == v).all(-1).double().mean(0) for v in grid])
            error = (
                expected * (1 - expected) / 20_000
            ).sqrt() + 1 / 20_000  # rare values are Poisson, not normal
            assert ((observed - expected).abs() <= 5 * error).all()
        else:
            probs = fn.log_prob(draws).exp()
            assert auto_goodness_of_fit(draws.reshape(20_000, -1), probs) > TEST_FAILURE_RATE


def test_nets_take_any_shape_and_say_what_they_wanted() -> None:
    for h, w in ((1, 1), (7, 9), (28, 28), (5, 2)):
        image = torch.rand(2, 3, 2, h, w)
        code = ConvEncoder((2, h, w), [4, 8], 6)(image)
        assert (
            code.shape == (2, 3, 6)
            and ConvDecoder(6, [8, 4], (2, h, w))(code).shape == image.shape
        )
        assert MLP((2, h, w), [4], (h, 3))(image).shape == (2, 3, h, 3)
    with pytest.raises(ValueError, match=r"shape \(\*batch, 2, 4\), got \(5, 4, 2\)"):
        MLP((2, 4), [3], 1)(torch.rand(5, 4, 2))
    with pytest.raises(ValueError, match="scale is 0.0 somewhere"):
        Standardized(MLP(2, [3], 1), torch.zeros(2), torch.tensor([1.0, 0.0]))
    net = Standardized(nn.Identity(), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(net(torch.tensor([[3.0, 6.0]])), torch.tensor([[1.0, 1.0]]))


def test_heads_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="scale=0"):
        FixedScaleNormalHead(MLP(2, [3], 1), scale=0)
    with pytest.raises(ValueError, match="initial_scale=-1"):
        LearnedScaleNormalHead(MLP(2, [3], 1), initial_scale=-1)
    with pytest.raises(
        ValueError, match="7 numbers a datum, which are not C classes for each of the 2 elements"
    ):
        CategoricalHead(MLP(2, [3], 7), event_shape=(2,))(torch.zeros(1, 2))


def test_categorical_puts_classes_first() -> None:
    logits = torch.randn(3, 4, 2, 5)  # a net's (C, H, W) output for an event (1, H, W)
    fn = CategoricalHead(nn.Identity(), event_shape=(1, 2, 5))(logits)
    torch.testing.assert_close(
        fn.base_dist.logits, logits.log_softmax(1).movedim(1, -1).unsqueeze(1)
    )


def test_bernoulli_is_the_cross_entropy() -> None:
    x, logits = torch.bernoulli(torch.full((3, 4), 0.5)), torch.randn(3, 4)
    expected = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    torch.testing.assert_close(BernoulliHead(nn.Identity())(logits).log_prob(x), expected)


every_weight_prior = pytest.mark.parametrize("prior", WEIGHT_PRIORS)
every_weight_guide = pytest.mark.parametrize("guide", WEIGHT_GUIDES)


def weighed(
    prior: str, guide: str
) -> tuple[pv.Bayesian, pv.Model, nn.Module, dict[str, torch.Tensor]]:
    net = MLP(3, [4], 2)
    bayesian = pv.Bayesian(net, WEIGHT_PRIORS[prior](net))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(bayesian, scale=0.5), "x"))
    return (
        bayesian,
        model,
        WEIGHT_GUIDES[guide](bayesian),
        {"x": torch.randn(5, 3), "y": torch.randn(5, 2)},
    )


@every_weight_prior
def test_weight_priors(prior: str) -> None:
    """Shapes with and without particles, finite densities of their own draws, the precision of the
    net."""
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 3))
    bayesian = pv.Bayesian(net, WEIGHT_PRIORS[prior](net), event_dim=3)
    for num, lead in ((None, ()), (1, (1, 1)), (3, (3, 1))):
        trace = run_guide(bayesian.draw, {}, num)
        assert {f"w.{key}" for key in bayesian.initial} <= set(trace.nodes)
        for key, parameter in bayesian.initial.items():
            site = trace.nodes[f"w.{key}"]
            assert site["value"].shape == (*lead, *parameter.shape)
            assert site["fn"].event_shape == parameter.shape
            log_prob = site["fn"].log_prob(site["value"])
            assert log_prob.shape == lead and torch.isfinite(log_prob).all()
    torch.set_default_dtype(torch.float32)
    single = pv.Bayesian(net.float(), WEIGHT_PRIORS[prior](net), event_dim=3)
    assert all(value.dtype == torch.float32 for value in single.draw().values())


@every_weight_prior
def test_densities_of_weight_priors_are_normalised_and_match_their_draws(prior: str) -> None:
    net = nn.Linear(2, 1, bias=False)
    bayesian = pv.Bayesian(net, WEIGHT_PRIORS[prior](net))
    with poutine.block():
        fn = bayesian.prior_of(
            "weight", bayesian.initial["weight"]
        )  # given its scales, where it draws any
    draws = fn.sample((20_000,))
    assert (
        auto_goodness_of_fit(draws.reshape(20_000, -1), fn.log_prob(draws).exp())
        > TEST_FAILURE_RATE
    )
    assert (
        abs(
            float(sum_or_integral(dist.Independent(fn.base_dist, fn.reinterpreted_batch_ndims)))
            - 1
        )
        < 1e-5
    )


@every_weight_prior
@every_weight_guide
def test_weight_guides_with_weight_priors(guide: str, prior: str) -> None:
    """Valid pairs, trained and scored under particles as one by one."""
    _, model, q, batch = weighed(prior, guide)
    pv.check(model, q, batch, num_data=5)
    for num in (1, 3):
        draws = run_guide(q, batch, num)
        together = run_model(model, draws, batch, num)
        weights = log_weights_of(together, draws, num, plate=None)
        assert weights.shape == (num,) and torch.isfinite(weights).all()
        own = {
            name: site["value"][num - 1, 0]
            for name, site in draws.nodes.items()
            if site["type"] == "sample"
        }
        with local_param_scope():
            alone = poutine.trace(poutine.condition(model, data=own)).get_trace(**batch)
            scored = poutine.trace(poutine.condition(q, data=own)).get_trace(**batch)
        torch.testing.assert_close(weights[num - 1], alone.log_prob_sum() - scored.log_prob_sum())
    particles = Trace_ELBO(
        num_particles=3, vectorize_particles=True
    )  # one for each member of an ensemble
    loss = pv.ElboLoss(model, q, num_data=5, elbo=particles)(**batch)
    if loss.requires_grad:
        loss.backward()
    for name, parameter in q.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, name


@every_weight_guide
def test_weight_guides_travel_and_predict(guide: str, tmp_path: object) -> None:
    _, model, q, batch = weighed("hierarchical", guide)
    _, other_model, twin, _ = weighed("hierarchical", guide)
    pv.save_weights(q, tmp_path / "weights")
    pv.load_weights(twin, tmp_path / "weights")
    pyro.set_rng_seed(3)
    first = q()
    pyro.set_rng_seed(3)
    assert all(torch.equal(value, first[name]) for name, value in twin().items())
    with torch.no_grad(), pyro.validation_enabled(False):
        assert Particles.of(model, q, batch).at_once, "pyrovae's own parts run one draw at a time"
    assert pv.predict(model, q, batch, num_samples=3)["y"].shape == (3, 5, 2)
    assert torch.isfinite(pv.log_predictive(model, q, batch, num_samples=3)).all()
    assert pv.predict_moments(model, q, batch, num_samples=3).mean.shape == (5, 2)
    assert type(q).__name__ in repr(q)
    assert all(value.dtype == torch.float32 for name, value in q.float()().items())


@pytest.mark.parametrize("guide", ["MeanField", "Radial", "JointNormal", "JointNormal, low rank"])
def test_densities_of_weight_guides_match_their_draws(guide: str) -> None:
    q = WEIGHT_GUIDES[guide](pv.Bayesian(nn.Linear(2, 1, bias=False)))
    with torch.no_grad():
        trace = run_guide(q, {}, 20_000)
        log_q = sum(
            site["fn"].log_prob(site["value"])
            for site in trace.nodes.values()
            if site["type"] == "sample"
        )
    draws = trace.nodes["w.weight"]["value"].reshape(20_000, -1)
    assert auto_goodness_of_fit(draws, log_q.reshape(-1).exp()) > TEST_FAILURE_RATE
