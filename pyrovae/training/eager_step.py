"""Training steps that run the program itself (not captured)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.handlers import ValidateSupport
from pyrovae.losses.base import unwrap
from pyrovae.training.averages import Measured, measure
from pyrovae.training.finite_check import are_finite, each_finite
from pyrovae.training.processes import Processes
from pyrovae.training.run import Run

Batch = dict[str, Tensor]
MakeError = Callable[[Tensor, int | None, list[str]], Exception]
"""Makes the error for a loss, or for gradients of these parameters, that are not finite, in the
present batch or in the batch of an index."""


class Steps:
    """One call moves the parameters of a run by one batch, and returns the loss and its terms
    before the move.

    processes: those that train together; they set up module and optimiser, and do the backward
        pass. active_units: whether to measure these too.

    A step whose loss or gradient is not finite is not taken. On CUDA the host waits for the device
    once a step, for both.
    """

    def __init__(
        self,
        run: Run,
        processes: Processes,
        context: Callable[[], AbstractContextManager],
        clip_norm: float | None,
        *,
        active_units: bool,
    ) -> None:
        self.run, self.processes = run, processes
        self.module, self.optimizer = processes.setup(run.loss, run.optimizer)
        self.reduce = processes.reduce
        self.context, self.clip_norm, self.active_units = context, clip_norm, active_units
        self.names = {id(parameter): name for name, parameter in run.parameters.items()}
        self.pair = unwrap(run.loss)

    def __call__(self, batch: Batch, *, check_data: bool, make_error: MakeError) -> Measured:
        with ValidateSupport() if check_data else nullcontext(), self.context():
            value = self.module(**batch)
        waits = value.is_cuda and not self.processes.scaled
        if not waits and not torch.isfinite(value):
            raise make_error(value, None, [])
        self.optimizer.zero_grad(set_to_none=True)
        self.processes.backward(value)
        if not self.processes.scaled:
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
        """The names of the parameters that are marked as not finite."""
        return [
            self.names.get(id(parameter), f"a tensor {tuple(parameter.shape)}")
            for parameter, good in zip(parameters, finite.tolist())
            if not good
        ]

    def end_epoch(self, make_error: MakeError) -> None:
        """Called when a pass through the data is over."""
