"""One training step after another, as the program runs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.handlers import ValidateSupport
from pyrovae.losses.base import unwrap
from pyrovae.training.evaluate import Measured, measure
from pyrovae.training.finite import are_finite, each_finite
from pyrovae.training.run import Run

Batch = dict[str, Tensor]
MakeError = Callable[[Tensor, int | None, list[str]], Exception]
"""Makes the error for a loss that is not finite, or gradients of these names, in the present batch
or that of an index."""


class Steps:
    """What moves the parameters of a run by one batch, and returns the loss and its parts before
    the move.

    module, optimizer, backward: the run's own and `Tensor.backward`, or as a fabric has set them
        up.
    active_units: whether to measure these too. reduce, all_reduce: make of captured gradients, and
        of a number, those of all processes. scaled: whether gradients are scaled by one who skips
        the step himself where they overflow.

    A step whose loss or gradient is not finite is not taken. On CUDA the host waits once a step,
    for both.
    """

    def __init__(
        self,
        run: Run,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        backward: Callable[[Tensor], object],
        context: Callable[[], AbstractContextManager],
        clip_norm: float | None,
        *,
        active_units: bool,
        reduce: Callable[[list[Tensor]], object] | None = None,
        all_reduce: Callable[..., Tensor] = lambda value, reduce_op: value,
        scaled: bool = False,
    ) -> None:
        self.run, self.module, self.optimizer, self.backward = run, module, optimizer, backward
        self.context, self.clip_norm, self.active_units = context, clip_norm, active_units
        self.reduce, self.all_reduce, self.scaled = reduce, all_reduce, scaled
        self.names = {id(parameter): name for name, parameter in run.parameters.items()}
        self.pair = unwrap(run.loss)

    def __call__(self, batch: Batch, *, check_data: bool, make_error: MakeError) -> Measured:
        with ValidateSupport() if check_data else nullcontext(), self.context():
            value = self.module(**batch)
        waits = value.is_cuda and not self.scaled
        if not waits and not torch.isfinite(value):
            raise make_error(value, None, [])
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(value)
        if not self.scaled:
            self._refuse_infinite(value, make_error)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(list(self.run.parameters.values()), self.clip_norm)
        self.optimizer.step()
        return measure(value, self.pair, active_units=self.active_units)

    def _refuse_infinite(self, value: Tensor, make_error: MakeError) -> None:
        parameters = self.run.parameters.values()
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not torch.isfinite(value.detach()).logical_and_(are_finite(gradients)):
            moved = [p for p in parameters if p.grad is not None]
            raise make_error(
                value,
                None,
                self.not_finite(moved, each_finite(gradients)) if value.isfinite() else [],
            )

    def not_finite(self, parameters: list[Tensor], finite: Tensor) -> list[str]:
        """The names of those that are marked as not finite."""
        return [
            self.names.get(id(parameter), f"a tensor {tuple(parameter.shape)}")
            for parameter, good in zip(parameters, finite.tolist())
            if not good
        ]

    def end_epoch(self, make_error: MakeError) -> None:
        """A pass through the data is over."""
