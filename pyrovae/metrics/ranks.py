"""Ranks of true values among draws of their posterior, and whether they are uniform."""

import torch
from torch import Tensor

from pyrovae.metrics._refuse import shaped

FEWEST, MOST, EACH = 2, 20, 20
"""Bounds on the number of bins, and the ranks that each should hold by default."""


def rank_statistics(draws: Tensor, truth: Tensor) -> Tensor:
    r"""The number of draws below the true value, sum_l 1(draw_l < truth), from 0 to L.

    Draws equal to the true value (discrete ones) fall on either side at random, by torch's
    generator, so that ranks are uniform on 0, ..., L wherever truth and draws are exchangeable.

    Shapes: draws (L, *), truth (*) -> (*), int64. Errors: ValueError for other shapes and for NaN.

    Source: Talts et al. 2018, arXiv:1804.06788, algorithm 1.

    Example:
        >>> rank_statistics(torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]), torch.tensor([2.5, 9.0]))
        tensor([2, 3])
    """
    if draws.dim() == 0 or not len(draws):
        raise ValueError(
            f"draws has shape {tuple(draws.shape)}, expected (L, *) with at least one draw."
        )
    shaped(
        "truth", truth, draws.shape[1:], f"one true value for all draws of {tuple(draws.shape)}"
    )
    if bad := int(draws.isnan().sum() + truth.isnan().sum()):
        raise ValueError(
            f"{bad} draws or true values are NaN, which have no rank. Look where the fits failed."
        )
    below, ties = (draws < truth).sum(0), (draws == truth).sum(0)
    share = torch.rand(ties.shape, device=ties.device, dtype=torch.float64)
    return below + (share * (ties + 1)).long().minimum(ties)


def rank_bins(num_simulations: int, num_draws: int) -> int:
    """The default number of bins: about 20 ranks each (Talts et al. 2018, section 4.1), 2 to 20
    bins, of equal width where a divisor of L + 1 is near.

    Example:
        >>> rank_bins(500, 199), rank_bins(100, 99)
        (20, 5)
    """
    most = min(max(FEWEST, min(MOST, num_simulations // EACH)), num_draws + 1)
    equal = [bins for bins in range(FEWEST, most + 1) if (num_draws + 1) % bins == 0]
    return equal[-1] if equal and 2 * equal[-1] > most else most


def rank_counts(ranks: Tensor, num_draws: int, bins: int) -> tuple[Tensor, Tensor]:
    """Ranks in each bin, and the expected number where ranks are uniform.

    Rank r of L draws lies in bin floor(r * bins / (L + 1)); where bins do not divide L + 1 some
    hold one rank more, which the expected number allows for.

    Shapes: ranks (R, *) -> (bins, *), int64, and (bins,), float64.
    Errors: ValueError for ranks outside 0, ..., L and for other than 2 to L + 1 bins.

    Example:
        >>> rank_counts(torch.tensor([0, 1, 3, 3]), 3, 2)
        (tensor([2, 2]), tensor([2., 2.], dtype=torch.float64))
    """
    if not FEWEST <= bins <= num_draws + 1:
        raise ValueError(
            f"bins={bins}, expected from {FEWEST} to L + 1 = {num_draws + 1}, the number of different ranks."
        )
    if not len(ranks) or ranks.min() < 0 or ranks.max() > num_draws:
        raise ValueError(
            f"ranks of shape {tuple(ranks.shape)} are not numbers from 0 to L = {num_draws}. Pass the number of "
            "draws that they were counted among."
        )
    bin_of = (ranks * bins).div(num_draws + 1, rounding_mode="floor")
    counts = torch.stack([(bin_of == index).sum(0) for index in range(bins)])
    every = torch.arange(num_draws + 1, device=ranks.device)
    width = torch.bincount(
        (every * bins).div(num_draws + 1, rounding_mode="floor"), minlength=bins
    )
    return counts, width.double() * len(ranks) / (num_draws + 1)


def uniformity_p_value(ranks: Tensor, num_draws: int, bins: int | None = None) -> Tensor:
    r"""The p-value of Pearson's chi-square test that ranks are uniform on 0, ..., L.

    sum_b (O_b - E_b)^2 / E_b is chi-square with bins - 1 degrees of freedom, closely if E_b >= 5.
    Wants independent simulations and, within each, independent draws.

    Shapes: ranks (R, *) -> (*), float64. Errors: ValueError as for `rank_counts`.

    Example:
        >>> uniformity_p_value(torch.arange(100), 99, bins=10), uniformity_p_value(torch.zeros(100).long(), 99) < 1e-9
        (tensor(1., dtype=torch.float64), tensor(True))
    """
    bins = rank_bins(len(ranks), num_draws) if bins is None else bins
    counts, expected = rank_counts(ranks, num_draws, bins)
    expected = expected.reshape(-1, *(1,) * (counts.dim() - 1))
    statistic = ((counts - expected) ** 2 / expected).sum(0)
    return torch.special.gammaincc(torch.full_like(statistic, (bins - 1) / 2), statistic / 2)


def randomized_pit(ranks: Tensor, num_draws: int) -> Tensor:
    """(rank + u) / (L + 1) with u uniform on (0, 1): uniform on (0, 1) where the ranks are uniform.

    Shapes: ranks (R, *) -> (R, *), float64. Randomness is torch's.

    Example:
        >>> bool((randomized_pit(torch.tensor([0, 3]), 3) * 4).floor().eq(torch.tensor([0, 3])).all())
        True
    """
    noise = torch.rand(ranks.shape, device=ranks.device, dtype=torch.float64)
    return (ranks + noise) / (num_draws + 1)
