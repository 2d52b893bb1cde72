"""The distributions over weights: their densities, their moments, and where they start."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import assert_mean, assert_moments, bayesian_regression
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import (
    Empirical,
    Ensemble,
    JointNormal,
    MCDropout,
    MeanField,
    PointEstimate,
    Radial,
)
from pyrovae.bnn.guides.dropped import DropoutWeight
from pyrovae.bnn.guides.radial import RadialNormal
from pyrovae.bnn.priors import hierarchical, horseshoe, normal
from pyrovae.core.traces import run_guide
from pyrovae.heads import FixedScaleNormalHead, SharedVarianceHead
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior


def draws_of(guide: nn.Module, num: int) -> dict[str, Tensor]:
    trace = run_guide(guide, {}, num)
    return {
        name: site["value"].squeeze(1).detach()
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
    }


def grid(low: float, high: float, num: int) -> Tensor:
    axis = torch.linspace(low, high, num)
    return torch.cartesian_prod(axis, axis)


@pytest.mark.parametrize(
    "make",
    [
        MeanField,
        PointEstimate,
        Radial,
        JointNormal,
        MCDropout,
        lambda net: JointNormal(net, rank=2),
    ],
)
def test_guides_start_at_the_users_weights(make: object) -> None:
    user = MLP(3, [4], 2)
    guide = make(pv.Bayesian(user))
    values = draws_of(guide, 400)
    for name, parameter in user.named_parameters():
        draws = values[f"w.{name}"]
        if isinstance(guide, PointEstimate):
            assert torch.equal(draws[0], parameter)
        else:
            assert_mean(draws, parameter.detach())
        if not isinstance(guide, (PointEstimate, MCDropout, Radial)):
            assert (draws.std(0) < 0.03).all() and (draws.std(0) > 0.003).all()


def test_radial_draws_have_one_radius_and_its_density() -> None:
    loc, scale = torch.tensor([0.5, -1.0]), torch.tensor([0.7, 1.5])
    fn = RadialNormal(loc, scale)
    points = grid(-8.0, 8.0, 1202)  # none at the centre, where the density is infinite
    density = fn.log_prob(points * scale + loc).exp()
    width = (16 / 1201) ** 2 * scale.prod()
    radii = points.norm(dim=-1)
    for limit in (0.5, 1.0, 2.0, 8.0):
        share = (density * width)[radii < limit].sum()
        assert (
            abs(share - math.erf(limit / 2**0.5)) < 0.02
        )  # a grid beside 1/r; see the shares of draws
    draws = fn.rsample((20_000,))
    radius = ((draws - loc) / scale).norm(dim=-1)
    assert_mean(draws, loc)
    assert_mean(radius, (2 / math.pi) ** 0.5)
    assert_mean(radius**2, 1.0)
    assert_mean((draws - loc) ** 2, scale**2 / 2)
    assert_mean(((draws - loc) / scale).prod(-1), 0.0)
    line = RadialNormal(torch.tensor([1.0]), torch.tensor([2.0]))  # in one dim it is the normal
    x = torch.randn(5, 1)
    torch.testing.assert_close(line.log_prob(x), dist.Normal(1.0, 2.0).log_prob(x).squeeze(-1))
    many = RadialNormal(torch.zeros(2, 3), torch.ones(2, 3)).expand((4, 1))
    assert many.rsample().shape == (4, 1, 2, 3) and many.log_prob(many.rsample()).shape == (4, 1)


def test_the_radial_entropy_by_polar_coordinates() -> None:
    """H = E[log |S^{D-1}| + (D - 1) log r] + H[r] + sum log sigma, for r ~ |N(0, 1)|."""
    size, scale = 6, torch.rand(2, 3) + 0.5
    fn = RadialNormal(torch.zeros(2, 3), scale)
    area = math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)
    half = 0.5 * math.log(math.pi / 2) + 0.5
    expected = (
        area
        - (size - 1) * (0.5772156649015329 + math.log(2)) / 2
        + half
        + float(scale.log().sum())
    )
    draws = fn.rsample((20_000,))
    assert_mean(-fn.log_prob(draws), expected)


@pytest.mark.parametrize("ratio", [1.0, 100.0, 3000.0])
def test_density_of_low_rank_draws_is_precise(ratio: float) -> None:
    guide = JointNormal(pv.Bayesian(nn.Linear(50, 1)), rank=5).set(
        torch.randn(51), factor=0.1 * torch.randn(51, 5), scale=torch.full((51,), 0.1 / ratio)
    )
    fn = guide.distribution()
    draws = fn.rsample((200,))
    factor, scale = guide.factor.double(), nn.functional.softplus(guide.rho).double()
    exact = torch.distributions.MultivariateNormal(
        guide.loc.double(), factor @ factor.T + torch.diag(scale**2)
    )
    torch.testing.assert_close(
        fn.log_prob(draws).double(), exact.log_prob(draws.double()), atol=0.1, rtol=0.0
    )
    assert fn.expand((3, 2)).log_prob(draws[0]).shape == (3, 2)


@pytest.mark.parametrize("rank", [None, 1])
def test_joint_normal_with_a_positive_site_has_its_jacobian(rank: int | None) -> None:
    """The density of (weight, variance) integrates to one, and its draws follow it."""
    net = pv.Bayesian(nn.Linear(1, 1, bias=False))
    model = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(net), "x", "v")
    )
    guide = JointNormal(model, rank=rank, init_scale=0.5)
    with torch.no_grad():
        if rank is None:
            guide.set(
                torch.tensor([0.3, -0.9]), scale_tril=torch.tensor([[0.8, 0.0], [-0.1, 0.9]])
            )
    joint, draws = guide.distribution(), draws_of(guide, 20_000)
    assert set(draws) == {"_weights.w.weight", "w.weight", "v"}
    assert_moments(
        torch.stack([draws["w.weight"].flatten(), draws["v"].log()], -1),
        joint.mean.detach(),
        joint.covariance_matrix.detach(),
    )
    trace = run_guide(guide, {}, 3)
    log_q = sum(trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"]) for name in draws)
    logs = torch.stack(
        [trace.nodes["w.weight"]["value"].flatten(), trace.nodes["v"]["value"].flatten().log()], -1
    )
    torch.testing.assert_close(log_q.squeeze(-1), joint.log_prob(logs) - logs[:, 1])
    # p(y): importance sampling with this guide against quadrature
    batch = {"x": torch.ones(4, 1), "y": torch.tensor([[0.5], [0.1], [-0.2], [0.9]])}
    estimate = pv.log_weights(model, guide, batch, 20_000, plate=None)
    w, log_v = torch.linspace(-6, 6, 400), torch.linspace(-6, 8, 700)
    cells = torch.cartesian_prod(w, log_v)
    log_p = (
        dist.Normal(0.0, 1.0).log_prob(cells[:, 0])
        + dist.InverseGamma(torch.tensor(2.0), torch.tensor(1.0)).log_prob(cells[:, 1].exp())
        + cells[:, 1]
        + dist.Normal(cells[:, :1], (0.5 * cells[:, 1:]).exp()).log_prob(batch["y"].T).sum(-1)
    )
    exact = log_p.logsumexp(0) + math.log(12 / 399 * 14 / 699)
    weights = (estimate - exact).exp().detach()
    assert (weights.mean() - 1).abs() < 5 * weights.std() / 20_000**0.5 and weights.std() < 5


def test_mean_field_of_a_positive_site_is_log_normal() -> None:
    net = pv.Bayesian(nn.Linear(2, 2), hierarchical(point=False))
    guide = MeanField(net, init_scale=0.3)
    values, index = (
        draws_of(guide, 20_000),
        [site.name for site in guide.sites].index("w.weight_variance"),
    )
    assert_mean(values["w.weight_variance"].log(), guide.loc[index].detach())
    assert_mean((values["w.weight_variance"].log() - guide.loc[index].detach()) ** 2, 0.09)
    assert set(guide.moments()) == {"w.weight", "w.bias"}
    points = MeanField(pv.Bayesian(nn.Linear(2, 2), hierarchical()))
    assert len(draws_of(points, 3)["w.weight_variance"].unique()) == 1
    trained = {name for name, p in points.named_parameters() if p.requires_grad}
    assert len(trained) == 8 - 2  # no spread of the two variances


def test_empirical_bayes_finds_the_variance_of_the_weights() -> None:
    """For fixed weights the mode of v is (beta + ||w||^2 / 2) / (alpha + n / 2 + 1)."""
    net = pv.Bayesian(nn.Linear(3, 2, bias=False), hierarchical(1.0, 10.0))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1e6), "x"))
    guide = PointEstimate(net)
    index = [site.name for site in guide.sites].index("w.weight")
    guide.loc[index].requires_grad_(False)
    batch = {"x": torch.randn(4, 3), "y": torch.randn(4, 2)}
    pv.fit(pv.ElboLoss(model, guide, num_data=4), [batch] * 20, epochs=20, lr=0.05)
    expected = (10.0 + 0.5 * (guide.loc[index] ** 2).sum()) / (1.0 + 3.0 + 1.0)
    torch.testing.assert_close(
        guide.values()["w.weight_variance"].detach(), expected.detach(), rtol=1e-3, atol=0
    )


def test_dropout_has_gals_penalty() -> None:
    """E_q[-log p(W)] = (1 - rate) ||M||^2 / (2 s^2) + const."""
    for by_weight in (False, True):
        net = pv.Bayesian(nn.Linear(3, 2, bias=False), normal(0.7))
        guide = MCDropout(net, rate=0.3, by_weight=by_weight)
        mean = guide.loc[0].detach()
        expected = 0.7 * (mean**2).sum() / (2 * 0.49) + 6 * (
            0.5 * math.log(2 * math.pi) + math.log(0.7)
        )
        w = draws_of(guide, 20_000)["w.weight"]
        assert_mean(-dist.Normal(0.0, 0.7).log_prob(w).sum((1, 2)), expected)
        masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * (6 if by_weight else 3))
        each = masks.reshape(-1, 2, 3) if by_weight else masks.unsqueeze(1)
        probability = (0.7**masks * 0.3 ** (1 - masks)).prod(-1)
        exact = (probability * -dist.Normal(0.0, 0.7).log_prob(mean * each).sum((1, 2))).sum()
        torch.testing.assert_close(exact, expected)
        shares = torch.stack([(w == mean * mask).all(-1).all(-1).double() for mask in each], -1)
        assert_mean(shares, probability)
        assert len(shares.sum(0).nonzero()) > 6 and (shares.sum(-1) == 1).all()


def test_dropout_rates() -> None:
    net = pv.Bayesian(MLP(3, [4], 2))
    guide = MCDropout(net, rate=lambda site, tensor: 0.0 if "layers.0" in site else 0.25)
    assert guide.rates() == pytest.approx({"w.layers.2.weight": 0.25})
    values = draws_of(guide, 2000)
    assert (values["w.layers.0.weight"] == values["w.layers.0.weight"][0]).all()
    assert_mean((values["w.layers.2.weight"][:, 0] == 0).double(), 0.25)
    assert (values["w.layers.2.bias"] == values["w.layers.2.bias"][0]).all()
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="expected a probability of dropping"):
            MCDropout(net, rate=wrong)


def test_one_rate_leaves_single_inputs_alone() -> None:
    """A mask of the only channel of grey images would blank them."""
    net = pv.Bayesian(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Conv2d(3, 2, 2)))
    assert MCDropout(net, rate=0.25).rates() == pytest.approx({"w.1.weight": 0.25})
    both = pytest.approx({"w.0.weight": 0.25, "w.1.weight": 0.25})
    assert MCDropout(net, rate=0.25, by_weight=True).rates() == both
    assert MCDropout(net, rate=lambda site, tensor: 0.25).rates() == both


def test_learned_rates_have_their_entropy() -> None:
    """log q is minus the entropy of the mask, once for each input or each weight, and its gradient
    that of the formula."""
    mean = torch.randn(2, 5)
    for by_weight, count in ((False, 5), (True, 10)):
        logit = torch.tensor(-1.2, requires_grad=True)
        rate = logit.sigmoid()
        fn = DropoutWeight(mean, rate, learned=True, by_weight=by_weight)
        entropy = -count * (rate * rate.log() + (1 - rate) * (1 - rate).log())
        torch.testing.assert_close(fn.log_prob(fn.rsample()), -entropy)
        torch.testing.assert_close(
            fn.expand((3, 1)).log_prob(fn.expand((3, 1)).rsample()), -entropy.expand(3, 1)
        )
        fixed = DropoutWeight(mean, rate.detach(), by_weight=by_weight)
        assert fixed.log_prob(fixed.rsample()) == 0
    draws = DropoutWeight(mean, torch.tensor(0.3), learned=True).rsample((20_000,)).div(mean)[:, 0]
    assert_mean(
        (draws > 0.5).double(), 0.7
    )  # relaxed: near 0 and 1, and half-way at the right place
    assert ((draws - 0.5).abs() < 0.4).double().mean() < 0.15
    net = pv.Bayesian(MLP(3, [4], 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    guide, batch = (
        MCDropout(net, 0.2, learn_rate=True),
        {"x": torch.randn(6, 3), "y": torch.randn(6, 1)},
    )
    loss = pv.ElboLoss(
        model, guide, num_data=6, elbo=Trace_ELBO(num_particles=200, vectorize_particles=True)
    )
    with torch.no_grad():  # the same quantity whether or not gradients are on
        still = loss(**batch)
    assert (loss(**batch) - still).abs() < 0.5
    pv.fit(loss, batch, epochs=5, lr=0.1)
    assert all(abs(rate - 0.2) > 0.01 for rate in guide.rates().values())


def test_setting_moments() -> None:
    net = pv.Bayesian(nn.Linear(3, 2))
    loc, scale = torch.randn(8), torch.rand(8) + 1e-4
    guide = MeanField(net).set(loc, scale)
    moments = list(guide.moments().values())
    torch.testing.assert_close(torch.cat([m.flatten() for m, _ in moments]).detach(), loc)
    torch.testing.assert_close(torch.cat([s.flatten() for _, s in moments]).detach(), scale)
    tril = torch.linalg.cholesky(torch.cov(torch.randn(8, 40)))
    torch.testing.assert_close(
        JointNormal(net).set(loc, scale_tril=tril).distribution().scale_tril, tril
    )
    for wrong in (-tril, tril.T, tril @ tril.T):
        with pytest.raises(ValueError, match="not lower triangular"):
            JointNormal(net).set(loc, scale_tril=wrong)
    low = JointNormal(net, rank=3).set(loc, factor=torch.ones(8, 3), scale=scale).distribution()
    torch.testing.assert_close(low.covariance_matrix, 3 * torch.ones(8, 8) + torch.diag(scale**2))


def test_settings_that_are_refused() -> None:
    net = pv.Bayesian(nn.Linear(2, 1))
    for make in (MeanField, Radial, JointNormal):
        with pytest.raises(ValueError, match="init_scale=0"):
            make(net, init_scale=0.0)
    with pytest.raises(ValueError, match="rank=0"):
        JointNormal(net, rank=0)
    with pytest.raises(ValueError, match="at least one net"):
        Ensemble(net, [])
    with pytest.raises(ValueError, match="S >= 1"):
        Empirical({"w": torch.zeros(0, 2)})
    simplex = pv.Model(
        p=pv.Global(Constant(dist.Dirichlet(torch.ones(3)))),
        y=pv.Node(Constant(dist.Normal(0.0, 1.0))),
    )
    for make in (MeanField, JointNormal):
        with pytest.raises(ValueError, match="site 'p'"):
            make(simplex)
    torch.testing.assert_close(PointEstimate(simplex)()["p"].sum(), torch.tensor(1.0))


class Constant(nn.Module):
    def __init__(self, fn: dist.Distribution) -> None:
        super().__init__()
        self.fn = fn

    def forward(self) -> dist.Distribution:
        return self.fn


def test_an_ensemble_trains_each_member_alike() -> None:
    """M particles: each member's gradient is a M-th of what it would be alone."""
    exact = bayesian_regression()
    members = [nn.Linear(2, 1) for _ in range(3)]
    guide = Ensemble(exact.net, members)
    particles = Trace_ELBO(num_particles=3, vectorize_particles=True)
    pv.check(exact.model, guide, exact.batch, num_data=12)
    pv.ElboLoss(exact.model, guide, num_data=12, elbo=particles)(**exact.batch).backward()
    for index, member in enumerate(members):
        alone = PointEstimate(exact.net)
        alone.loc[0].data.copy_(member.weight.data), alone.loc[1].data.copy_(member.bias.data)
        pv.ElboLoss(exact.model, alone, num_data=12)(**exact.batch).backward()
        for stack, own in zip(guide.loc, alone.loc):
            torch.testing.assert_close(3 * stack.grad[index], own.grad)


