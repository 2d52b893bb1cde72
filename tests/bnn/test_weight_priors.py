"""Densities and draws of the priors of weights."""

import math

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import assert_mean, bayesian_regression
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MeanField
from pyrovae.bnn.priors import (
    Previous,
    fan_in,
    hierarchical,
    horseshoe,
    normal,
    scale_mixture,
    standard,
)
from pyrovae.core.param_store import local_param_scope
from pyrovae.heads import FixedScaleNormalHead


def drawn(prior: object, shape: tuple[int, ...], num: int) -> dict[str, Tensor]:
    """`num` prior draws of a parameter, and of what its prior samples."""

    def program() -> None:
        pyro.sample("w", prior("w", torch.zeros(shape)).to_event(len(shape)))

    with pyro.plate("particles", num, dim=-2):
        return {
            name: site["value"].squeeze(1)
            for name, site in poutine.trace(program).get_trace().nodes.items()
            if site["type"] == "sample" and name != "particles"
        }


def test_normals() -> None:
    tensor, image = torch.zeros(3, 16), torch.zeros(4, 2, 3, 3)
    assert (
        standard("w", tensor).stddev.unique() == 1
        and normal(0.3)("w", tensor).stddev.unique() == 0.3
    )
    assert fan_in(2.0, 5.0)("w", tensor).stddev.unique() == 0.5
    assert fan_in()("w", image).stddev.unique() == pytest.approx(1 / 18**0.5)
    assert fan_in(2.0, 5.0)("w", torch.zeros(3)).stddev.unique() == 5


def test_the_scale_mixture_is_the_mixture() -> None:
    fn = scale_mixture(0.25, 2.0, 0.1)("w", torch.zeros(3, 2))
    reference = MixtureSameFamily(
        Categorical(torch.tensor([0.25, 0.75])), dist.Normal(0.0, torch.tensor([2.0, 0.1]))
    )
    value = torch.randn(5, 3, 2)
    torch.testing.assert_close(fn.log_prob(value), reference.log_prob(value))
    torch.testing.assert_close(fn.mean, torch.zeros(3, 2))
    torch.testing.assert_close(fn.variance, reference.variance.expand(3, 2))
    draws, other = fn.sample((20_000,)), reference.sample((20_000,))
    assert draws.shape == (20_000, 3, 2)
    assert_mean(draws, 0.0)
    assert_mean(draws**2, reference.variance)
    assert_mean(
        (draws.abs() < 0.1).double(),
        float(
            (
                0.25 * dist.Normal(0.0, 2.0).cdf(torch.tensor(0.1))
                + 0.75 * dist.Normal(0.0, 0.1).cdf(torch.tensor(0.1))
            )
            * 2
            - 1
        ),
    )
    assert (other.abs() < 0.1).double().mean() > 0.5
    far = scale_mixture()("w", torch.zeros(1)).log_prob(torch.tensor([30.0]))
    torch.testing.assert_close(
        far, dist.Normal(0.0, 1.0).log_prob(torch.tensor([30.0])) + math.log(0.5)
    )
    for wrong in ({"pi": 0.0}, {"pi": 1.0}, {"wide": 0.0}, {"narrow": -1.0}):
        with pytest.raises(ValueError, match="expected 0 < pi < 1"):
            scale_mixture(**wrong)


def test_hierarchical_has_one_variance_for_each_tensor() -> None:
    """w / sqrt(v) is standard normal, and each weight alone a Student t with 2 alpha degrees of
    freedom."""
    values = drawn(hierarchical(3.0, 2.0, point=False), (2, 3), 20_000)
    w, v = values["w"], values["w_variance"]
    assert v.shape == (20_000,) and w.shape == (20_000, 2, 3)
    assert_mean(v, 2.0 / (3.0 - 1.0))
    scaled = w / v.sqrt().reshape(-1, 1, 1)
    assert_mean(scaled, 0.0)
    assert_mean(scaled**2, 1.0)
    assert_mean(scaled[:, 0, 0] * scaled[:, 1, 2], 0.0)
    reference = dist.StudentT(6.0, 0.0, (2.0 / 3.0) ** 0.5)
    level = reference.sample((200_000,)).abs().quantile(0.8)
    assert_mean((w.abs() < level).double(), 0.8)


