"""The continuous ranked probability score: a proper score in the units of y, which rewards sharp
and calibrated predictions."""

import math

import torch
from torch import Tensor

from pyrovae.metrics._refuse import draws_and_targets, finite, shaped


def crps(draws: Tensor, y: Tensor) -> Tensor:
    r"""CRPS(F, y) = E|Y - y| - E|Y - Y'| / 2 for independent Y, Y' ~ F, from S draws of F, without
    bias.

        1/S sum_i |Y_i - y| - 1/(S (S - 1)) sum_k (2k - S - 1) Y_(k),    Y_(1) <= ... <= Y_(S)

    The second term is the mean of |Y_i - Y_j| / 2 over pairs i != j, in O(S log S). Averaging over
    all S^2 pairs instead scores the empirical distribution of the draws, which is worse than F by
    E|Y - Y'| / 2S on average. A single value may be negative; its expectation is not.

    Shapes: draws (S, N) of y, noise included; y (N,) -> (N,), smaller is better. Units: those of
    y.
    Errors: ValueError for other shapes, NaN and S = 1.

    Source: Gneiting & Raftery 2007, JASA 102(477), section 4.2; Zamo & Naveau 2018, Mathematical
    Geosciences 50(2), the "fair" estimator in its form by probability-weighted moments.

    Example:
        >>> crps(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([1.0]))
        tensor([0.])
    """
    draws_and_targets(draws, y)
    if (size := len(draws)) < 2:
        raise ValueError(
            "draws has S = 1, expected at least 2: the spread of one draw is unknown. Draw more; the absolute "
            "error of a single prediction is (draws[0] - y).abs()."
        )
    away = draws - y
    ranks = torch.arange(1 - size, size, 2, dtype=draws.dtype, device=draws.device)
    spread = (ranks[:, None] * away.sort(0).values).sum(0) / (size * (size - 1))
    return away.abs().mean(0) - spread


def crps_normal_mixture(loc: Tensor, scale: Tensor, y: Tensor, *, chunk: int = 2**17) -> Tensor:
    r"""Exact CRPS of the mixture (1/S) sum_s N(loc_s, scale_s^2), the prediction of S draws of the
    weights.

        1/S sum_i A(y - m_i, s_i^2) - 1/(2 S^2) sum_ij A(m_i - m_j, s_i^2 + s_j^2),
        A(m, s^2) = E|N(m, s^2)| = 2 s phi(m / s) + m (2 Phi(m / s) - 1)

    Exact for this mixture, which itself depends on the draws of the weights. It takes S^2 N / 2
    evaluations of A and memory for `chunk` of them, or S where that is more.

    Shapes: loc and scale (S, N), or any that broadcast to it; y (N,) -> (N,), smaller is better.
    Units: those of y.
    Errors: ValueError for other shapes, NaN, and scales that are not positive.

    Source: Grimit, Gneiting, Berrocal & Johnson 2006, Quarterly Journal of the Royal
    Meteorological Society 132(621C).

    Example:
        >>> crps_normal_mixture(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1))  # (sqrt(2) - 1) / sqrt(pi)
        tensor([0.2337])
    """
    finite("scale", scale)
    if scale.min() <= 0:
        raise ValueError(
            f"scale holds {scale.min().item():.4g}, expected positive standard deviations."
        )
    shape = torch.broadcast_shapes(loc.shape, scale.shape)
    loc, scale = loc.expand(shape), scale.expand(shape)
    draws_and_targets(loc, y, "loc")
    shaped("scale", scale, loc.shape, "that of loc")
    size = len(loc)
    columns = max(1, chunk // size)
    parts = zip(loc.T.split(columns), scale.square().T.split(columns), y.split(columns))
    return torch.cat(
        [
            _mixture(mean.T.contiguous(), variance.T.contiguous(), target)
            for mean, variance, target in parts
        ]
    )


def _mixture(loc: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    size = len(loc)
    pairs = 2 * (variance / math.pi).sqrt().sum(0)  # i = j, where A is 2 s / sqrt(pi)
    for lag in range(
        1, size
    ):  # all pairs i - j = lag at once; those with j - i = lag are their mirror images
        pairs = pairs + 2 * _mean_abs(
            loc[lag:] - loc[:-lag], variance[lag:] + variance[:-lag]
        ).sum(0)
    return _mean_abs(y - loc, variance).mean(0) - pairs / (2 * size**2)


def _mean_abs(mean: Tensor, variance: Tensor) -> Tensor:
    """A(m, s^2), written so that it takes one exponential and one error function."""
    return (2 * variance / math.pi).sqrt() * (mean.square() / (-2 * variance)).exp() + mean * (
        mean * (2 * variance).rsqrt()
    ).erf()
