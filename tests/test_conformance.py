"""What every conditional promises: shapes, a normalised density that matches its draws, gradients, independence."""
import conformance
import pyro.distributions as dist
import pytest
import torch
from conformance import CONDITIONALS, Case, fingerprint, parents_of
from pyro.distributions.testing.gof import auto_goodness_of_fit
from torch import nn
from torch.distributions import biject_to, constraints

import pyrovae as pv
from pyrovae.heads import BernoulliHead, CategoricalHead, FixedScaleNormalHead, LearnedScaleNormalHead
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
    sources = {f"s{i}": dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape)) for i, shape in enumerate(case.parents)}

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
    alone = torch.cat([fingerprint(as_pyro(module(*(p[i:i + 1] for p in parents))), value[i:i + 1]).expand(1)
                       for i in range(6)])
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
        total = sum_or_integral(fn)
    if total is None:
        factors = conformance.factors_of(fn)
        total = torch.stack([sum_or_integral(as_pyro(type(factors)(**{
            name: getattr(factors, name).flatten()[i:i + 1] for name in factors.arg_constraints
            if name in factors.__dict__}).to_event(1))) for i in range(factors.batch_shape.numel())])
    assert (torch.as_tensor(total) - 1).abs().max() < (1e-3 if case.kinks else 1e-5)


def sum_or_integral(fn: dist.Distribution) -> torch.Tensor | None:
    """Total mass by enumeration, or by a grid over at most two real dims; None where there are more."""
    if isinstance(fn, dist.Delta):
        return fn.log_prob(fn.mean).exp()
    size, values = fn.event_shape.numel(), conformance.values_of(fn)
    if values is not None:
        return fn.log_prob(torch.cartesian_prod(*[values] * size).reshape(-1, *fn.event_shape)).exp().sum()
    if size > 2:
        return None
    axis, log_widths = real_grid(conformance.support_of(fn))
    grid, cells = (torch.cartesian_prod(*[part] * size).reshape(-1, *fn.event_shape) for part in (axis, log_widths))
    return (fn.log_prob(grid) + cells.flatten(1).sum(-1)).exp().sum()


def real_grid(support: constraints.Constraint) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of an interval and the logs of their widths: even steps of t in x = f(sinh(t)), f from R to the interval.

    Below the least standard deviation here near 0, and as far out as heavy tails reach: the sum is as good as exact.
    """
    t = torch.linspace(-8.0, 8.0, 601)
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
        elif values is not None:  # exact probabilities of each value, dim by dim where dims are independent
            if factors is not None:
                each = values.reshape(-1, *[1] * len(case.event)).expand(-1, *factors.batch_shape)
                expected = factors.log_prob(each).exp()
                observed = torch.stack([(draws == v).double().mean(0) for v in values])
            else:
                grid = torch.cartesian_prod(*[values] * fn.event_shape.numel())
                expected = fn.log_prob(grid).exp()
                observed = torch.stack([(draws == v).all(-1).double().mean(0) for v in grid])
            error = (expected * (1 - expected) / 20_000).sqrt() + 1 / 20_000  # rare values are Poisson, not normal
            assert ((observed - expected).abs() <= 5 * error).all()
        else:
            probs = fn.log_prob(draws).exp()
            assert auto_goodness_of_fit(draws.reshape(20_000, -1), probs) > TEST_FAILURE_RATE


def test_nets_take_any_shape_and_say_what_they_wanted() -> None:
    for h, w in ((1, 1), (7, 9), (28, 28), (5, 2)):
        image = torch.rand(2, 3, 2, h, w)
        code = ConvEncoder((2, h, w), [4, 8], 6)(image)
        assert code.shape == (2, 3, 6) and ConvDecoder(6, [8, 4], (2, h, w))(code).shape == image.shape
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
    with pytest.raises(ValueError, match="7 numbers a datum, which are not C classes for each of the 2 elements"):
        CategoricalHead(MLP(2, [3], 7), event_shape=(2,))(torch.zeros(1, 2))


def test_categorical_puts_classes_first() -> None:
    logits = torch.randn(3, 4, 2, 5)  # a net's (C, H, W) output for an event (1, H, W)
    fn = CategoricalHead(nn.Identity(), event_shape=(1, 2, 5))(logits)
    torch.testing.assert_close(fn.base_dist.logits, logits.log_softmax(1).movedim(1, -1).unsqueeze(1))


def test_bernoulli_is_the_cross_entropy() -> None:
    x, logits = torch.bernoulli(torch.full((3, 4), 0.5)), torch.randn(3, 4)
    expected = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    torch.testing.assert_close(BernoulliHead(nn.Identity())(logits).log_prob(x), expected)
