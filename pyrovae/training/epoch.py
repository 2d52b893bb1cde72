"""One epoch: the steps of a pass through the training data, the validation, the schedule."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyrovae.core.batching import Data, batches, check_num_data, exemplar_of
from pyrovae.core.check import num_data_of
from pyrovae.core.errors import NonFiniteLossError, PairError
from pyrovae.core.param_store import local_param_scope
from pyrovae.losses.base import beta_of, unwrap
from pyrovae.training.averages import Averages
from pyrovae.training.captured_stepper import CapturedSteps
from pyrovae.training.eager_step import Steps
from pyrovae.training.evaluate import Evaluation, size_in
from pyrovae.training.non_finite_error import non_finite_error
from pyrovae.training.prepare import has_row_parameters
from pyrovae.training.processes import Processes
from pyrovae.training.run import Run


@dataclass(frozen=True)
class Epoch:
    """What a pass through the training data gave."""

    row: dict[str, float]
    """epoch, lr, beta, and averages of the loss and its terms while the weights changed."""
    num_batches: int
    num_data: int


def train_epoch(
    run: Run,
    data: Data,
    steps: Steps | CapturedSteps,
    processes: Processes,
    *,
    names: Sequence[str] | None,
    check_data: bool,
) -> Epoch:
    """Take one step for each batch; `check_data` compares data with the support of their
    likelihood.

    Raises: NonFiniteLossError before a step that would spoil the weights; PairError for data
    without a batch, outside the support, or more than the loss was told.
    """
    pair, averages, index = unwrap(run.loss), Averages(), -1
    count, tied = size_in(pair), has_row_parameters(pair)

    def make_error(value: Tensor, at: int | None, names: list[str]) -> NonFiniteLossError:
        return non_finite_error(value, names, run, index if at is None else at)

    run.loss.train()
    row = {"epoch": run.epoch + 1, **_learning_rate(run.optimizer), **_beta(run)}
    with pyro.validation_enabled(False), local_param_scope():
        for index, batch in enumerate(batches(data, names, exemplar_of(run.loss))):
            measured = steps(batch, check_data=check_data, make_error=make_error)
            averages.add(count(batch), measured)
            if index and tied:
                raise PairError(
                    "the guide is an autoguide with parameters for each row of a batch, but an epoch has "
                    "several batches, whose rows would share them. Train on one batch of all data, in one "
                    "order, or use an amortised guide."
                )
    if not averages.size:
        raise PairError(
            f"the data yielded no batch in epoch {run.epoch + 1}; pass an iterable that starts again for "
            "each epoch (a DataLoader, pyrovae.data.Batches, a list), not a generator."
        )
    steps.end_epoch(make_error)
    averages.merge(processes.all_reduce, processes.union)
    check_num_data(num_data_of(pair), data, averages.size)
    processes.synchronize(run.loss)
    return Epoch({**row, **averages.row()}, index + 1, averages.size)


def validate(evaluation: Evaluation, valid: Data, processes: Processes) -> dict[str, float]:
    """The `valid_` columns of the row, averaged over processes; active units are those of the
    validation data."""
    return {
        name if name == "active_units" else f"valid_{name}": processes.mean(value)
        for name, value in evaluation(valid).items()
    }


def step_schedule(run: Run, row: dict[str, float]) -> None:
    """Move the learning rate after an epoch; a ReduceLROnPlateau by the validation loss."""
    if isinstance(run.schedule, ReduceLROnPlateau):
        run.schedule.step(row.get("valid_loss", row["loss"]))
    elif run.schedule is not None:
        run.schedule.step()


def _learning_rate(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of the first parameter group; some of Pyro's optimisers call it eta."""
    group = optimizer.param_groups[0]
    rate = group.get("lr", group.get("eta"))
    return {} if rate is None else {"lr": float(rate)}


def _beta(run: Run) -> dict[str, float]:
    value = beta_of(unwrap(run.loss))
    return {} if value is None else {"beta": float(value)}
