"""Bounds from both sides: they close on models with a known answer, and are refused where nothing
can be simulated."""

from collections.abc import Callable

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae as pv
from pyrovae.evidence import bidirectional
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal


@pytest.mark.parametrize(
    ("oracle", "compile"), [(oracles.linear_gaussian, "off"), (oracles.two_level, "on")]
)
def test_the_sandwich_closes_on_the_exact_value(
    oracle: Callable[[], oracles.Oracle], compile: str, uncompiled: None
) -> None:
    """Step by step in Python, and as replays of what is captured."""
    oracle = oracle()
    sandwich = bidirectional(
        oracle.model, 50, num_chains=80, num_steps=150, num_leapfrog=3, compile=compile
    )
    exact = pv.log_weights(oracle.model, oracle.guide, sandwich.data, 1)[
        0
    ]  # the guide is the exact posterior
    below, above = exact - sandwich.lower.log_px, sandwich.upper - exact
    for slack in (below, above):
        assert -4 * slack.std() / 50**0.5 < slack.mean() < 0.1
    assert abs(sandwich.mean_gap) < 0.1 and sandwich.mean_gap_se < 0.1
    torch.testing.assert_close(sandwich.gap, below + above)
    assert (sandwich.lower.elbo < sandwich.upper).double().mean() > 0.9


def test_a_rough_path_leaves_a_gap_that_holds_the_exact_value() -> None:
    oracle = oracles.linear_gaussian()
    sandwich = bidirectional(oracle.model, 200, num_chains=4, num_steps=10, num_leapfrog=2)
    exact = pv.log_weights(oracle.model, oracle.guide, sandwich.data, 1)[0].mean()
    assert sandwich.lower.mean + 0.3 < exact < sandwich.upper.mean() - 0.3
    assert sandwich.mean_gap > 5 * sandwich.mean_gap_se
    assert "over N = 200 simulated data" in str(sandwich) and "C = 4 chains" in str(sandwich)


def test_from_the_exact_posterior_both_sides_are_exact() -> None:
    oracle = oracles.two_level()
    sandwich = bidirectional(
        oracle.model, 7, guide=oracle.guide, num_chains=2, num_steps=4, num_leapfrog=1
    )
    torch.testing.assert_close(sandwich.upper, sandwich.lower.log_px, atol=1e-10, rtol=0)
    assert sandwich.data["x"].shape == (7, 4) and sandwich.upper_se.shape == (7,)


def test_simulates_from_p_of_x() -> None:
    oracle = oracles.linear_gaussian()
    likelihood = oracle.model.nodes["x"].conditional
    x = bidirectional(oracle.model, 4000, num_chains=1, num_steps=1, pilot_chains=1).data["x"]
    covariance = likelihood.weights[0] @ likelihood.weights[0].T + 0.25 * torch.eye(4)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (x - likelihood.bias).T, upper=False
    )
    assert white.mean(1).abs().max() < 5 / 4000**0.5
    assert (white.cov() - torch.eye(4)).abs().max() < 5 * (2 / 4000) ** 0.5


def test_conditions_are_kept_and_hand_written_models_read_their_size_off_placeholders() -> None:
    model = pv.Model(
        z=pv.Node(NormalHead(MLP(3, [4], 4)), "c"),
        x=pv.Node(BernoulliHead(MLP(5, [4], 6)), "z", "c"),
    )
    c = torch.eye(3)
    data = bidirectional(
        model, 3, conditions={"c": c}, num_chains=2, num_steps=2, num_leapfrog=1
    ).data
    assert torch.equal(data["c"], c) and data["x"].shape == (3, 6)

    def by_hand(image: torch.Tensor) -> None:
        with pyro.plate("data", len(image), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("image", dist.Normal(z, 1.0), obs=image)

    sandwich = bidirectional(
        by_hand,
        5,
        observed=["image"],
        conditions={"image": torch.full((5,), 9e9)},
        num_chains=2,
        num_steps=3,
        num_leapfrog=1,
    )
    assert sandwich.data["image"].abs().max() < 20
    with pytest.raises(
        pv.PairError,
        match=r"cannot be asked for data by model\(num=...\).*placeholders for \['image'\]",
    ):
        bidirectional(by_hand, 5, observed="image", num_steps=2)
    with pytest.raises(pv.PairError, match="num_data=5, but the leading sizes"):
        bidirectional(
            by_hand, 5, observed="image", conditions={"image": torch.zeros(4)}, num_steps=2
        )


def test_refuses_to_guess_what_is_data() -> None:
    model = pv.Model(
        z=StandardNormal(2),
        y=pv.Node(BernoulliHead(MLP(2, [4], 3)), "z"),
        x=pv.Node(BernoulliHead(MLP(2, [4], 6)), "z"),
    )
    with pytest.raises(
        pv.PairError, match=r"observed=\['image'\], but the model has no sites \['image'\]"
    ):
        bidirectional(model, 3, observed="image", num_steps=2)
    with pytest.raises(pv.PairError, match=r"observes \['y'\] too. Name all sites that are data"):
        bidirectional(model, 3, conditions={"y": torch.ones(3, 3)}, num_steps=2)
    both = bidirectional(model, 3, observed=("x", "y"), num_chains=2, num_steps=2, num_leapfrog=1)
    assert set(both.data) == {"x", "y"}


def test_leaves_everything_as_it_was() -> None:
    oracle = oracles.linear_gaussian()
    oracle.model.train()
    first, second = (
        bidirectional(oracle.model, 3, num_chains=2, num_steps=2, num_leapfrog=1) for _ in range(2)
    )
    assert not torch.equal(first.data["x"], second.data["x"]) and oracle.model.training
    assert all(p.requires_grad and p.grad is None for p in oracle.model.parameters())
