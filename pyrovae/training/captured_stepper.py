"""One training step after another, captured and replayed where that can be."""

import logging
import time

import torch
from torch import Tensor

from pyrovae.capture.auto import shapes_of
from pyrovae.capture.explain import replay_or_explain
from pyrovae.capture.guards import guard_state
from pyrovae.core.errors import CaptureError, PairError
from pyrovae.training.captured_step import ReplayedStep
from pyrovae.training.eager_step import Batch, MakeError, Steps
from pyrovae.training.evaluate import Measured
from pyrovae.training.finite import are_finite
from pyrovae.training.fused_adam import FusedAdam

logger = logging.getLogger(__name__)
RENEWALS = 3
"""How often a run is captured anew because something changed between epochs."""
COMPARED_AFTER = 1000
"""AutoCapture after which a step is compared with the program even if nothing suggests that it
changed: a small part of them."""


class CapturedSteps:
    """The same steps, replayed where a batch has shapes that came before; see `Captured`.

    On CUDA nobody waits for the device: once all data were seen, a loss or a gradient that is not
    finite moves nothing, and becomes an error when the epoch is over.

    At the start of an epoch a replay is compared with the program on a batch, and captured anew
    where they differ, if code of the user's was seen to run (it may read Python numbers from
    anywhere), and in any case after 1000 replays. If anything changed that the loss reaches (its
    attributes, those of its estimator, hooks), the program is recorded again, and captured anew
    where the recordings differ.

    Shapes that come once an epoch, as a ragged last batch does, run as they are; the first ones,
    and those that come again in an epoch, are captured, `limit` of them.
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
        """Leave everything as uncaptured steps do: `terms` of the last batch; and let hooks change
        the optimiser's state."""
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
        """Something may have changed that captures hold fixed: then they are made anew, but not
        for ever."""
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
        """Whether functions of the user's run in each step of the optimiser, which may lay
        parameters out anew."""
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
        """The update that was set up for these very parameters, if there is one."""
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
        """On all processes."""
        return float(self.eager.all_reduce(torch.tensor(float(holds)), reduce_op="mean")) == 1.0

    def _capture(self, key: tuple, batch: Batch) -> None:
        start = time.perf_counter()
        reason: object = "another process cannot capture it"
        replay: ReplayedStep | None
        try:
            replay = ReplayedStep(self.eager, batch, self.compiled)
        except CaptureError as error:
            replay, reason = None, error
        everywhere = self._everywhere(replay is not None)
        if replay is not None and everywhere:
            for (
                other
            ) in self.captured.values():  # one update serves all that move the same parameters
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
