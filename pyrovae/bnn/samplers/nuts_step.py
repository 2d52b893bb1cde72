"""A leaf of the trees of many chains, and when a tree turns back, as functions of tensors."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyrovae.bnn.samplers.hmc import DIVERGENT
from pyrovae.core.types import Batch


def leaf(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Callable[[Batch], dict[str, Tensor]]:
    """One leapfrog step of the chains that are `alive`, which adds a leaf to the subtree of each.

    In the batch: q, p and gradient `(R, D)` at the end of the subtree, the signed step `(R,)`,
    variance `(R, D)` (the inverse mass) and start, the energy where the path began; of the subtree
    the logarithm of its weight, the sum of its momenta, and its draw (`drawn`, with energy and
    gradient); and of the path the sum of acceptance probabilities, the leaves they are of, and
    whether it diverged.
    """

    def run(batch: Batch) -> dict[str, Tensor]:
        alive, variance = batch["alive"], batch["variance"]
        step = torch.where(alive, batch["step"], 0.0)[:, None]
        half = batch["p"] - 0.5 * step * batch["gradient"]
        q = batch["q"] + step * variance * half
        energy, gradient = value_and_gradient(q)
        p = half - 0.5 * step * gradient
        gain = batch["start"] - energy - kinetic(p, variance)
        gain = torch.where(alive & gain.isfinite(), gain, -torch.inf)
        log_weight = torch.logaddexp(batch["log_weight"], gain)
        taken = alive & (torch.rand_like(gain).log() < gain - log_weight)
        diverged = alive & ~(gain > -DIVERGENT)
        return {
            "q": q,
            "p": p,
            "gradient": gradient,
            "log_weight": log_weight,
            "momenta": batch["momenta"] + torch.where(alive[:, None], p, 0.0),
            "drawn": torch.where(taken[:, None], q, batch["drawn"]),
            "drawn_energy": torch.where(taken, energy, batch["drawn_energy"]),
            "drawn_gradient": torch.where(taken[:, None], gradient, batch["drawn_gradient"]),
            "accept": batch["accept"] + gain.clamp(max=0.0).exp(),
            "leaves": batch["leaves"] + alive,
            "diverged": batch["diverged"] | diverged,
            "alive": alive & ~diverged,
        }

    return run


def kinetic(p: Tensor, variance: Tensor) -> Tensor:
    """The kinetic energy of each chain, nats."""
    return 0.5 * (variance * p.square()).sum(1)


def turns(first: Tensor, last: Tensor, momenta: Tensor, variance: Tensor) -> Tensor:
    """Whether a path turns back: its momentum at one of both ends points against its sum."""
    along = variance * (momenta - 0.5 * (first + last))
    return ((along * first).sum(1) <= 0.0) | ((along * last).sum(1) <= 0.0)


def to_compare(index: int) -> tuple[int, range]:
    """Of leaf `index` of a subtree: where its momentum is kept if the index is even; the kept leaves
    with which it completes balanced subtrees if it is odd, innermost first.

    Example:
        >>> to_compare(2), to_compare(3)
        ((1, range(1, 1, -1)), (1, range(1, -1, -1)))
    """
    place = (index >> 1).bit_count()
    ones = (index ^ (index + 1)).bit_length() - 1
    return place, range(place, place - ones, -1)