def test_the_horseshoe_has_a_scale_for_each_unit() -> None:
    values = drawn(horseshoe(0.5), (2, 3), 20_000)
    w, units, tau = values["w"], values["w_lambda"], values["w_tau"]
    assert units.shape == (20_000, 2) and tau.shape == (20_000,)
    assert_mean((tau < 0.5).double(), 0.5)  # the median of C+(s) is s
    assert_mean((units < 1.0).double(), 0.5)
    scaled = w / (units * tau.unsqueeze(-1)).unsqueeze(-1)  # of unit i: row i
    assert_mean(scaled, 0.0)
    assert_mean(scaled**2, 1.0)
    assert_mean(scaled[:, 0, 0] * scaled[:, 0, 1], 0.0)
    assert set(drawn(horseshoe(), (3,), 2)) == {"w"}


@pytest.mark.parametrize("prior", [hierarchical(point=False), horseshoe()])
def test_particles_have_scales_of_their_own(prior: object) -> None:
    net = pv.Bayesian(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), prior)
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    batch, guide = {"x": torch.randn(5, 3), "y": torch.randn(5, 2)}, MeanField(net, init_scale=0.3)
    pv.check(model, guide, batch, num_data=5)
    draws = pv.core.traces.run_guide(guide, batch, 4)
    together = pv.core.traces.run_model(model, draws, batch, 4)
    weights = pv.core.log_weights.log_weights_of(together, draws, 4, plate=None)
    for k in range(4):
        own = {
            name: site["value"][k, 0]
            for name, site in draws.nodes.items()
            if site["type"] == "sample"
        }
        alone = poutine.trace(poutine.condition(model, data=own)).get_trace(**batch)
        with local_param_scope():
            q = poutine.trace(poutine.condition(guide, data=own)).get_trace(**batch)
        torch.testing.assert_close(weights[k], alone.log_prob_sum() - q.log_prob_sum())


def test_previous_posteriors_learn_on() -> None:
    """What was learned earlier is the prior of what comes next, as it was then."""
    exact = bayesian_regression(12, 1)
    guide = MeanField(exact.net).set(torch.tensor([0.3, -0.2]), torch.tensor([0.5, 0.7]))
    prior = Previous(guide)
    moments = {
        site: (loc.detach().clone(), scale.detach().clone())
        for site, (loc, scale) in guide.moments().items()
    }
    net = pv.Bayesian(nn.Linear(1, 1), prior)
    with torch.no_grad():
        guide.loc[0].add_(5.0)  # trains on; the prior stays
    for key, name in (("weight", "w.weight"), ("bias", "w.bias")):
        fn = net.prior_of(key, net.initial[key])
        torch.testing.assert_close(fn.mean, moments[name][0])
        torch.testing.assert_close(fn.stddev, moments[name][1])
    assert not [name for name, p in net.named_parameters() if p.requires_grad]
    assert {"prior.loc_0", "prior.scale_1"} <= set(net.state_dict())
    rows = oracles.with_one(exact.batch["x"])
    mean, spread = (
        torch.cat([moments[name][i].flatten() for name in ("w.weight", "w.bias")]) for i in (0, 1)
    )
    precision = torch.diag(spread**-2) + rows.T @ rows / exact.noise**2
    posterior = torch.linalg.solve(
        precision, mean / spread**2 + rows.T @ exact.batch["y"].squeeze(-1) / exact.noise**2
    )
    marginal = dist.MultivariateNormal(
        rows @ mean, rows * spread**2 @ rows.T + exact.noise**2 * torch.eye(12)
    )
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=exact.noise), "x"))
    new = JointNormal(net).set(
        posterior, scale_tril=torch.linalg.cholesky(torch.linalg.inv(precision))
    )
    torch.testing.assert_close(
        pv.log_weights(model, new, exact.batch, 2, plate=None),
        marginal.log_prob(exact.batch["y"].squeeze(-1)).expand(2),
    )


def test_a_new_head_has_its_own_prior() -> None:
    old = pv.Bayesian(nn.Linear(2, 2), name="body")
    prior = Previous(MeanField(old), otherwise=normal(0.7))
    new = pv.Bayesian(nn.Linear(2, 2), prior, name="head")
    assert new.prior_of("weight", new.initial["weight"]).stddev.unique() == 0.7
    assert pv.Bayesian(nn.Linear(2, 2), prior, name="body").prior_of(
        "bias", torch.zeros(2)
    ).stddev[0] == pytest.approx(0.01)
