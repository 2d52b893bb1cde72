"""Posteriors beside the conformance suite: inverses, Jacobians and products against what they
claim to equal."""

import pyro.distributions as dist
import pytest
import torch
import zuko
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.traces import run_guide
from pyrovae.heads import FullRankNormalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF, FlowPosterior, PlanarPosterior, PrecisionWeighted
from pyrovae.posteriors.implicit import FixedPointTransform, implicit
from pyrovae.posteriors.planar import PlanarTransform

FLOWS = {"MAF": zuko.flows.MAF, "NSF": zuko.flows.NSF}


# --- autoregressive steps, inverted by iteration
# -------------------------------------------------------------------


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("transforms", [1, 3])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_fixed_point_is_zukos_sequential_inverse(
    flow: str, transforms: int, context: int
) -> None:
    lazy = FLOWS[flow](5, context, transforms=transforms, hidden_features=(16,)).double().transform
    c = torch.randn(7, context, requires_grad=True) if context else None
    y = (2 * torch.randn(4, 7, 5)).requires_grad_()
    expected = [*lazy.parameters(), y, *([c] if context else [])]
    results = []
    for make in (lambda transform: transform, implicit):
        transform = make(lazy(c) if context else lazy())
        x, log_det = transform.inv.call_and_ladj(y)
        score = (x.sin() * torch.arange(1.0, 6.0)).sum() + (log_det**2).sum()
        results.append((x, log_det, *torch.autograd.grad(score, expected, allow_unused=True)))
    for sequential, iterated in zip(*results):
        assert (sequential is None) == (iterated is None)
        if sequential is not None:
            torch.testing.assert_close(iterated, sequential, atol=1e-10, rtol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(
            implicit(lazy(c) if context else lazy()).inv(y), results[0][0], atol=1e-10, rtol=1e-10
        )


def test_both_directions_are_replaced_and_other_steps_are_left_alone() -> None:
    steps = zuko.flows.MAF(3, transforms=2, hidden_features=(8,)).transform
    for transform in (implicit(steps()), implicit(steps().inv)):
        kinds = [
            type(part if isinstance(part, FixedPointTransform) else part.inv)
            for part in transform.transforms
        ]
        assert kinds.count(FixedPointTransform) == 2
    affine = torch.distributions.AffineTransform(1.0, 2.0)
    assert implicit(affine) is affine


def test_an_inverse_that_needs_no_gradient_has_none() -> None:
    lazy = zuko.flows.MAF(3, hidden_features=(8,)).double().transform
    lazy.requires_grad_(False)
    assert not implicit(lazy()).inv(torch.randn(5, 3)).requires_grad


@pytest.mark.parametrize("inverted", [True, False])
def test_a_flow_posterior_scores_its_draws_as_it_scores_foreign_ones(inverted: bool) -> None:
    steps = zuko.flows.NSF(3, 4, transforms=2, hidden_features=(8,)).transform
    q = FlowPosterior(NormalHead(MLP(4, [8], 6)), steps.inv if inverted else steps).double()
    fn = q(torch.randn(6, 4))
    z, log_q = fn.rsample_and_log_prob((5,))
    torch.testing.assert_close(
        fn.log_prob(z), log_q, atol=1e-9, rtol=0
    )  # nine digits: a spline's slopes lose some


def test_an_iaf_is_its_formula() -> None:
    # z_i = (e_i - shift_i(e_<i)) / scale_i(e_<i) or its like: the Jacobian dz/de is triangular,
    # and that of the density
    q = IAF(NormalHead(MLP(4, [8], 6)), 3, 4, transforms=1, hidden=(8,)).double()
    x, e = torch.randn(4), torch.randn(3)
    transform = q.flow.transform(x).inv
    jacobian = torch.autograd.functional.jacobian(transform, e)
    assert (jacobian.triu(1) == 0).all() or (jacobian.tril(-1) == 0).all()
    base = q.flow.encoder(x)
    torch.testing.assert_close(
        q(x).log_prob(transform(e)), base.log_prob(e) - jacobian.slogdet().logabsdet
    )


# --- planar flows
# ---------------------------------------------------------------------------------------------------


def planar(scale: float = 3.0) -> PlanarTransform:
    return PlanarTransform(scale * torch.randn(6, 3), scale * torch.randn(6, 3), torch.randn(6, 1))


def test_planar_log_determinant_is_that_of_the_jacobian() -> None:
    transform, x = planar(), torch.randn(6, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x).sum(0), x).movedim(1, 0)
    y, log_det = transform.call_and_ladj(x)
    torch.testing.assert_close(log_det, jacobian.slogdet().logabsdet, atol=1e-10, rtol=1e-10)
    assert (jacobian.det() > 0).all(), "w^T u > -1 whatever the net returns"
    torch.testing.assert_close(
        y, x + transform.u * torch.tanh((transform.w * x).sum(-1, keepdim=True) + transform.b)
    )


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_planar_inverse_and_its_gradient(scale: float) -> None:
    transform = planar(scale)
    y = 3 * torch.randn(6, 3)
    torch.testing.assert_close(transform(transform.inv(y)), y, atol=1e-10, rtol=0)
    u, w, b = scale * torch.randn(2, 3), scale * torch.randn(2, 3), torch.randn(2, 1)
    inputs = [part.requires_grad_() for part in (u, w, b, torch.randn(2, 3))]
    assert torch.autograd.gradcheck(
        lambda u, w, b, y: PlanarTransform(u, w, b)._inverse(y), inputs
    )


