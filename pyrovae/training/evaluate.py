"""Averages of a loss and its terms over data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.capture.auto import AutoCapture, Compile, shapes_of
from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.check import check, num_data_of
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import RecordSupport, ValidateSupport
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.recording import is_recording
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.core.traces import Batch
from pyrovae.core.types import sum_of
from pyrovae.diagnostics.active_units import ActiveUnits
from pyrovae.losses.base import plate_of, programs_of, terms_of, unwrap
from pyrovae.losses.stacked import Stacked

EVALUATION_SEED = 0
"""Validation draws the same noise every epoch, so that epochs differ by their weights and not by
luck."""


def evaluate(
    loss: nn.Module,
    data: Data,
    *,
    names: Sequence[str] | None = None,
    context: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, float]:
    """Average the loss and its terms over `data`, nats per datum, in eval mode and without
    gradients.

    Random streams, `training` flags and buffers stay as they were; the noise is the same at every
    call.
    Raises: PairError where `data` are empty, for what `check` refuses on the first batch, and for
    data outside the support of their likelihood in any.
    """
    return Evaluation(loss, names=names, context=context)(data)


class Evaluation:
    """`evaluate`, again and again: where that pays as replays of what it computes (see
    `AutoCapture`)."""

    def __init__(
        self,
        loss: nn.Module,
        *,
        names: Sequence[str] | None = None,
        context: Callable[[], AbstractContextManager] = nullcontext,
        compile: Compile = "off",
    ) -> None:
        self.loss, self.pair, self.names, self.context = loss, unwrap(loss), names, context
        self.size_of = size_in(self.pair)
        self.replays = self._replays(compile)

    def __call__(self, data: Data) -> dict[str, float]:
        averages, good = Averages(), []
        with (
            torch.no_grad(),
            pyro.validation_enabled(False),
            local_param_scope(),
            flush_subnormals(),
            preserve_state([self.loss], training=False, seed=EVALUATION_SEED),
        ):
            for batch in batches(data, self.names, exemplar_of(self.loss)):
                if not averages.size:
                    check_batch_of(self.pair, batch, None)
                    self._look_for_changes(batch)
                found = self.replays(batch)
                size = self.size_of(batch)
                numbers = found["numbers"]
                averages.add(
                    size,
                    Measured(tuple(numbers), torch.stack(list(numbers.values())), found["units"]),
                )
                good.append(found["good"])
        if not averages.size:
            raise PairError("the validation data yield no batch; expected at least one datum.")
        if not torch.stack(good).all():
            Evaluation(self.loss, names=self.names, context=self.context)(
                data
            )  # says what is wrong with the data
        return averages.row()

    def _program(self, batch: Batch) -> dict[str, Any]:
        support = RecordSupport() if is_recording() else ValidateSupport()
        with support, self.context():
            measured = measure(self.loss(**batch), self.pair, active_units=True)
        numbers = dict(zip(measured.names, measured.numbers.unbind()))
        good = (support.good if isinstance(support, RecordSupport) else []) or [
            torch.ones((), dtype=torch.bool, device=measured.numbers.device)
        ]
        return {"numbers": numbers, "units": measured.units, "good": torch.stack(good).all()}

    def _look_for_changes(self, batch: dict[str, Tensor]) -> None:
        """What captures hold fixed may have changed since; then they are worth nothing any more."""
        captured = self.replays.captured.get(shapes_of(batch))
        if self.replays.captured and (captured is None or not captured.matches_eager(batch)):
            self.replays = self._replays("off")

    def _replays(self, compile: Compile) -> AutoCapture[dict[str, Any]]:
        return AutoCapture(self._program, [self.loss], reads=[self.context], compile=compile)


@dataclass(frozen=True)
class Measured:
    """One batch of a loss: its value and terms in nats per datum, and the sums that count active
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
    """Averages of the loss and its terms, whatever the sizes of the batches: each over the data
    that reported it.

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
        """With those of other processes, which saw other data, perhaps of other kinds."""

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
        """The KL of each site apart where there are several."""
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


def check_batch_of(loss: nn.Module, batch: dict[str, Tensor], num_data: int | None) -> None:
    """Run `check` on a loss that is made of a pair.

    `num_data=None` with a loss that knows N: the batch is not of the training set, and may be
    larger.
    """
    if isinstance(loss, Stacked):  # of losses side by side the first, on its data
        batch, loss = loss.rows(batch, 0), unwrap(loss.member(0))
    if (programs := programs_of(loss)) is not None:
        if num_data is None and (known := num_data_of(loss)) is not None:
            num_data = max(known, size_of(batch))
        check(*programs, batch, num_data=num_data, plate=plate_of(loss))


def size_in(loss: nn.Module) -> Callable[[Mapping[str, Tensor]], int]:
    """How the data of a batch are counted for a loss on a pair."""
    return loss.size_of if isinstance(loss, Stacked) else size_of
