"""SWAG: a normal through the iterates of SGD."""

from collections.abc import Mapping

import torch
from torch import Tensor


def swag(draws: Mapping[str, Tensor], *, rank: int = 20) -> dict[str, Tensor]:
    r"""Moments of N(mean, (diag(var) + D D^T / (rank - 1)) / 2), D the last deviations from the
    mean.

    draws: iterates `(S, *shape)` by site.

    Returns `loc` (P,), `factor` (P, rank) and `scale` (P,) for `JointNormal(net,
    rank=rank).set(**moments)`; the sites must be in the net's order, as `PointEstimate.values`
    gives them.
    Raises: ValueError for fewer than `rank` + 1 iterates, or a rank below 2.
    Source: Maddox et al. 2019, arXiv:1902.02476, eq. 1 and algorithm 1; differing: deviations are
    from the final mean.

    Example:
        >>> {name: tuple(value.shape) for name, value in swag({"w": torch.randn(30, 2, 3)}, rank=5).items()}
        {'loc': (6,), 'factor': (6, 5), 'scale': (6,)}
    """
    flat = torch.cat([value.reshape(len(value), -1) for value in draws.values()], dim=1)
    if rank < 2 or len(flat) <= rank:
        raise ValueError(
            f"{len(flat)} iterates and rank={rank}, expected a rank of at least 2 and more iterates than that."
        )
    mean, variance = flat.mean(0), flat.var(0, correction=0)
    factor = (flat[-rank:] - mean).T / (2.0 * (rank - 1)) ** 0.5
    return {"loc": mean, "factor": factor, "scale": (0.5 * variance).clamp_min(1e-12).sqrt()}
