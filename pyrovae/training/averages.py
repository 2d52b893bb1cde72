"""The loss and its terms on one batch, and their averages over many."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.types import sum_of
from pyrovae.diagnostics.active_units import ActiveUnits
from pyrovae.losses.base import terms_of


@dataclass(frozen=True)
class Measured:
    """The loss and its terms on one batch, in nats per datum, and the sums that count active
    units."""

    names: tuple[str, ...]
    numbers: Tensor
    """`(names,)`."""
    units: dict[str, Tensor]
    """For each latent site `(3, D)`, see `ActiveUnits`."""


def measure(value: Tensor, loss: nn.Module, *, active_units: bool) -> Measured:
    parts, terms = {"loss": value.detach()}, terms_of(loss)
    if terms is not None:
        parts |= {
            "elbo": terms.elbo,
            "reconstruction": terms.reconstruction,
            "kl": sum_of(terms.kl.values()),
        }
        parts |= {f"kl_{site}": kl for site, kl in terms.kl.items()}
    means = terms.means if terms is not None and active_units else {}
    return Measured(
        tuple(parts),
        torch.stack(
            [
                torch.as_tensor(part, dtype=value.dtype, device=value.device)
                for part in parts.values()
            ]
        ),
        {site: ActiveUnits.sums_of(*pair) for site, pair in means.items()},
    )


class Averages:
    """Averages of the loss and its terms over batches of any sizes, each over the data that
    reported it.

    Batches may differ in what they report (semi-supervised ones in their latent sites, enumerated
    ones have no terms).
    """

    def __init__(self) -> None:
        self.size = 0
        self.sizes: dict[tuple[str, ...], int] = {}
        self.totals: dict[tuple[str, ...], Tensor] = {}
        self.units: dict[str, ActiveUnits] = {}

    def add(self, size: int, measured: Measured) -> None:
        for site, sums in measured.units.items():
            self.units.setdefault(site, ActiveUnits()).add_sums(size, sums)
        self.size += size
        if measured.names not in self.totals:
            self.totals[measured.names] = torch.zeros_like(measured.numbers, dtype=torch.float64)
        self.totals[measured.names].add_(measured.numbers, alpha=size)
        self.sizes[measured.names] = self.sizes.get(measured.names, 0) + size

    def merge(
        self,
        all_reduce: Callable[..., Tensor],
        union: Callable[[Iterable[object]], list] = sorted,
    ) -> None:
        """Add the averages of other processes, which saw other data, perhaps with other terms."""

        def total(size: int) -> int:
            return int(all_reduce(torch.tensor(size), reduce_op="sum"))

        self.size = total(self.size)
        device = next((value.device for value in self.totals.values()), None)
        for names in union(self.totals):
            own = self.totals.get(names)
            if own is None:
                own = torch.zeros(len(names), dtype=torch.float64, device=device)
            self.sizes[names] = total(self.sizes.get(names, 0))
            self.totals[names] = all_reduce(own, reduce_op="sum")
        shapes = ((site, *torch.as_tensor(u.sums).shape) for site, u in self.units.items())
        for site, *shape in union(shapes):
            units = self.units.setdefault(site, ActiveUnits())
            if not units.size:
                units.sums = torch.zeros(shape, dtype=torch.float64, device=device)
            units.size, units.sums = total(units.size), all_reduce(units.sums, reduce_op="sum")

    def row(self) -> dict[str, float]:
        """The averages as one row of the history; the KL of each site only where there are
        several sites."""
        sums: dict[str, float] = {}
        sizes: dict[str, int] = {}
        for names, totals in self.totals.items():
            for name, total in zip(names, totals.tolist()):
                sums[name] = sums.get(name, 0.0) + total
                sizes[name] = sizes.get(name, 0) + self.sizes[names]
        row = {name: total / sizes[name] for name, total in sums.items()}
        sites = [name for name in row if name.startswith("kl_")]
        if len(sites) == 1:
            del row[sites[0]]
        if self.units:
            row["active_units"] = sum(units.count() for units in self.units.values())
        return row
