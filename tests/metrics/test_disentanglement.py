"""MIG and SAP: 1 for codes that are the factors, 0 for codes that know nothing, and scikit-learn."""

import math

import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score

from pyrovae.metrics import (
    factor_information,
    mutual_information_gap,
    separated_predictability,
)

FACTORS = torch.cartesian_prod(torch.arange(4), torch.arange(5), torch.arange(3))


def test_codes_that_are_the_factors_score_one() -> None:
    codes = FACTORS[:, [2, 0, 1]].double() * torch.tensor([-3.0, 0.5, 2.0]) + 1
    assert mutual_information_gap(codes, FACTORS).item() == pytest.approx(1.0, abs=1e-12)
    assert separated_predictability(codes, FACTORS).item() == pytest.approx(1.0, abs=1e-12)
    unused = torch.cat([codes, torch.full((len(codes), 2), 0.7)], 1)
    assert mutual_information_gap(unused, FACTORS).item() == pytest.approx(1.0, abs=1e-12)
    assert separated_predictability(unused, FACTORS).item() == pytest.approx(1.0, abs=1e-12)


def test_codes_that_are_independent_of_the_factors_score_zero() -> None:
    """Each value of the code meets each combination of factors once."""
    grid = torch.cartesian_prod(torch.arange(6), torch.arange(7), torch.arange(len(FACTORS)))
    codes, factors = grid[:, :2].double(), FACTORS[grid[:, 2]]
    assert factor_information(codes, factors).abs().max() < 1e-12
    assert mutual_information_gap(codes, factors).item() == pytest.approx(0.0, abs=1e-12)
    score = separated_predictability(codes, factors, classes=[2])
    assert score.item() == pytest.approx(0.0, abs=1e-12)


def test_two_dims_that_know_the_same_score_zero() -> None:
    codes = FACTORS[:, [0, 0, 1, 1, 2, 2]].double()
    assert mutual_information_gap(codes, FACTORS).item() == pytest.approx(0.0, abs=1e-12)
    assert separated_predictability(codes, FACTORS).item() == pytest.approx(0.0, abs=1e-12)


def test_a_rotation_lowers_both() -> None:
    codes = FACTORS.double() - FACTORS.double().mean(0)
    turn, _ = torch.linalg.qr(torch.randn(3, 3))
    for score in (mutual_information_gap, separated_predictability):
        assert score(codes @ turn, FACTORS) < 0.7


def test_one_dim_for_all_factors_is_the_known_blind_spot_of_mig() -> None:
    all_in_one = (FACTORS[:, 0] * 5 + FACTORS[:, 1]).double()
    codes = torch.stack([all_in_one, torch.zeros(len(FACTORS))], 1)
    assert mutual_information_gap(codes, FACTORS[:, :2]).item() == pytest.approx(1.0, abs=1e-12)


def test_the_parts_are_those_of_scikit_learn() -> None:
    codes = torch.randn(len(FACTORS), 2) + FACTORS[:, :2]
    low, high = codes.amin(0), codes.amax(0)
    binned = ((codes - low) / (high - low) * 10).long().clamp(max=9)
    found = factor_information(codes, FACTORS, bins=10)
    for d in range(2):
        for k in range(3):
            theirs = mutual_info_score(binned[:, d].numpy(), FACTORS[:, k].numpy())
            assert found[d, k].item() == pytest.approx(theirs, abs=1e-12)
    lines = [
        LinearRegression().fit(codes[:, [d]], FACTORS[:, 0]).score(codes[:, [d]], FACTORS[:, 0])
        for d in range(2)
    ]
    ours = separated_predictability(codes, FACTORS[:, :1]).item()
    assert ours == pytest.approx(abs(lines[0] - lines[1]), abs=1e-12)


def test_classes_are_cut_by_thresholds() -> None:
    """A code in the wrong order has a poor line and perfect thresholds; the other dim guesses 1 in 3."""
    order = torch.tensor([1.0, 2.0, 0.0])
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    codes = torch.stack([order[grid[:, 0]], grid[:, 1].double()], 1)
    found = separated_predictability(codes, grid[:, :1], classes=[0])
    assert found.item() == pytest.approx(1 - 1 / 3, abs=1e-12)
    assert separated_predictability(codes, grid[:, :1]).item() == pytest.approx(0.25, abs=1e-12)
    unused = codes.clone()
    unused[:, 1] *= 0.01
    found = separated_predictability(unused, grid[:, :1], classes=[0])
    assert found.item() == pytest.approx(1.0, abs=1e-12)


def test_misuse_is_refused() -> None:
    codes = FACTORS.double()
    for score in (mutual_information_gap, separated_predictability):
        with pytest.raises(ValueError, match="a gap is between two dims"):
            score(codes[:, :1], FACTORS)
        with pytest.raises(ValueError, match="expected whole numbers"):
            score(codes, codes)
        with pytest.raises(ValueError, match="factor 1 has the value 0 throughout"):
            score(codes, FACTORS * torch.tensor([1, 0, 1]))
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(codes / 0, FACTORS)
    with pytest.raises(ValueError, match="expected columns of factors"):
        separated_predictability(codes, FACTORS, classes=[3])
    assert math.isclose(mutual_information_gap(codes, FACTORS, bins=5).item(), 1.0)
