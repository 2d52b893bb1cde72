"""Build a `Run` from the arguments of `fit`, and check that they go together."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyrovae.core.batching import Data, batches, exemplar_of, generators_of, is_shuffled
from pyrovae.core.check import num_data_of
from pyrovae.core.errors import PairError
from pyrovae.core.parameters import find_parameters
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import tied_to_rows
from pyrovae.losses.base import guide_of, plate_of, unwrap
from pyrovae.training.evaluate import check_batch_of
from pyrovae.training.history import History
from pyrovae.training.optimizers import OptimizerSource, build_optimizer, check_loss
from pyrovae.training.run import Run


def prepare(
    loss: nn.Module,
    data: Data,
    valid: Data | None,
    *,
    names: Sequence[str] | None,
    epochs: int,
    lr: float,
    optimizer: OptimizerSource | torch.optim.Optimizer | None,
    schedule: Callable[[torch.optim.Optimizer], LRScheduler] | None,
) -> tuple[Run, dict[str, Tensor]]:
    """The run before its first epoch, and the first batch, on which the pair was checked; the
    arguments are those of `fit`.

    Raises: TypeError for what is no loss of a pair; PairError for a pair, data or an optimiser
    that would train wrongly.
    """
    check_loss(loss)
    pair = unwrap(loss)
    first = first_batch(loss, data, names)
    check_batch_of(pair, first, num_data_of(pair))
    if valid is not None:
        check_batch_of(pair, first_batch(loss, valid, names), None)
    if has_row_parameters(pair) and is_shuffled(data):
        raise PairError(
            "the guide is an autoguide with parameters for each row of a batch, but the data are shuffled. "
            "Keep them in one order, or use an amortised guide."
        )
    parameters = find_parameters(loss, first)
    built = _optimizer(optimizer, parameters, lr)
    run = Run(
        loss,
        parameters,
        built,
        schedule(built) if schedule else None,
        epochs,
        History(),
        generators_of(data),
    )
    return run, first


def first_batch(loss: nn.Module, data: Data, names: Sequence[str] | None) -> dict[str, Tensor]:
    """The first batch of `data`; no random stream moves."""
    if isinstance(data, Iterator):
        raise PairError(
            f"the data are a {type(data).__name__}, which is used up after one pass; pass an iterable that "
            "starts again for each epoch, e.g. a DataLoader, pyrovae.data.Batches or a list."
        )
    with preserve_state([loss], generators=generators_of(data)):
        first = next(batches(data, names, exemplar_of(loss)), None)
    if first is None:
        raise PairError("the data yield no batch; expected at least one datum.")
    return first


def has_row_parameters(pair: nn.Module) -> bool:
    """Whether the guide is an autoguide, with parameters for each row of one batch."""
    guide = guide_of(pair)
    return guide is not None and tied_to_rows(guide, plate_of(pair))


def _optimizer(
    optimizer: OptimizerSource | torch.optim.Optimizer | None,
    parameters: dict[str, Tensor],
    lr: float,
) -> torch.optim.Optimizer:
    if optimizer is None:
        fused = all(
            p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters.values()
        )
        optimizer = torch.optim.Adam(parameters.values(), lr=lr, fused=fused)
    elif not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = build_optimizer(optimizer, list(parameters.values()))
    if isinstance(optimizer, torch.optim.LBFGS):
        raise PairError(
            "LBFGS re-evaluates a loss that must not change between calls, but an ELBO on minibatches draws "
            "anew each time; use Adam or SGD."
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in parameters.items() if id(p) not in held]
    if missing:
        raise PairError(
            f"the optimizer does not hold {missing}, so they would not be trained. Pass a function, "
            "optimizer=lambda parameters: Adam(parameters, ...), or freeze them with requires_grad_(False)."
        )
    return optimizer
