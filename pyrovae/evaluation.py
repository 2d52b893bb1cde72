"""Averages of a loss and its terms over data."""
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.check import check
from pyrovae.diagnostics import ActiveUnits
from pyrovae.errors import PairError
from pyrovae.feed import Data, batches, device_of, size_of
from pyrovae.handlers import InSupport
from pyrovae.losses.pair import innermost
from pyrovae.plates import DATA
from pyrovae.store import private
from pyrovae.untouched import untouched

EVALUATION_SEED = 0
"""Validation draws the same noise every epoch, so that epochs differ by their weights and not by luck."""


def evaluate(loss: nn.Module, data: Data, *, names: Sequence[str] | None = None,
             context: Callable[[], AbstractContextManager] = nullcontext) -> dict[str, float]:
    """Average the loss and its terms over `data`, nats per datum, in eval mode and without gradients.

    Random streams, `training` flags and buffers stay as they were; the noise is the same at every call.
    Raises: PairError where `data` are empty, for what `check` refuses on the first batch, and for data outside the
    support of their likelihood in any.
    """
    device, averages, pair = device_of(loss), Averages(active_units=True), innermost(loss)
    with torch.no_grad(), pyro.validation_enabled(False), private(), untouched([loss], training=False, seed=EVALUATION_SEED):
        for batch in batches(data, names, device):
            if not averages.size:
                check_batch_of(pair, batch, None)
            with InSupport(), context():
                averages.add(batch, pair, *parts_of(loss(**batch), pair))
    if not averages.size:
        raise PairError("the validation data yield no batch; wanted at least one datum.")
    return averages.row()


def parts_of(value: Tensor, loss: nn.Module) -> tuple[tuple[str, ...], Tensor]:
    """A loss and its terms in nats per datum: their names and the numbers, `(names,)`."""
    parts, terms = {"loss": value.detach()}, getattr(loss, "terms", None)
    if terms is not None:
        parts |= {"elbo": terms.elbo, "reconstruction": terms.reconstruction, "kl": sum(terms.kl.values())}
        parts |= {f"kl_{site}": kl for site, kl in terms.kl.items()} if len(terms.kl) > 1 else {}
    return tuple(parts), torch.stack([torch.as_tensor(part, dtype=value.dtype, device=value.device)
                                      for part in parts.values()])


class Averages:
    """Averages over data of the loss and its terms, whatever the sizes of the batches."""

    def __init__(self, *, active_units: bool) -> None:
        self.size, self.totals, self.units, self.active_units = 0, {}, {}, active_units

    def add(self, batch: Mapping[str, Tensor], loss: nn.Module, names: tuple[str, ...], parts: Tensor) -> None:
        size, terms = getattr(loss, "size_of", size_of)(batch), getattr(loss, "terms", None)
        for site, means in terms.means.items() if terms is not None and self.active_units else ():
            self.units.setdefault(site, ActiveUnits()).add(*means)
        self.size += size
        self.totals[names] = self.totals.get(names, 0.0) + size * parts

    def row(self) -> dict[str, float]:
        row = {name: total / self.size for names, totals in self.totals.items()
               for name, total in zip(names, totals.tolist())}
        if self.units:
            row["active_units"] = sum(units.count() for units in self.units.values())
        return row


def check_batch_of(loss: nn.Module, batch: dict[str, Tensor], num_data: int | None) -> None:
    """Run `check` on a loss that is made of a pair.

    `num_data=None` with a loss that knows N: the batch is not of the training set, and may be larger.
    """
    if hasattr(loss, "member"):  # of losses side by side the first, on its data
        loss, batch = innermost(loss.member(0)), loss.rows(batch, 0)
    if hasattr(loss, "model") and hasattr(loss, "guide"):
        if num_data is None and getattr(loss, "num_data", None) is not None:
            num_data = max(loss.num_data, size_of(batch))
        check(loss.model, loss.guide, batch, num_data=num_data, plate=getattr(loss, "plate", DATA))
