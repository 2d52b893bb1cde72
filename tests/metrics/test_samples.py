"""Scores of samples: formulas of normals, moments, balls by hand, and what the errors are worth."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from pyrovae.metrics import (
    block_error,
    class_coverage,
    frechet_distance,
    kernel_distance,
    mean_and_error,
    sample_precision,
    sample_recall,
)


def with_moments(num: int, mean: Tensor, root: Tensor) -> Tensor:
    """Rows whose mean and covariance are exactly these."""
    x = torch.randn(num, len(mean))
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), x.T, upper=False).T
    return white @ root.T + mean


def test_frechet_distance_of_two_normals() -> None:
    a, b = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 1.0])
    s, t = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.5, 0.2, 0.5])
    x, y = with_moments(50, a, s.diag()), with_moments(70, b, t.diag())
    expected = (a - b).square().sum() + (s - t).square().sum()
    assert frechet_distance(x, y).item() == pytest.approx(expected.item(), abs=1e-10)
    root, other = torch.randn(3, 3), torch.randn(3, 3)
    x, y = with_moments(50, a, root), with_moments(70, b, other)
    covariances = (root @ root.T).numpy(), (other @ other.T).numpy()
    shared = sqrtm(covariances[0] @ covariances[1]).real
    expected = (a - b).square().sum().item() + np.trace(sum(covariances) - 2 * shared)
    assert frechet_distance(x, y).item() == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(x, x).item() == pytest.approx(0.0, abs=1e-6)
    few = torch.randn(3, 5)  # a singular covariance
    assert frechet_distance(few, few).item() == pytest.approx(0.0, abs=1e-5)


def test_kernel_distance_is_the_average_over_pairs() -> None:
    x, y = torch.randn(4, 2), torch.randn(5, 2)

    def k(a: Tensor, b: Tensor) -> float:
        return ((a @ b / 2 + 1) ** 3).item()

    one = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    two = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    both = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y).item() == pytest.approx(one + two - 2 * both, abs=1e-10)


def test_kernel_distance_is_unbiased() -> None:
    """In one dim it is 3 (dm1)^2 + 3 (dm2)^2 + (dm3)^2 of the moments."""
    equal = [kernel_distance(torch.randn(20, 3), torch.randn(30, 3)) for _ in range(2000)]
    mean, se, _ = mean_and_error(torch.stack(equal))
    assert abs(mean) < 5 * se
    other = [kernel_distance(torch.randn(20, 1), 0.5 + torch.randn(30, 1)) for _ in range(2000)]
    mean, se, _ = mean_and_error(torch.stack(other))
    moments = 0.5, 0.25, 0.5**3 + 3 * 0.5
    expected = 3 * moments[0] ** 2 + 3 * moments[1] ** 2 + moments[2] ** 2
    assert abs(mean - expected) < 5 * se


def test_balls_reach_to_the_kth_neighbour() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # balls of 1, 1, 2, 7 for k = 1
    fake = torch.tensor([[-1.0], [-1.1], [2.0], [6.0], [17.5]])
    assert sample_precision(real, fake, neighbours=1).tolist() == [1, 0, 1, 1, 0]
    assert sample_recall(real, fake, neighbours=1).equal(
        sample_precision(fake, real, neighbours=1)
    )
    x = torch.randn(40, 3)
    assert sample_precision(x, x).all() and sample_recall(x, x).all()
    assert not sample_precision(x, x + 100).any() and not sample_recall(x, x + 100).any()


def test_each_fault_lowers_its_own_score() -> None:
    """Two clusters: noise beside good samples, and a cluster left out."""
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0]])
    real = (centres[:, None] + torch.randn(2, 200, 2)).flatten(0, 1)
    good = (centres[:, None] + torch.randn(2, 200, 2)).flatten(0, 1)
    noisy = torch.cat([good, torch.tensor([10.0, 30.0]) + torch.randn(400, 2)])
    dropped = good[:200]
    assert sample_precision(real, good).mean() > 0.95 < sample_recall(real, good).mean()
    assert sample_precision(real, noisy).mean() < 0.55 and sample_recall(real, noisy).mean() > 0.95
    assert sample_precision(real, dropped).mean() > 0.95
    assert sample_recall(real, dropped).mean() < 0.55


def test_a_class_that_is_dropped_costs_its_share() -> None:
    real = torch.arange(100) % 10
    assert class_coverage(real, real, classes=10).item() == pytest.approx(1.0)
    assert class_coverage(real, real[real != 3], classes=10).item() == pytest.approx(0.9)
    assert class_coverage(real, torch.zeros(5).long(), classes=10).item() == pytest.approx(0.1)


def test_the_error_of_a_difference_of_means_is_the_usual_one() -> None:
    real, fake = torch.randn(300), torch.randn(300) + 1
    found = block_error(lambda a, b: b.mean() - a.mean(), real, fake, blocks=150)
    usual = ((real.var() + fake.var()) / 300) ** 0.5
    assert found.mean == pytest.approx((fake.mean() - real.mean()).item())
    assert found.se == pytest.approx(usual.item(), rel=0.2)  # 150 blocks know it to 6 per cent


@pytest.mark.parametrize("score", [frechet_distance, kernel_distance])
def test_errors_by_blocks_are_those_of_repetition(score) -> None:
    found = [
        block_error(score, torch.randn(200, 2), 0.5 + torch.randn(200, 2)) for _ in range(200)
    ]
    values = torch.tensor([one.mean for one in found])
    errors = torch.tensor([one.se for one in found]).square().mean().sqrt()
    assert errors.item() == pytest.approx(values.std().item(), rel=0.3)  # each known to 5-10 %
    equal = block_error(kernel_distance, torch.randn(200, 2), torch.randn(200, 2))
    assert abs(equal.mean) < 5 * equal.se


def test_misuse_is_refused() -> None:
    x = torch.randn(6, 2)
    for score in (frechet_distance, kernel_distance, sample_precision, sample_recall):
        with pytest.raises(ValueError, match="expected features"):
            score(x, x[:, :1])
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(x / 0, x)
    with pytest.raises(ValueError, match="neighbours=6"):
        sample_precision(x, x, neighbours=6)
    with pytest.raises(ValueError, match=r"fake holds 0..10, expected classes 0..9"):
        class_coverage(torch.arange(3), torch.tensor([0, 10]), classes=10)
    with pytest.raises(ValueError, match="expected one class"):
        class_coverage(torch.arange(3.0), torch.arange(3), classes=10)
    with pytest.raises(ValueError, match="blocks=20, expected at least 2 and at most 3"):
        block_error(frechet_distance, x, x)