def test_a_prior_on_a_half_line_and_the_map_of_a_global() -> None:
    """horseshoe sites start at their medians and stay positive."""
    net = pv.Bayesian(nn.Linear(3, 2), horseshoe())
    for make in (MeanField, PointEstimate, Radial, JointNormal, MCDropout):
        values = draws_of(make(net), 50)
        assert (values["w.weight_tau"] > 0).all() and (values["w.weight_lambda"] > 0).all()
        assert values["w.weight_lambda"].shape == (50, 2)


def test_weights_of_a_half_line_start_where_the_prior_allows() -> None:
    user = nn.Linear(2, 3)
    nn.init.constant_(user.bias, 0.7)
    net = pv.Bayesian(user, lambda site, tensor: dist.HalfNormal(torch.full_like(tensor, 2.0)))
    assert (user.weight < 0).any()
    for make in (PointEstimate, MeanField, JointNormal):
        values = make(net)()
        assert (values["w.weight"] > 0).all() and (
            (values["w.bias"] / 0.7).log().abs() < 0.1
        ).all()
    with pytest.raises(ValueError, match=r"members' weights \['w.weight'\] lie outside"):
        Ensemble(net, [user])
    nn.init.constant_(user.weight, 0.3)
    torch.testing.assert_close(Ensemble(net, [user])()["w.weight"], user.weight)