def test_planar_flow_without_direction_is_the_identity() -> None:
    transform = PlanarTransform(torch.randn(3), torch.zeros(3), torch.zeros(1))
    x = torch.randn(5, 3)
    torch.testing.assert_close(transform(x), x)
    torch.testing.assert_close(transform.inv(x), x)
    assert (transform.log_abs_det_jacobian(x, x) == 0).all()


def test_planar_posterior_says_what_it_wanted() -> None:
    with pytest.raises(
        ValueError,
        match=r"returns 9 numbers a datum, expected transforms \* \(2 \* features \+ 1\) = 10",
    ):
        PlanarPosterior(NormalHead(MLP(4, [], 4)), MLP(4, [], 9), 2, transforms=2)(
            torch.zeros(1, 4)
        )


# --- ladders
# --------------------------------------------------------------------------------------------------------


def test_precision_weighting_multiplies_two_normals() -> None:
    recognition, generative = NormalHead(MLP(4, [8], 6)), NormalHead(MLP(2, [8], 6))
    d, above, z = torch.randn(5, 4), torch.randn(7, 5, 2), torch.randn(50, 7, 5, 3)
    q = PrecisionWeighted(recognition, generative)(d, above)
    difference = (
        q.log_prob(z) - recognition(d).log_prob(z) - generative(above).log_prob(z)
    )  # a constant of z
    torch.testing.assert_close(difference, difference[:1].expand(50, 7, 5), atol=1e-10, rtol=0)
    with pytest.raises(TypeError, match="multiplies diagonal normals"):
        PrecisionWeighted(recognition, FullRankNormalHead(MLP(2, [], 9), 3))(d, above)


def test_the_posterior_of_a_linear_gaussian_model_is_precision_weighted() -> None:
    # p(z) = N(z; c, 1), p(x | z) = N(x; z, s^2): the recognition net that says N(x, s^2) makes the
    # guide exact.
    class To(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, value: Tensor) -> dist.Independent:
            return dist.Normal(value, torch.full_like(value, self.scale)).to_event(1)

    x, c = torch.randn(6, 3), torch.randn(6, 3)
    model = pv.Model(z=pv.Node(To(1.0), "c"), x=pv.Node(To(0.5), "z"))
    guide = pv.Guide(z=pv.Node(PrecisionWeighted(To(0.5), To(1.0)), "x", "c"))
    exact = dist.Normal(c, 1.25**0.5).to_event(1).log_prob(x)
    torch.testing.assert_close(
        pv.log_weights(model, guide, {"x": x, "c": c}, 4), exact.expand(4, 6), atol=1e-10, rtol=0
    )


# --- values that nodes share
# ----------------------------------------------------------------------------------------


class Counted(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, *parents: Tensor) -> Tensor:
        self.calls += 1
        return self.net(*parents)


def test_a_value_is_computed_once_and_is_no_site() -> None:
    shared = Counted(MLP(4, [8], 3))
    guide = pv.Guide(
        h=pv.Value(shared, "x"),
        z2=pv.Node(NormalHead(MLP(3, [], 2)), "h"),
        z1=pv.Node(NormalHead(MLP(4, [], 2)), "h", "z2"),
    )
    x = torch.randn(5, 4)
    trace = run_guide(guide, {"x": x}, 3)
    assert shared.calls == 1
    assert {name for name, site in trace.nodes.items() if site["type"] == "sample"} == {"z1", "z2"}
    base = trace.nodes["z2"]["fn"]
    torch.testing.assert_close(
        base.log_prob(trace.nodes["z2"]["value"]),
        guide.nodes["z2"].conditional(shared.net(x)).log_prob(trace.nodes["z2"]["value"]),
    )
    assert all(p.grad is None for p in shared.parameters())
    sum(
        site["value"].sum() for site in trace.nodes.values() if site["type"] == "sample"
    ).backward()
    assert all(p.grad is not None for p in shared.parameters())


def test_a_value_of_latent_sites_in_a_model() -> None:
    shared = Counted(MLP(2, [8], 3))
    model = pv.Model(
        z=NormalPrior(),
        h=pv.Value(shared, "z"),
        a=pv.Node(NormalHead(MLP(3, [], 2)), "h"),
        b=pv.Node(NormalHead(MLP(3, [], 4)), "h"),
    )
    drawn = model(num=6)
    assert shared.calls == 1 and drawn["h"].shape == (6, 3) and drawn["b"].shape == (6, 2)
    torch.testing.assert_close(drawn["h"], shared.net(drawn["z"]))


class NormalPrior(nn.Module):
    def forward(self) -> dist.Independent:
        return dist.Normal(torch.zeros(2), 1.0).to_event(1)


def test_a_value_says_what_it_lacks() -> None:
    with pytest.raises(
        TypeError, match=r"a Value takes a net and the names of what it depends on, got \(\)"
    ):
        pv.Value(MLP(4, [], 3))
    with pytest.raises(TypeError, match="names of what it depends on"):
        pv.Value(MLP(4, [], 3), torch.zeros(4))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(3, [], 2)), "h"), h=pv.Value(MLP(4, [], 3), "x"))
    with pytest.raises(ValueError, match=r"Guide site 'z' depends on \['h'\]"):
        guide(x=torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"Guide value 'h' depends on \['y'\]"):
        pv.Guide(h=pv.Value(MLP(4, [], 3), "y"))(x=torch.zeros(2, 4))
