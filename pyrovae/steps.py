"""One training step after another: as the program runs, or captured and replayed."""
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.capture import Captured
from pyrovae.errors import CaptureError, PairError
from pyrovae.evaluation import Measured, measure
from pyrovae.fused_adam import FusedAdam
from pyrovae.handlers import InSupport, Supported
from pyrovae.losses.pair import innermost
from pyrovae.losses.terms import Terms
from pyrovae.python_state import fingerprint, has_foreign_code, is_foreign
from pyrovae.replays import shapes_of
from pyrovae.run import Run
from pyrovae.untouched import untouched

logger = logging.getLogger(__name__)
Batch = dict[str, Tensor]
Failed = Callable[[Tensor, int | None], Exception]
"""Makes the error for a loss that is not finite, in the present batch or in that of an index."""
RENEWALS = 3
"""How often a run is captured anew because something changed between epochs."""


class Steps:
    """What moves the parameters of a run by one batch, and returns the loss and its parts before the move.

    module, optimizer, backward: the run's own and `Tensor.backward`, or as a fabric has set them up.
    active_units: whether to measure these too. reduce, all_reduce: make of captured gradients, and of a number, those of
        all processes.
    """

    def __init__(self, run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, backward: Callable[[Tensor], object],
                 context: Callable[[], AbstractContextManager], clip_norm: float | None, *, active_units: bool,
                 reduce: Callable[[list[Tensor]], object] | None = None,
                 all_reduce: Callable[..., Tensor] = lambda value, reduce_op: value) -> None:
        self.run, self.module, self.optimizer, self.backward = run, module, optimizer, backward
        self.context, self.clip_norm, self.active_units = context, clip_norm, active_units
        self.reduce, self.all_reduce = reduce, all_reduce
        self.pair = innermost(run.loss)

    def __call__(self, batch: Batch, *, check_data: bool, failed: Failed) -> Measured:
        with InSupport() if check_data else nullcontext(), self.context():
            value = self.module(**batch)
        if not torch.isfinite(value):
            raise failed(value, None)
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(value)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(list(self.run.parameters.values()), self.clip_norm)
        self.optimizer.step()
        return measure(value, self.pair, active_units=self.active_units)

    def end_epoch(self, failed: Failed) -> None:
        """A pass through the data is over."""


