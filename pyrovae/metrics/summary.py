"""A number with its error bar."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class MeanError(NamedTuple):
    """Mean, its standard error and the number of values they come from."""

    mean: float
    se: float
    n: int


def mean_and_error(values: Tensor | Sequence[float]) -> MeanError:
    r"""Mean, standard error sqrt(sum (v - mean)^2 / (n (n - 1))), and n.

    Over data, it is the standard error of one trained model on new data; over splits or seeds,
    that of the whole procedure. Training sets of random splits overlap, so it is somewhat too
    small there. It is NaN, that is unknown, for n = 1 and where a value is infinite (an `nll` of a
    class with probability zero).

    Shapes: values (n,). Errors: ValueError for another shape, no values, and NaN.

    Example:
        >>> mean_and_error([2.0, 2.0, 5.0])
        MeanError(mean=3.0, se=1.0, n=3)
    """
    values = torch.as_tensor(values, dtype=torch.float64).detach()
    if values.dim() != 1 or len(values) == 0:
        raise ValueError(
            f"values has shape {tuple(values.shape)}, expected (n,) with n >= 1: one value for each datum, split "
            "or seed."
        )
    if bad := int(values.isnan().sum()):
        raise ValueError(
            f"values holds {bad} NaN of {len(values)}. Find out where they come from: leaving them out would "
            "flatter the score."
        )
    se = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else math.nan
    return MeanError(values.mean().item(), se, len(values))
