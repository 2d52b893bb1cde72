"""Calibration of class probabilities: predictions of confidence p should be right with frequency
p."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyrovae.metrics._refuse import labels, probabilities


class Reliability(NamedTuple):
    """The values of a reliability diagram; confidence and accuracy are NaN in a bin without
    data."""

    confidence: Tensor
    """Mean probability of the predicted class, `(bins,)`."""
    accuracy: Tensor
    """Share of right predictions, `(bins,)`."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which is not used here
    """Number of data, `(bins,)`, int64."""


def reliability(probs: Tensor, y: Tensor, bins: int = 15, adaptive: bool = False) -> Reliability:
    r"""Confidence, accuracy and number of the data in bins of the largest probability.

    Bin m of M holds (m - 1)/M < max_c p_c <= m/M. `adaptive`: the M bins end at the m/M quantiles,
    so that they hold equal numbers of data; equal confidences stay in one bin, which leaves some
    bins empty.

    Shapes: probs (N, C); y (N,), int64 -> three (bins,), float64 and int64. Errors: ValueError for
    invalid probabilities, labels outside 0..C-1, and bins < 1.

    Source: Guo, Pleiss, Sun & Weinberger 2017, arXiv:1706.04599, section 2.

    Example:
        >>> probs = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.1, 0.9]])
        >>> reliability(probs, torch.tensor([0, 0, 1]), bins=4).count
        tensor([0, 0, 2, 1])
    """
    probabilities(probs)
    y = labels(y, probs)
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1.")
    confidence, predicted = probs.max(-1)
    confidence, right = confidence.double(), (predicted == y).double()
    inner = torch.arange(1, bins, device=probs.device)
    if adaptive:
        ends = confidence.sort().values[(inner * len(y) + bins - 1) // bins - 1]
    else:
        ends = inner.double() / bins
    index = torch.searchsorted(ends, confidence)
    count = torch.bincount(index, minlength=bins)
    confidence, right = (
        torch.bincount(index, values, minlength=bins) / count for values in (confidence, right)
    )
    return Reliability(confidence, right, count)


def calibration_error(probs: Tensor, y: Tensor, bins: int = 15, adaptive: bool = False) -> Tensor:
    r"""Expected calibration error, sum_m (n_m / N) |accuracy_m - confidence_m| over the bins of
    `reliability`.

    Biased up at finite N, the more so the more bins: a perfectly calibrated classifier does not
    score zero. It depends on the bins, so compare at equal `bins` and N; 15 of equal width is
    common. No mean over data: its standard error comes from several seeds or a bootstrap. Only the
    predicted class counts.

    Shapes: probs (N, C); y (N,), int64 -> (), in [0, 1]. Errors: ValueError as for `reliability`.

    Source: Naeini, Cooper & Hauskrecht 2015, AAAI; Guo et al. 2017, arXiv:1706.04599, section 2;
    bins of equal mass: Nixon et al. 2019, arXiv:1904.01685.

    Example:
        >>> probs = torch.tensor([[0.75, 0.25]]).expand(4, 2)
        >>> calibration_error(probs, torch.tensor([0, 0, 0, 1])), calibration_error(probs, torch.tensor([0, 0, 0, 0]))
        (tensor(0.), tensor(0.2500))
    """
    confidence, right, count = reliability(probs, y, bins, adaptive)
    gaps = (right - confidence).abs().nan_to_num(nan=0.0)
    return (gaps * count).sum().div(count.sum()).to(probs.dtype)
