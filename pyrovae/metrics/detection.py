"""Detection of out-of-distribution data by a score, such as the entropy of predictions."""

import torch
from torch import Tensor

from pyrovae.metrics._refuse import finite


def auroc(scores_in: Tensor, scores_out: Tensor) -> Tensor:
    r"""Area under the ROC curve, P(s_out > s_in) + P(s_out = s_in) / 2: 1/2 for a useless score, 1
    for a perfect one.

    Out-of-distribution data are the positives and should have the *higher* score: entropy, mutual
    information or minus the confidence. Below 1/2 the sign of the score is wrong.

    Shapes: scores_in (N,), scores_out (M,) -> (). Errors: ValueError for other shapes, NaN and
    infinities.

    Source: Hanley & McNeil 1982, Radiology 143(1): the area is this probability.

    Example:
        >>> auroc(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.2, 0.4]))
        tensor(0.7500)
    """
    _scores(scores_in, scores_out)
    ordered = scores_in.sort().values
    scores_out = scores_out.contiguous()  # searchsorted warns otherwise
    below = torch.searchsorted(ordered, scores_out)
    not_above = torch.searchsorted(ordered, scores_out, right=True)
    return ((below + not_above).double().mean() / (2 * len(ordered))).to(scores_in.dtype)


def aupr(scores_in: Tensor, scores_out: Tensor) -> Tensor:
    r"""Area under the precision-recall curve as average precision, sum_t (R_t - R_{t-1}) P_t over
    distinct thresholds.

    Out-of-distribution data are the positives and should have the *higher* score. A useless score
    gets M / (N + M), so numbers compare only at one ratio of the two sets. The curve is made of
    steps: linear interpolation between precisions is too optimistic.

    Shapes: scores_in (N,), scores_out (M,) -> (). Errors: ValueError for other shapes, NaN and
    infinities.

    Source: Davis & Goadrich 2006, ICML, for why not to interpolate linearly.

    Example:
        >>> aupr(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.4]))
        tensor(0.8333)
    """
    _scores(scores_in, scores_out)
    thresholds, found = scores_out.unique(return_counts=True)
    true = found.flip(0).cumsum(0).flip(0)
    false = len(scores_in) - torch.searchsorted(scores_in.sort().values, thresholds)
    return (
        ((found * true).double() / (true + false)).sum().div(len(scores_out)).to(scores_in.dtype)
    )


def _scores(scores_in: Tensor, scores_out: Tensor) -> None:
    for name, scores in (("scores_in", scores_in), ("scores_out", scores_out)):
        if scores.dim() != 1:
            raise ValueError(
                f"{name} has shape {tuple(scores.shape)}, expected one score a datum: (N,)."
            )
        finite(name, scores)
    if scores_in.dtype != scores_out.dtype:
        raise ValueError(
            f"scores_in is {scores_in.dtype} and scores_out {scores_out.dtype}, expected one dtype, as rounding "
            "decides ties. Use .double() on both."
        )
