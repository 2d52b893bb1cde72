"""Shifted images against closed forms, and probabilities of single draws against their mean."""

import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, MeanField, PointEstimate
from pyrovae.core.errors import PairError
from pyrovae.heads import CategoricalHead, FixedScaleNormalHead
from pyrovae.prediction.class_draws import predict_probs
from pyrovae.recipes.ensemble_curves import detection, scores
from pyrovae.recipes.image_shifts import SHIFTS, STRENGTHS, blurred, noisy, rotated, translated


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_keeps_shape_and_range_and_grows_with_strength(name: str) -> None:
    x = torch.rand(4, 3, 28, 28)
    moved = [SHIFTS[name](x, strength) for strength in STRENGTHS]
    assert all(
        one.shape == x.shape and -1e-6 <= one.min() and one.max() <= 1 + 1e-6 for one in moved
    )
    change = [(one - x).square().mean().item() for one in moved]
    assert 0 < change[0] < change[-1]
    assert all(torch.equal(SHIFTS[name](x, 2), SHIFTS[name](x, 2)) for _ in range(2))


def test_shifts_do_what_they_are_called() -> None:
    point = torch.zeros(1, 1, 29, 29)
    point[0, 0, 14, 14] = 1.0
    assert rotated(point, 3)[0, 0, 14, 14] == pytest.approx(1.0)  # the centre stays
    side = torch.zeros(1, 1, 28, 28)
    side[0, 0, 10, 10] = 1.0
    assert translated(side, 2)[0, 0, 14, 14] == pytest.approx(1.0)  # 2 / 14 of 28 pixels
    spread = blurred(point, 2)[0, 0]
    line, places = spread.sum(0), torch.arange(29.0) - 14
    assert line.sum() == pytest.approx(1.0) and line @ places == pytest.approx(0.0, abs=1e-6)
    assert line @ places.double() ** 2 == pytest.approx((29 * 2 / 56) ** 2, rel=0.05)
    grey = torch.full((1, 1, 200, 200), 0.5)
    assert noisy(grey, 1).std() == pytest.approx(0.1, rel=0.03)


def test_probabilities_of_draws_are_those_of_their_mean() -> None:
    net = pv.Bayesian(nn.Linear(3, 4))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    x = torch.randn(7, 3)
    draws = {
        name: torch.randn(5, *value.shape) for name, value in PointEstimate(net).values().items()
    }
    probs = predict_probs(model, Empirical(draws), {"x": x}, num_samples=5)
    by_hand = (
        torch.einsum("nd,scd->snc", x, draws["w.weight"]) + draws["w.bias"].unsqueeze(1)
    ).softmax(-1)
    assert torch.allclose(probs, by_hand)
    moments = pv.predict_moments(model, Empirical(draws), {"x": x}, num_samples=5, site="y")
    assert torch.allclose(probs.mean(0), moments.mean)
    alone = predict_probs(model, PointEstimate(model), {"x": x}, num_samples=1)
    assert alone.shape == (1, 7, 4) and torch.allclose(alone.sum(-1), torch.ones(1, 7))
    real = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
    with pytest.raises(PairError, match="expected a Categorical"):
        predict_probs(real, MeanField(real), {"x": x}, num_samples=2)


def test_scores_of_known_probabilities() -> None:
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    found = scores(sure.clamp(0.01, 0.99), torch.tensor([0, 1, 0, 1]))
    assert found["error_percent"] == pytest.approx(25.0) and found["ece"] == pytest.approx(0.24)
    torn = torch.stack([sure, sure.flip(-1)])
    agreed = torch.stack([sure, sure])
    assert detection(agreed, torn) == {"auroc": 1.0, "auroc_mi": 1.0}
    assert detection(agreed[:1], torn[:1]) == {"auroc": 0.5}
