"""One number that is fitted on held-out data and corrects the confidence of class probabilities."""

import torch
from torch import Tensor

from pyrovae.metrics._refuse import labels, probabilities

LARGEST = 100.0
"""Of the temperature and of its inverse."""


def temper(probs: Tensor, temperature: float) -> Tensor:
    r"""p_c^(1/T) / sum_c p_c^(1/T): softer for T > 1, sharper for T < 1; the largest stays the largest.

    Shapes: (N, C) -> (N, C), float64.
    Source: Guo, Pleiss, Sun & Weinberger 2017, arXiv:1706.04599, section 4.2, on the logarithms of
    probabilities, so that it serves every method.

    Example:
        >>> temper(torch.tensor([[0.8, 0.2]]), 2.0)
        tensor([[0.6667, 0.3333]], dtype=torch.float64)
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}, expected a positive number.")
    return (_logarithms(probs) / temperature).softmax(-1)


def fit_temperature(probs: Tensor, y: Tensor) -> float:
    r"""The T of `temper` with the least mean negative log-likelihood of held-out labels, between 1/100
    and 100.

    The function is convex in 1/T. Where all predictions are right it falls as T goes to 0, and T is
    where it has no slope left in double precision.

    Shapes: probs (N, C); y (N,), int64. Errors: ValueError for invalid probabilities, and labels
    outside 0..C-1.

    Example:
        >>> probs = torch.tensor([[0.8, 0.2]] * 3)
        >>> round(fit_temperature(probs, torch.tensor([0, 0, 1])), 3)  # two of three are right
        2.0
    """
    probabilities(probs)
    y = labels(y, probs)
    logs = _logarithms(probs)
    given = logs.gather(-1, y.unsqueeze(-1)).squeeze(-1)

    def slope(inverse: float) -> float:
        """d NLL / d(1/T)."""
        return float(((inverse * logs).softmax(-1) * logs).sum(-1).mean() - given.mean())

    if slope(1.0) == 0.0:  # as where all classes are alike, whatever T
        return 1.0
    low, high = -1.0, 1.0  # log 1/T in units of log LARGEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(LARGEST**middle) < 0 else (low, middle)
    return LARGEST ** (-(low + high) / 2)


def _logarithms(probs: Tensor) -> Tensor:
    probs = probs.double()
    return probs.clamp(min=torch.finfo(torch.float32).tiny).log()