def test_states_travel() -> None:
    """Weights saved and loaded, other precision, deep copies: all guides."""
    pyro.set_rng_seed(0)
    for make in (
        MeanField,
        PointEstimate,
        Radial,
        JointNormal,
        MCDropout,
        lambda net: JointNormal(net, rank=2),
    ):
        first, second = make(pv.Bayesian(MLP(3, [4], 2))), make(pv.Bayesian(MLP(3, [4], 2)))
        second.load_state_dict(first.state_dict())
        pyro.set_rng_seed(1)
        one = first()
        pyro.set_rng_seed(1)
        two = second()
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert all(value.dtype == torch.float32 for value in first.float()().values())


def test_the_density_of_a_draw_holds_where_the_covariance_is_ill_conditioned() -> None:
    """In single precision, at a draw L e with |N_ij| = 1, where solving for e loses all digits."""
    torch.set_default_dtype(torch.float32)
    net = pv.Bayesian(MLP(1, [40], 1))
    guide = JointNormal(net)
    with torch.no_grad():
        guide.lower.copy_(torch.randn(121, 121).sign())
    with torch.no_grad():
        trace = run_guide(guide, {}, None)
    noise = trace.nodes["_weights.w.layers.0.weight"]["value"]
    expected = dist.Normal(0.0, 1.0).log_prob(noise).sum() - 121 * math.log(1e-2)
    assert trace.log_prob_sum() == pytest.approx(float(expected), rel=1e-5)
    flat = torch.cat([trace.nodes[f"w.{name}"]["value"].flatten() for name in net.initial])
    solved = guide.distribution().log_prob(flat)
    assert not solved.isfinite() or (solved - expected).abs() > 1e3


