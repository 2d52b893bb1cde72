"""ELBO surgery against closed forms: what the KL is made of where both parts are known."""

import math

import oracles
import pyro.distributions as dist
import pytest
import torch
import zuko
from oracles import LinearNormal, log_mean_exp
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.traces import run_guide
from pyrovae.diagnostics import elbo_surgery as surgery
from pyrovae.diagnostics.active_units import kl_per_dim
from pyrovae.diagnostics.elbo_surgery import elbo_surgery
from pyrovae.heads import (
    BernoulliHead,
    DeltaHead,
    FullRankNormalHead,
    MixtureNormalHead,
    NormalHead,
)
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF, FlowPosterior
from pyrovae.priors import StandardNormal
from pyrovae.programs.semi_amortized import SemiAmortized


class At(nn.Module):
    """N(weight x + shift, scale^2 I): a guide whose every KL is known."""

    def __init__(self, weight: float, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.shift, self.scale = weight, shift, scale

    def forward(self, x: Tensor) -> dist.Independent:
        loc = self.weight * x + self.shift
        return dist.Normal(loc, torch.full_like(loc, self.scale)).to_event(1)


def pair(guide: nn.Module, size: int = 2) -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(size), x=pv.Node(At(1.0), "z"))
    return model, pv.Guide(z=pv.Node(guide, "x"))


def test_an_exact_posterior_has_mutual_information_and_nothing_else() -> None:
    # x = z + noise with the posterior N(x / 2, I / 2): q(z) is the prior, I = D / 2 log 2; N =
    # 1500 leaves a bias of 0.001
    batch = {"x": 2**0.5 * torch.randn(1500, 2)}
    parts = elbo_surgery(*pair(At(0.5, scale=0.5**0.5)), batch, num_draws=2)
    assert abs(parts.mutual_information - math.log(2)) < 5 * parts.mutual_information_se
    assert abs(parts.marginal_kl) < 5 * parts.marginal_kl_se
    assert abs(parts.kl - math.log(2)) < 5 * parts.kl_se
    assert (
        0.005 < parts.kl_se < 0.05
        and 0.005 < parts.mutual_information_se < 0.05
        and parts.active_units == 2
    )
    assert (
        parts.num_data == 1500 and parts.num_draws == 2 and "at most log N = 7.313" in str(parts)
    )


def test_two_levels_at_the_exact_posterior() -> None:
    oracle = oracles.two_level()
    x = oracle.model(num=1500)["x"]
    # I(x; z1, z2) = I(x; z1) = 1/2 log |cov x| / |noise|, which z2 adds nothing to
    b, a = (
        oracle.model.nodes["x"].conditional.weights[0],
        oracle.model.nodes["z1"].conditional.weights[0],
    )
    noise = 0.4**2 * torch.eye(4)
    covariance = b @ (a @ a.T + 0.7**2 * torch.eye(3)) @ b.T + noise
    information = 0.5 * (covariance.logdet() - noise.logdet()).item()
    parts = elbo_surgery(oracle.model, oracle.guide, {"x": x}, num_draws=2)
    assert abs(parts.kl - information) < 5 * parts.kl_se
    # q(z) of 1500 data is not yet the prior: what the estimate of these 3.6 nats misses is called
    # marginal KL
    assert 0 < parts.marginal_kl < 0.1 and parts.mutual_information < math.log(1500)
    assert parts.kl == pytest.approx(parts.mutual_information + parts.marginal_kl, abs=1e-10)
    assert parts.kl_per_unit == {}, "these posteriors are correlated"


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_a_collapsed_guide_says_nothing_about_the_data(shift: float) -> None:
    parts = elbo_surgery(*pair(At(0.0, shift)), {"x": torch.randn(50, 2)}, num_draws=400)
    assert (
        abs(parts.mutual_information) < 1e-10
        and parts.mutual_information_se < 1e-10
        and parts.active_units == 0
    )
    assert (
        abs(parts.marginal_kl - shift**2) < 5 * parts.marginal_kl_se + 1e-10
    )  # KL(N(s, 1) || N(0, 1)) = s^2 / 2, twice
    torch.testing.assert_close(parts.kl_per_unit["z"], torch.full((2,), shift**2 / 2))


def test_posteriors_that_do_not_overlap_say_all_there_is_to_say() -> None:
    x = 100 * torch.arange(40.0).unsqueeze(-1).expand(40, 2)
    parts = elbo_surgery(*pair(At(1.0)), {"x": x})
    assert parts.mutual_information == pytest.approx(math.log(40), abs=1e-10)
    assert parts.marginal_kl == pytest.approx(
        parts.kl - math.log(40), abs=1e-6
    )  # of a KL of millions of nats


def hierarchy() -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(
        z2=StandardNormal(2),
        z1=pv.Node(NormalHead(MLP(2, [4], 6)), "z2"),
        x=pv.Node(BernoulliHead(MLP(3, [4], 4)), "z1"),
    )
    return model, pv.Guide(
        z2=pv.Node(NormalHead(MLP(4, [4], 4)), "x"),
        z1=pv.Node(NormalHead(MLP(6, [4], 6)), "x", "z2"),
    )


def vae(conditional: nn.Module) -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [4], 4)), "z"))
    return model, pv.Guide(z=pv.Node(conditional, "x"))


