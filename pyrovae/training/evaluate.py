"""Average a loss and its terms over data without training."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from pyrovae.losses.base import plate_of, programs_of, unwrap
from pyrovae.losses.stacked import Stacked
from pyrovae.training.averages import Averages, Measured, measure

EVALUATION_SEED = 0
"""Validation uses the same noise in each epoch, so that rows differ by their weights alone."""


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
    """`evaluate` for repeated use, replayed from a captured graph where that saves time (see
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
            )  # raises the error of the data
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
        """Drop the captured graphs if something that they hold constant has changed since."""
        captured = self.replays.captured.get(shapes_of(batch))
        if self.replays.captured and (captured is None or not captured.matches_eager(batch)):
            self.replays = self._replays("off")

    def _replays(self, compile: Compile) -> AutoCapture[dict[str, Any]]:
        return AutoCapture(self._program, [self.loss], reads=[self.context], compile=compile)


def check_batch_of(loss: nn.Module, batch: dict[str, Tensor], num_data: int | None) -> None:
    """Run `check` on a loss that is made of a pair. `num_data=None` with a loss that knows N:
    the batch does not come from the training set, and may be larger.

    `num_data=None` with a loss that knows N: the batch is not of the training set, and may be
    larger.
    """
    if isinstance(loss, Stacked):  # of stacked losses check the first, on its own data
        batch, loss = loss.rows(batch, 0), unwrap(loss.member(0))
    if (programs := programs_of(loss)) is not None:
        if num_data is None and (known := num_data_of(loss)) is not None:
            num_data = max(known, size_of(batch))
        check(*programs, batch, num_data=num_data, plate=plate_of(loss))


def size_in(loss: nn.Module) -> Callable[[Mapping[str, Tensor]], int]:
    """The function that counts the data of a batch for a loss on a pair."""
    return loss.size_of if isinstance(loss, Stacked) else size_of