class CapturedSteps:
    """The same steps, replayed where a batch has shapes that came before; see `Captured`.

    On CUDA nobody waits for the device: once all data were seen, a loss that is not finite moves nothing, and becomes an
    error when the epoch is over.

    Where code of the user's takes part, a replay is compared with the program at the start of each epoch, and captured anew
    where they differ: Python numbers that it reads somewhere may have changed since.

    Shapes that come once an epoch, as a ragged last batch does, run as they are; the first ones, and those that come again
    in an epoch, are captured, `limit` of them.
    """

    def __init__(self, eager: Steps, *, compiled: bool = True, limit: int = 8) -> None:
        self.eager, self.compiled, self.limit = eager, compiled, limit
        self.captured: dict[tuple, _Replay] = {}
        self.deferred = next(iter(eager.run.parameters.values())).is_cuda
        self.verdicts: list[tuple[int, Tensor, Tensor]] = []
        self.index = -1
        self.state: list[tuple] = []
        self.renewals = 0
        self.last: _Replay | None = None
        self.fused: FusedAdam | None = None
        self.seen: set[tuple] = set()
        self.is_foreign = is_foreign(eager.context) or has_foreign_code(eager.run.loss)

    def __call__(self, batch: Batch, *, check_data: bool, failed: Failed) -> Measured:
        self.index += 1
        if not self.index:
            self._look_at_state()
            if self.fused is not None and not self.fused.is_current():
                self.fused = None
        key = shapes_of(batch)
        if self.is_foreign and not self.index and key in self.captured and not self._everywhere(
                self.captured[key].replay.agrees(batch)):
            self._renew()
        if key not in self.captured and (not self.captured or key in self.seen) and len(self.captured) < self.limit:
            self._capture(key, batch)
        self.seen.add(key)
        self.last = self.captured.get(key)
        if self.last is None or not self.last.replay.fits():
            self.last = None
            return self.eager(batch, check_data=check_data, failed=failed)
        deferred = self.deferred and not check_data and self._is_ready(self.last.moved)
        inside = deferred and self.eager.reduce is None
        try:
            measured, gradients, fine = self.last(batch, self.fused if inside else None)
        except (RuntimeError, IndexError):
            self.last.refuse(batch, torch.zeros(()), failed)  # says what is wrong with the data, if that is it
            raise
        if self.eager.reduce is not None:
            self.eager.reduce(gradients)
        if deferred:
            self.verdicts.append((self.index, measured.numbers[0].clone(), fine.clone()))
            if not inside:
                self.fused(gradients, skip=(~fine).float())
            return measured
        if not fine:
            self.last.refuse(batch, measured.numbers[0], failed)
        self._update(self.last.moved, gradients)
        return measured

    def end_epoch(self, failed: Failed) -> None:
        """Leave everything as uncaptured steps do: `terms` of the last batch; and let hooks change the optimiser's state."""
        self.seen.clear()
        self.index = -1
        if self.last is not None:
            self.last.set_terms()
            for parameter, gradient in zip(self.last.moved, self.last.gradients):
                parameter.grad = gradient.clone()
        if self.verdicts:
            indices, values, fine = zip(*self.verdicts)
            self.verdicts.clear()
            good = torch.stack(fine)
            if not good.all():
                first = int(good.int().argmin())
                if values[first].isfinite():
                    raise PairError(f"batch {indices[first]} of the epoch holds data outside the support of their "
                                    "likelihood; it moved nothing.")
                raise failed(values[first], indices[first])

    def _look_at_state(self) -> None:
        """A hook may have changed what captures hold fixed: then they are made anew, but not for ever."""
        state = fingerprint(self.eager.run.loss)
        if state != self.state and self.captured:
            self._renew()
        self.state = state

    def _renew(self) -> None:
        self.captured.clear()
        self.renewals += 1
        if self.renewals > RENEWALS:
            self.limit = 0
            logger.warning("training goes on uncompiled: numbers, flags or parameters that the loss reads change from epoch "
                           "to epoch, e.g. by a hook. Let a schedule that returns a tensor do it, as LinearWarmup does.")

    def _is_ready(self, parameters: list[Tensor]) -> bool:
        return self.fused is not None and self.fused.parameters is parameters

    def _update(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if self._is_ready(parameters):
            self.fused(gradients)
            return
        optimizer = self.eager.optimizer
        optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        optimizer.step()
        self.fused = FusedAdam.of(optimizer, parameters)

    def _everywhere(self, holds: bool) -> bool:
        """On all processes."""
        return float(self.eager.all_reduce(torch.tensor(float(holds)), reduce_op="mean")) == 1.0

    def _capture(self, key: tuple, batch: Batch) -> None:
        start, reason = time.perf_counter(), "another process cannot capture it"
        try:
            replay = _Replay(self.eager, batch, self.compiled)
        except CaptureError as error:
            replay, reason = None, error
        everywhere = self._everywhere(replay is not None)
        if replay is not None and everywhere:
            for other in self.captured.values():  # one update serves all that move the same parameters
                if list(map(id, other.moved)) == list(map(id, replay.moved)):
                    replay.moved = other.moved
            self.captured[key] = replay
            logger.info("captured the training step in %.1f s", time.perf_counter() - start)
        else:
            self.limit = 0
            logger.warning("training goes on uncompiled: %s", reason)


class _Replay:
    """What is measured of a step, and the gradients of the parameters that `moved`, from a replayed graph."""

    def __init__(self, eager: Steps, batch: Batch, compiled: bool) -> None:
        self.eager = eager
        self.moved: list[Tensor] = []
        self.fused, self.update = None, None
        self.replay = Captured(self._program, batch, modules=[eager.run.loss], compiled=compiled)

    def _program(self, batch: Batch) -> dict[str, object]:
        eager = self.eager
        parameters = [parameter for group in eager.optimizer.param_groups for parameter in group["params"]
                      if parameter.requires_grad]
        if any(getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in parameters):
            raise CaptureError("a parameter has hooks after the accumulation of its gradient, which a replay does not do.")
        with torch.enable_grad():
            with Supported() as supported, eager.context():
                value = eager.module(**batch)
            found = torch.autograd.grad(value, parameters, allow_unused=True)
        gradients = {index: gradient for index, gradient in enumerate(found) if gradient is not None}
        moved = [parameters[index] for index in gradients]
        if list(map(id, moved)) != list(map(id, self.moved)):
            self.moved = moved
        gradients = [gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
                     for parameter, gradient in zip(self.moved, gradients.values())]  # fused updates go by memory
        if eager.clip_norm is not None:
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
            gradients = [gradient * (eager.clip_norm / (norm + 1e-6)).clamp(max=1.0) for gradient in gradients]
        measured, terms = measure(value, eager.pair, active_units=eager.active_units), getattr(eager.pair, "terms", None)
        self.names, self.sites = measured.names, list(measured.units)
        fine = torch.stack([torch.isfinite(value.detach()), *supported.good]).all()
        return {"numbers": measured.numbers, "fine": fine, "units": list(measured.units.values()), "gradients": gradients,
                "terms": () if terms is None else (terms.log_px, terms.kl, terms.means)}

    def __call__(self, batch: Batch, fused: FusedAdam | None) -> tuple[Measured, list[Tensor], Tensor]:
        """What was measured, gradients, and whether loss and data are as they should be; updated by `fused` if so."""
        if fused is not self.fused:
            self.fused, self.update = fused, None if fused is None else lambda leaves: fused(
                self._gradients(leaves), skip=(~leaves[1]).float())
        with torch.no_grad():
            self.leaves = numbers, fine, *rest = self.replay.leaves(batch, self.update)
        self.gradients = self._gradients(self.leaves)
        return Measured(self.names, numbers, dict(zip(self.sites, rest))), self.gradients, fine

    def _gradients(self, leaves: list[Tensor]) -> list[Tensor]:
        start = 2 + len(self.sites)
        return leaves[start:start + len(self.moved)]

    def set_terms(self) -> None:
        terms = self.replay.unflatten(self.leaves)["terms"]
        if terms:
            self.eager.pair.terms = Terms(*terms)

    def refuse(self, batch: Batch, value: Tensor, failed: Failed) -> None:
        """Raise what the program itself raises; data outside the support may not matter, e.g. where they are masked."""
        with untouched([self.eager.run.loss]), InSupport(), self.eager.context(), torch.no_grad():
            self.eager.module(**batch)
        if not torch.isfinite(value):
            self.set_terms()
            raise failed(value, None)
