"""Captured training steps: replayed for batches of known shapes, eager otherwise."""

import logging
import time

import torch
from torch import Tensor

from pyrovae.capture.auto import shapes_of
from pyrovae.capture.explain import replay_or_explain
from pyrovae.capture.guards import guard_state
from pyrovae.core.errors import CaptureError, PairError
from pyrovae.training.averages import Measured
from pyrovae.training.captured_step import ReplayedStep
from pyrovae.training.eager_step import Batch, MakeError, Steps
from pyrovae.training.finite_check import are_finite
from pyrovae.training.fused_adam import FusedAdam

logger = logging.getLogger(__name__)
RENEWALS = 3
"""How often a run re-captures its steps because something changed between epochs."""
COMPARED_AFTER = 1000
"""Number of replays after which a step is compared with the eager program even if nothing
suggests a change; the cost is small against that many steps."""


class CapturedSteps:
    """Training steps that replay a captured graph where a batch has shapes that came before; see
    `capture.graph`.

    On CUDA the finiteness check is asynchronous once all data were checked in the first epoch: a
    step whose loss or gradient is not finite is skipped on the device, and the error is raised at
    the end of the epoch.

    A replay is compared with the eager program on the first batch of an epoch if user code runs in
    the step (it may read Python numbers from anywhere), and in any case after 1000 replays; where
    they differ, the step is re-captured. If an attribute, estimator or hook that the loss reaches
    has changed, the program is traced again, and re-captured where the traces differ.

    Shapes that come once an epoch, such as a smaller last batch, run eagerly. The first shape, and
    those that come twice in an epoch, are captured, at most `limit` of them.
    """

    def __init__(self, eager: Steps, *, compiled: bool = True, limit: int = 8) -> None:
        self.eager, self.compiled, self.limit = eager, compiled, limit
        self.captured: dict[tuple, ReplayedStep] = {}
        self.deferred = next(iter(eager.run.parameters.values())).is_cuda
        self.verdicts: list[tuple[int, ReplayedStep, Tensor, Tensor, Tensor]] = []
        self.index = -1
        self.state: tuple[list[object], list[object]] = ([], [])
        self.renewals, self.replays = 0, 0
        self.last: ReplayedStep | None = None
        self.fused: FusedAdam | None = None
        self.seen: set[tuple] = set()

    def __call__(self, batch: Batch, *, check_data: bool, make_error: MakeError) -> Measured:
        self.index += 1
        key = shapes_of(batch)
        if not self.index:
            self._look_for_changes(key, batch)
            if self.fused is not None and not self.fused.is_current():
                self.fused = None
        if (
            key not in self.captured
            and (not self.captured or key in self.seen)
            and len(self.captured) < self.limit
        ):
            self._capture(key, batch)
        self.seen.add(key)
        self.last = self.captured.get(key)
        if (
            self.last is None
            or not self.last.replay.guards_hold()
            or self._has_hooks()
            and not self.last.replay.has_same_layout()
        ):
            self.last = None
            return self.eager(batch, check_data=check_data, make_error=make_error)
        self.replays += 1
        ahead = (
            self._fused_for(self.last.trained_params) if self.deferred and not check_data else None
        )
        inside = ahead is not None and self.eager.reduce is None
        last = self.last
        replayed = replay_or_explain(
            lambda: last(batch, ahead if inside else None),
            lambda: last.refuse(batch, torch.zeros(()), make_error),
            self._give_up,
        )
        if replayed is None:
            return self.eager(batch, check_data=check_data, make_error=make_error)
        measured, gradients, is_finite = replayed
        if self.eager.reduce is not None:
            self.eager.reduce(gradients)
        if ahead is not None:
            if not inside:
                last.judge()
                ahead(gradients, skip=(~is_finite).float())
            value, fine, finite = (
                value.clone() for value in (measured.numbers[0], is_finite, last.finite)
            )
            self.verdicts.append((self.index, last, value, fine, finite))
            return measured
        if not are_finite(gradients).logical_and_(is_finite):
            last.refuse(batch, measured.numbers[0], make_error)
        self._update(last.trained_params, gradients)
        return measured

    def end_epoch(self, make_error: MakeError) -> None:
        """Leave the state that eager steps leave: `terms` and gradients of the last batch. Raise
        the errors that were deferred. Hooks may change the optimiser's state afterwards."""
        self.seen.clear()
        self.index = -1
        if self.last is not None:
            self.last.set_terms()
            for parameter, gradient in zip(self.last.trained_params, self.last.gradients):
                parameter.grad = gradient.clone()
        if self.verdicts:
            verdicts, good = (
                self.verdicts.copy(),
                torch.stack([is_finite for *_, is_finite, _ in self.verdicts]),
            )
            self.verdicts.clear()
            if not good.all():
                index, step, value, _, finite = verdicts[int(good.int().argmin())]
                if value.isfinite() and finite.all():
                    raise PairError(
                        f"batch {index} of the epoch holds data outside the support of their likelihood; it "
                        "moved nothing."
                    )
                raise make_error(
                    value,
                    index,
                    self.eager.not_finite(step.trained_params, finite) if value.isfinite() else [],
                )

    def _look_for_changes(self, key: tuple, batch: Batch) -> None:
        """Re-capture, at most `RENEWALS` times, where a value that the capture holds constant
        may have changed."""
        state = guard_state([self.eager.run.loss, self.eager.context])
        changed, self.state = state[0] != self.state[0], state
        if not self.captured:
            return
        step = self.captured.get(key)
        suspect = (
            changed
            or self.replays >= COMPARED_AFTER
            or any(other.replay.runs_user_code for other in self.captured.values())
        )
        if not self._everywhere(not suspect):
            self.replays = 0
            holds = (
                all(other.replay.records_the_same() for other in self.captured.values())
                if changed
                else step is not None and step.replay.matches_eager(batch, suspect=False)
            )
            if not self._everywhere(holds):
                self._renew()

    def _has_hooks(self) -> bool:
        """Whether user code runs in each optimiser step; it may replace the parameters' memory."""
        return bool(
            self.eager.optimizer._optimizer_step_pre_hooks
            or self.eager.optimizer._optimizer_step_post_hooks
        )

    def _renew(self) -> None:
        self.captured.clear()
        self.renewals += 1
        if self.renewals > RENEWALS:
            self._give_up(
                "numbers, flags or parameters that the loss reads change from epoch to epoch, e.g. by a hook. Let "
                "a schedule that returns a tensor do it, as LinearWarmup does."
            )

    def _fused_for(self, parameters: list[Tensor]) -> FusedAdam | None:
        """The fused update that was built for these parameters, if there is one."""
        ready = self.fused is not None and self.fused.parameters is parameters
        return self.fused if ready else None

    def _update(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if (fused := self._fused_for(parameters)) is not None:
            fused(gradients)
            return
        optimizer = self.eager.optimizer
        optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        optimizer.step()
        self.fused = FusedAdam.of(optimizer, parameters)

    def _everywhere(self, holds: bool) -> bool:
        """Whether `holds` is true in all processes."""
        return self.eager.processes.mean(holds) == 1.0

    def _capture(self, key: tuple, batch: Batch) -> None:
        start = time.perf_counter()
        logger.info("%s the training step", "compiling" if self.compiled else "capturing")
        reason: object = "another process cannot capture it"
        replay: ReplayedStep | None
        try:
            replay = ReplayedStep(self.eager, batch, self.compiled)
        except CaptureError as error:
            replay, reason = None, error
        everywhere = self._everywhere(replay is not None)
        if replay is not None and everywhere:
            for other in (
                self.captured.values()
            ):  # captures that train the same parameters share one fused update
                if list(map(id, other.trained_params)) == list(map(id, replay.trained_params)):
                    replay.trained_params = other.trained_params
            self.captured[key] = replay
            logger.info("captured the training step in %.1f s", time.perf_counter() - start)
        else:
            self._give_up(reason)

    def _give_up(self, reason: object) -> None:
        self.limit, self.last = 0, None
        self.captured.clear()
        logger.warning("training goes on uncompiled: %s", reason)
