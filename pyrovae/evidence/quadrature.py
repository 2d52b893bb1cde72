"""log p(x) by integrating over a grid: the truth to hold other estimates against, in one or two
latent dimensions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.core.batching import Data, rebatch, size_of
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import Batch
from pyrovae.evidence.ais_path import check_path
from pyrovae.evidence.quadrature_grid import COARSE, FINE, Box, Integrand
from pyrovae.evidence.result import standard_error
from pyrovae.evidence.runtime import derived_seed, evaluation, first_batch

TILE = 32
ROUNDS = 40


@dataclass(frozen=True)
class Quadrature:
    """log p(x) of each datum in nats, `(N,)` float64 on the CPU, with an estimate of its error."""

    log_px: Tensor
    error: Tensor
    """By how much halving the spacing moved `log_px`, or a quarter of how much the halving before
    it did.

    Kinks make errors of the order of the spacing squared and of either sign, so one move alone may
    be small by luck. Infinite where no box was found that holds the mass.
    """
    num_points: Tensor
    """Points of each datum's last grid."""

    @property
    def mean(self) -> float:
        """Average log p(x) over the data."""
        return self.log_px.mean().item()

    @property
    def mean_se(self) -> float:
        """Standard error of `mean` as an estimate for the population the data come from; NaN for
        one datum."""
        return standard_error(self.log_px)

    def __str__(self) -> str:
        return (
            f"log p(x) = {self.mean:.3f} +- {self.mean_se:.3f} nats (mean and standard error over N = "
            f"{len(self.log_px)} data; grids of up to {int(self.num_points.max())} points, largest error "
            f"{self.error.max():.1e})"
        )


def quadrature(
    model: Callable,
    data: Data,
    *,
    tolerance: float = 1e-6,
    max_points: int = 2**18,
    names: Sequence[str] | None = None,
    plate: str = DATA,
    progress: Callable[[int], object] | None = None,
) -> Quadrature:
    r"""Compute log p(x_i) = log \int p(x_i, z) dz of each datum on a grid, in nats, for at most
    two latent dimensions.

    A coarse grid over the prior finds a box that holds the mass of p(x_i, z); a grid in that box
    is then made twice as fine until log p(x_i) moves by less than `tolerance`, or has `max_points`
    points. The trapezoid rule is exact but for rounding once the spacing is near the posterior's
    standard deviation, where the density is smooth; kinks (a decoder with ReLUs) cost points, and
    what they left is in `error`.

    A mode narrower than a twentieth of the coarse grid's spacing (1025 points along one dimension,
    65 along each of two) can be missed beside a wider one, and tails heavier than exponential can
    make the box too large for any grid.

    Runs in eval mode without gradients, leaves parameters and flags alone, and takes one draw from
    torch's generator (for the extent of the prior). progress: called with the number of data that
    are done since the last call.

    Raises: PairError for more than two latent dimensions, or none, and for sites that
    `annealed_importance` refuses.

    Example:
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(1), x=Node(BernoulliHead(MLP(1, [8], 4)), "z"))
        >>> quadrature(model, {"x": torch.ones(3, 4)}).error.max() < 1e-6
        tensor(True)
    """
    results = []
    with evaluation(model) as seed:
        first, stream = first_batch(data, names, model)
        check_path(model, None, first, plate, "quadrature integrates over")
        for index, tile in enumerate(rebatch(stream, TILE)):
            torch.manual_seed(derived_seed(seed, index))
            results.append(_integrate(model, tile, plate, tolerance, max_points))
            if progress is not None:
                progress(size_of(tile))
    return Quadrature(*(torch.cat(parts).cpu() for parts in zip(*results)))


def _integrate(
    model: Callable, tile: Batch, plate: str, tolerance: float, max_points: int
) -> tuple[Tensor, Tensor, Tensor]:
    def integrand(rows: Tensor) -> Integrand:
        return Integrand(model, {name: value[rows] for name, value in tile.items()}, plate)

    every = torch.arange(size_of(tile), device=next(iter(tile.values())).device)
    whole = integrand(every)
    box, found = _find(integrand, whole.extent(), whole.num_dims)
    log_px, moved, error = box.low.new_full((3, len(every)), math.inf)
    num_points, num, rows = torch.zeros_like(every), FINE, every
    while len(rows) and num**whole.num_dims <= max_points:
        new = integrand(rows).log_integral(box.of(rows), num)
        move, before = (new - log_px[rows]).abs(), torch.nan_to_num(moved[rows], posinf=0.0)
        log_px[rows], moved[rows], error[rows] = new, move, torch.maximum(move, before / 4)
        num_points[rows] = num**whole.num_dims
        rows, num = rows[error[rows] > tolerance], 2 * num - 1
    return log_px, torch.where(found, error, math.inf), num_points


def _find(integrand: Callable[[Tensor], Integrand], box: Box, num_dims: int) -> tuple[Box, Tensor]:
    """Boxes that hold the mass, and whether they do, `(B,)`: sides that cut the mass move out,
    the others in."""
    found, num = (
        torch.zeros(len(box.low), dtype=torch.bool, device=box.low.device),
        COARSE[num_dims],
    )
    for _ in range(ROUNDS):
        rows = (~found).nonzero().squeeze(-1)
        if not len(rows):
            break
        new, cut, good = integrand(rows).better(box.of(rows), num)
        box.low[rows], box.high[rows], found[rows] = new.low, new.high, good
        num = COARSE[num_dims] if cut.any() else FINE
    return box, found