def test_a_dense_covariance_trains_as_an_elbo_should() -> None:
    """Nats per datum stay below the entropy of noise that is known."""
    torch.set_default_dtype(torch.float32)
    x = torch.linspace(-2, 2, 60)[:, None]
    y = torch.sin(2 * x) + 0.1 * torch.randn_like(x)
    net = pv.Bayesian(MLP(1, [20], 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.1), "x"))
    loss = pv.ElboLoss(model, JointNormal(model), num_data=60)
    history = pv.fit(loss, [{"x": x, "y": y}] * 10, epochs=15, lr=0.02)
    elbo = [row["elbo"] for row in history]
    assert elbo[0] < elbo[-1] < -math.log(0.1) - 0.5 * math.log(2 * math.pi)
    assert elbo[-1] > -8


def test_a_point_estimate_starts_at_given_values() -> None:
    """A positive site too, whose parameter is its logarithm; sites that are not named stay."""
    net = pv.Bayesian(nn.Linear(3, 2), hierarchical(point=False))
    one, other = PointEstimate(net), PointEstimate(net)
    with torch.no_grad():
        for loc in other.loc:
            loc.add_(0.3)
    bias = one.values()["w.bias"].clone()
    given = {name: value for name, value in other.values().items() if name != "w.bias"}
    found = one.start_at({**given, "of another net": torch.ones(1)}).values()
    assert any((value > 0).all() and name.endswith("variance") for name, value in given.items())
    for name, value in given.items():
        torch.testing.assert_close(found[name], value)
    assert found["w.bias"].equal(bias)
    with pytest.raises(ValueError, match="expected \\(2,\\)"):
        one.start_at({"w.bias": torch.ones(2, 1)})