PAIRS = {
    "normal": lambda: vae(NormalHead(MLP(4, [4], 4))),
    "full-rank": lambda: vae(FullRankNormalHead(MLP(4, [4], 5), 2)),
    "mixture": lambda: vae(MixtureNormalHead(MLP(4, [4], 10), 2, 2)),
    "iaf": lambda: vae(IAF(NormalHead(MLP(4, [4], 4)), 2, 4, hidden=(4,))),
    "coupling": lambda: vae(
        FlowPosterior(
            NormalHead(MLP(4, [4], 4)),
            zuko.flows.RealNVP(2, 4, transforms=2, hidden_features=(4,)).transform.inv,
        )
    ),
    "hierarchy": hierarchy,
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_draw_is_scored_under_every_datum(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, guide = (program.double() for program in PAIRS[name]())
    x = torch.randn(7, 4)
    with torch.no_grad():
        trace = run_guide(guide, {"x": x}, 3)
        scores = []
        for row in x:  # the density of all draws under the guide of one datum
            log_q = torch.zeros(3, 7)
            for site, node in guide.nodes.items():
                parents = [
                    row if parent == "x" else trace.nodes[parent]["value"]
                    for parent in node.parents
                ]
                log_q = log_q + node.conditional(*parents).log_prob(trace.nodes[site]["value"])
            scores.append(log_q)
        expected = log_mean_exp(torch.stack(scores))
        monkeypatch.setattr(surgery, "ROWS", 10)
        tiles = [{"x": part} for part in x.split(3)]
        got = surgery._log_marginal(trace, [guide] * 3, tiles, 3, "data")
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    monkeypatch.setattr(surgery, "TILE", 3)
    data = {"x": torch.bernoulli(torch.full((7, 4), 0.5))}
    parts = elbo_surgery(model, guide, [{"x": data["x"][:5]}, {"x": data["x"][5:]}], num_draws=50)
    assert parts.kl == pytest.approx(parts.mutual_information + parts.marginal_kl, abs=1e-10)
    assert -5 * parts.mutual_information_se <= parts.mutual_information <= math.log(7)
    assert set(parts.kl_per_unit) == (
        {"z"} if name == "normal" else {"z1", "z2"} if name == "hierarchy" else set()
    )


def test_kl_per_unit_is_that_of_the_diagnostics() -> None:
    model, guide = PAIRS["normal"]()
    data = {"x": torch.bernoulli(torch.full((30, 4), 0.5))}
    parts = elbo_surgery(model, guide, data, num_draws=500)
    torch.testing.assert_close(parts.kl_per_unit["z"], kl_per_dim(model, guide, data))
    assert (
        abs(parts.kl_per_unit["z"].sum() - parts.kl) < 0.1
    )  # by Monte Carlo on 15,000 draws of a few nats' spread


def test_active_units_of_a_hierarchy_do_not_count_the_noise_of_the_layer_above() -> None:
    class Passes(nn.Module):
        def forward(self, x: Tensor, z2: Tensor) -> dist.Independent:
            return dist.Normal(z2, torch.ones(2)).to_event(1)

    model = pv.Model(z2=StandardNormal(2), z1=pv.Node(At(1.0), "z2"), x=pv.Node(At(1.0), "z1"))
    guide = pv.Guide(z2=pv.Node(At(0.0), "x"), z1=pv.Node(Passes(), "x", "z2"))
    parts = elbo_surgery(model, guide, {"x": torch.randn(300, 2)})
    assert parts.active_units == 0 and abs(parts.mutual_information) < 1e-10


def test_refined_guides_are_scored_as_refined() -> None:
    oracle = oracles.linear_gaussian(num_data=6)
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    refined = elbo_surgery(
        oracle.model, SemiAmortized(guide, oracle.model, steps=100), oracle.batch, num_draws=200
    )
    plain = elbo_surgery(oracle.model, guide, oracle.batch, num_draws=200)
    assert refined.kl != pytest.approx(plain.kl, abs=0.1)
    assert refined.kl == pytest.approx(refined.mutual_information + refined.marginal_kl, abs=1e-9)


def test_the_pair_is_left_as_it_was() -> None:
    model, guide = PAIRS["iaf"]()
    guide.train()
    state = {name: value.clone() for name, value in guide.state_dict().items()}
    elbo_surgery(model, guide, {"x": torch.eye(4)})
    assert guide.training and all(
        torch.equal(value, state[name]) for name, value in guide.state_dict().items()
    )
    assert all(p.grad is None for p in guide.parameters())


def test_what_has_no_surgery_says_so() -> None:
    model, guide = PAIRS["normal"]()
    x = torch.eye(4)
    with pytest.raises(pv.PairError, match="there are 1 data"):
        elbo_surgery(model, guide, {"x": x[:1]})
    with pytest.raises(ValueError, match="num_draws=0"):
        elbo_surgery(model, guide, {"x": x}, num_draws=0)
    point = pv.Guide(z=pv.Node(DeltaHead(MLP(4, [], 2)), "x"))
    with pytest.raises(pv.PairError, match="is a Delta, which has no density"):
        elbo_surgery(model, point, {"x": x})
    with pytest.raises(pv.PairError, match="parameters for each row"):
        elbo_surgery(model, AutoNormal(model), {"x": x})
    conditional = pv.Model(
        z=pv.Node(LinearNormal([torch.randn(2, 3)], torch.zeros(2), torch.eye(2)), "c"),
        x=pv.Node(BernoulliHead(MLP(2, [4], 4)), "z"),
    )
    with pytest.raises(pv.PairError, match="differs from datum to datum"):
        elbo_surgery(conditional, guide, {"x": x, "c": torch.eye(4, 3)})
    assert elbo_surgery(conditional, guide, {"x": x, "c": torch.ones(4, 3)}).kl > 0
    regression, weights, batch, _ = oracles.linear_regression()
    with pytest.raises(pv.PairError, match="outside plate 'data'"):
        elbo_surgery(regression, weights, batch)
