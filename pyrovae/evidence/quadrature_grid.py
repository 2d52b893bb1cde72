"""The joint density on grids, and boxes of latent space that hold its mass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.core.batching import size_of
from pyrovae.core.errors import PairError
from pyrovae.core.traces import Batch
from pyrovae.evidence.ais_path import AnnealedDensity
from pyrovae.evidence.runtime import ROWS

DEPTH = 36.0
"""Densities below e^-36 of the largest are neglected."""
TOLERATED = 28.0
"""A box whose faces reach e^-28 of the largest density cuts off mass."""
COARSE = {1: 1025, 2: 65}
"""Points along a dimension of the first grid, for D = 1 and D = 2; it must hit every mode."""
FINE = 33
"""Points along a dimension of the following grids."""


@dataclass(frozen=True)
class Box:
    """One box a datum, `(B, D)` float64."""

    low: Tensor
    high: Tensor

    @property
    def width(self) -> Tensor:
        return self.high - self.low

    def of(self, rows: Tensor) -> "Box":
        return Box(self.low[rows], self.high[rows])


class Integrand:
    """log p(x, z) of the data of one batch as a function of z."""

    def __init__(self, model: Callable, batch: Batch, plate: str) -> None:
        self.path = AnnealedDensity(model, None, batch, plate)
        self.num_data, self.num_dims = size_of(batch), self.path.layout.size
        self.dtype = self.path.draw(1).dtype
        if self.num_dims not in COARSE:
            raise PairError(
                f"the model has {self.num_dims} latent dimensions a datum, and a grid is for 1 or 2. Use "
                "annealed_importance, or log_evidence with a guide."
            )

    def on(self, box: Box, num: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield parts of a grid of `num` points a dimension: places `(P, B, D)` and log-
        densities `(P, B)`, float64."""
        axes = [
            torch.linspace(0, 1, num, dtype=box.low.dtype, device=box.low.device)
        ] * self.num_dims
        grid = torch.cartesian_prod(*axes).reshape(-1, 1, self.num_dims)
        for part in grid.split(max(ROWS * 4 // self.num_data, 1)):
            place = box.low + part * box.width
            prior, likelihood = self.path(place.to(self.dtype))
            yield place, prior.double() + likelihood.double()

    def log_integral(self, box: Box, num: int) -> Tensor:
        """The integral by the trapezoid rule, `(B,)`; the density is negligible at the ends."""
        total = torch.full_like(box.low[:, 0], -torch.inf)
        for _, log_density in self.on(box, num):
            total = torch.logaddexp(total, log_density.logsumexp(0))
        return total + (box.width / (num - 1)).log().sum(-1)

    def extent(self) -> Box:
        """A box that holds 1000 draws from the prior, with a margin."""
        draws = self.path.draw(1000).double()
        low, high = draws.amin(0), draws.amax(0)
        return Box(low - (high - low) / 4, high + (high - low) / 4)

    def better(self, box: Box, num: int) -> tuple[Box, Tensor, Tensor]:
        """Boxes around the mass that the grid shows; which sides of the old boxes cut it, and
        which boxes can stay, `(B,)` each."""
        places, log_density = (torch.cat(parts) for parts in zip(*self.on(box, num)))
        depth, spacing = (log_density.amax(0) - log_density).unsqueeze(-1), box.width / (num - 1)
        low = torch.where(depth < DEPTH, places, torch.inf).amin(0) - spacing
        high = torch.where(depth < DEPTH, places, -torch.inf).amax(0) + spacing
        below = ((depth < TOLERATED) & (places < box.low + spacing / 2)).any(0)
        above = ((depth < TOLERATED) & (places > box.high - spacing / 2)).any(0)
        new = Box(
            torch.where(below, box.low - 2 * box.width, low),
            torch.where(above, box.high + 2 * box.width, high),
        )
        cut = (below | above).any(-1)
        return new, cut, ~cut & (new.width > 0.7 * box.width).all(-1)
