"""The gap between log p(x) and the ELBO, split where both parts are known in closed form."""

from collections.abc import Callable

import oracles
import pyro
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

import pyrovae as pv
from pyrovae.evidence import Gaps, inference_gaps
from pyrovae.heads import FullRankNormalHead, NormalHead
from pyrovae.nets import MLP

HEADS = {"full-rank": lambda net: FullRankNormalHead(net, 2), "diagonal": NormalHead}


def blind_guide(head: Callable[[nn.Module], nn.Module], size: int) -> pv.Guide:
    """q(z | x) = N(0, 1) whatever x is."""
    net = MLP(4, [], size)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return pv.Guide(z=pv.Node(head(net), "x"))


@pytest.mark.parametrize("name", HEADS)
def test_gaps_of_a_linear_gaussian_model_have_closed_forms(name: str) -> None:
    pyro.set_rng_seed(7)  # a posterior whose dimensions are correlated
    oracle = oracles.linear_gaussian(num_data=16)
    guide = blind_guide(HEADS[name], 5 if name == "full-rank" else 4)
    gaps = inference_gaps(
        oracle.model,
        guide,
        oracle.batch,
        num_particles=2000,
        steps=100,
        lr=0.1,
        draws=20,
        log_px=oracle.log_px,
    )
    weight = oracle.model.nodes["x"].conditional.weights[0]
    precision = torch.eye(2) + weight.T @ weight / 0.25
    # the best diagonal normal has the mean and the diagonal precision of the posterior
    approximation = (
        0.0
        if name == "full-rank"
        else 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    )
    assert name == "full-rank" or approximation > 0.3
    mean, se = gaps.means["approximation"]
    assert (
        approximation - 4 * se < mean < approximation + 0.05 + 4 * se and se < 0.05
    )  # 150 steps leave some hundredths
    prior, posterior = (
        MultivariateNormal(torch.zeros(16, 2), torch.eye(2)),
        oracle.guide.nodes["z"](oracle.batch),
    )
    total = kl_divergence(
        prior, MultivariateNormal(posterior.mean, precision_matrix=precision)
    ).mean()
    assert abs(gaps.means["total"][0] - total) < 0.05 * total
    torch.testing.assert_close(gaps.approximation + gaps.amortization, gaps.log_px - gaps.elbo)
    assert "approximation gap" in str(gaps) and "over N = 16 data" in str(gaps)


def test_a_guide_that_is_the_best_of_its_family_has_no_amortization_gap() -> None:
    oracle = oracles.linear_gaussian(num_data=16)
    weight, bias = (
        oracle.guide.nodes["z"].conditional.weights[0],
        oracle.guide.nodes["z"].conditional.bias,
    )
    guide = blind_guide(HEADS["full-rank"], 5)
    linear = next(part for part in guide.modules() if isinstance(part, nn.Linear))
    tril = oracle.guide.nodes["z"].conditional.scale_tril
    with torch.no_grad():
        linear.weight[:2], linear.bias[:2] = weight, bias
        linear.bias[2:4], linear.bias[4] = tril.diagonal().log(), tril[1, 0] * 2**0.5
    gaps = inference_gaps(oracle.model, guide, oracle.batch, num_particles=100, steps=5, lr=1e-4)
    torch.testing.assert_close(gaps.elbo, oracle.log_px, atol=1e-10, rtol=0)
    assert gaps.amortization.abs().max() < 1e-3 and gaps.approximation.abs().max() < 1e-3


def test_takes_log_px_that_is_known_better_and_data_that_can_be_read_once() -> None:
    oracle = oracles.linear_gaussian(num_data=6)
    guide = blind_guide(HEADS["diagonal"], 4)
    once = ({"x": part} for part in oracle.batch["x"].split(4))
    gaps = inference_gaps(
        oracle.model, guide, once, num_particles=50, steps=3, log_px=oracle.log_px
    )
    assert torch.equal(gaps.log_px, oracle.log_px) and gaps.elbo.shape == (6,)
    torch.testing.assert_close(
        gaps.means["total"][1], ((oracle.log_px - gaps.elbo).std() / 6**0.5).item()
    )
    with pytest.raises(ValueError, match=r"log_px has shape \(5,\), expected \(6,\)"):
        inference_gaps(
            oracle.model, guide, oracle.batch, num_particles=50, steps=3, log_px=oracle.log_px[:5]
        )


def test_log_px_is_the_better_of_two_bounds_by_default() -> None:
    oracle = oracles.linear_gaussian(num_data=16)
    guide = blind_guide(HEADS["full-rank"], 5)
    torch.manual_seed(5)
    gaps = inference_gaps(oracle.model, guide, oracle.batch, num_particles=20, steps=100, lr=0.1)
    assert gaps.means["approximation"][0] < 1.0 < gaps.means["amortization"][0]
    assert (
        abs((gaps.log_px - oracle.log_px).mean()) < 0.2
    )  # 20 draws of the blind guide are off by more
    torch.manual_seed(5)
    blind = pv.log_evidence(oracle.model, guide, oracle.batch, num_particles=20)
    assert torch.equal(blind.elbo, gaps.elbo) and blind.mean < gaps.log_px.mean() - 0.2


def test_refuses_guides_that_have_nothing_to_refine() -> None:
    oracle = oracles.linear_gaussian(num_data=6)
    with pytest.raises(pv.PairError, match="no linear layer"):
        inference_gaps(oracle.model, oracle.guide, oracle.batch, num_particles=5, steps=3)


def test_one_datum_has_gaps_without_an_error_and_without_a_warning() -> None:
    one = torch.zeros(1, dtype=torch.float64)
    mean, error = Gaps(one + 2, one + 1, one).means["total"]
    assert mean == 2 and error != error
