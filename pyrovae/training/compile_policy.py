"""When the training step is captured and compiled: never, from the first epoch, or once it is worth
it."""

from typing import get_args

from pyrovae.capture.auto import Compile
from pyrovae.training.captured_stepper import CapturedSteps
from pyrovae.training.eager_step import Steps
from pyrovae.training.processes import Processes
from pyrovae.training.run import Run

WORTH_COMPILING = 240.0
"""Seconds of training ahead from which "auto" compiles."""


class CompilePolicy:
    """`mode` as `fit(compile=...)` takes it; all processes decide alike.

    Raises: ValueError for an unknown mode, and for "on" where a captured step, which does its own
    backward pass, would leave out what the processes do in theirs.
    """

    def __init__(self, mode: Compile, processes: Processes, *, clip_norm: float | None) -> None:
        if mode not in get_args(Compile):
            raise ValueError(f"compile={mode!r}, expected one of {', '.join(get_args(Compile))}.")
        self.mode, self.processes = mode, processes
        self.capturable = processes.can_capture(clip_norm)
        if mode == "on" and not self.capturable:
            raise ValueError(
                "compile='on' with a fabric that wraps the backward pass, or clips a norm over processes, which a "
                "captured step would leave out; use compile='auto'."
            )

    def begin(self, run: Run) -> None:
        """Before the first epoch; a resumed run stays as it was under "auto"."""
        run.compiled = self.mode == "on" or (
            self.mode == "auto" and run.compiled and self.capturable
        )

    def apply(self, run: Run, steps: Steps | CapturedSteps) -> Steps | CapturedSteps:
        """The steps of the next epoch."""
        return CapturedSteps(steps) if run.compiled and isinstance(steps, Steps) else steps

    def end_epoch(self, run: Run) -> None:
        """With "auto", decide after the first epoch, by the time that the others will take."""
        if self.mode == "auto" and run.epoch == 1 and self.capturable:
            ahead = run.history[-1]["seconds"] * (run.epochs - 1)
            run.compiled = self.processes.mean(ahead) > WORTH_COMPILING
