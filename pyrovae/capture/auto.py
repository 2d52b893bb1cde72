"""Programs without gradients, captured once that saves time."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Generic, Literal, get_args

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.capture.explain import replay_or_explain
from pyrovae.capture.graph import Captured, Result
from pyrovae.core.errors import CaptureError
from pyrovae.core.types import Batch

logger = logging.getLogger(__name__)
Compile = Literal["auto", "on", "off"]

PATIENCE = 15.0
"""Seconds that a program runs eagerly before "auto" compiles it: about the time that compiling
takes, so that the total is at most twice the least possible, however long the run."""


class AutoCapture(Generic[Result]):
    """`program(batch)`, run eagerly at first, then captured and replayed (see `Captured`) for the
    shapes that take most of the time.

    compile: "on" captures the first shapes at once and others as "auto" does: after `PATIENCE`
    seconds with them. A program that cannot be captured runs eagerly, and the log says why.
    probe: gives, from a batch, another one at which the graph must agree with the program too, e.g.
    one that takes the other side of a comparison.

    Example:
        >>> double = AutoCapture(lambda batch: 2 * batch["x"], compile="off")
        >>> double({"x": torch.ones(2)})
        tensor([2., 2.])
    """

    def __init__(
        self,
        program: Callable[[Batch], Result],
        modules: Iterable[nn.Module] = (),
        *,
        reads: Iterable[object] = (),
        compile: Compile = "auto",
        limit: int = 4,
        probe: Callable[[Batch], Batch] | None = None,
    ) -> None:
        if compile not in get_args(Compile):
            raise ValueError(
                f"compile={compile!r}, expected one of {', '.join(get_args(Compile))}."
            )
        self.program, self.modules, self.reads, self.compile = (
            program,
            list(modules),
            list(reads),
            compile,
        )
        self.limit = 0 if compile == "off" else limit
        self.probe = probe
        self.captured: dict[tuple, Captured[Result]] = {}
        self.spent: dict[tuple, float] = {}

    def __call__(self, batch: Batch) -> Result:
        if not self.limit:
            return self.program(batch)
        key = shapes_of(batch)
        if (
            key not in self.captured
            and len(self.captured) < self.limit
            and (self.compile == "on" and not self.captured or self.spent.get(key, 0.0) > PATIENCE)
        ):
            self._capture(key, batch)
        if key in self.captured and self.captured[key].guards_hold():
            return replay_or_explain(
                lambda: self.captured[key](batch), lambda: self.program(batch), self._give_up
            )
        start = time.perf_counter()
        result = self.program(batch)
        self.spent[key] = self.spent.get(key, 0.0) + time.perf_counter() - start
        return result

    def _capture(self, key: tuple, batch: Batch) -> None:
        try:
            start = time.perf_counter()
            logger.info("compiling an evaluation")
            captured = Captured(self.program, batch, modules=self.modules, reads=self.reads)
            if self.probe is not None and not captured.matches_eager(self.probe(batch)):
                raise CaptureError(
                    "a replay gives other results than the program for other inputs: their values decide what "
                    "the program does."
                )
            self.captured[key] = captured
            logger.info("captured an evaluation in %.1f s", time.perf_counter() - start)
        except CaptureError as error:
            self._give_up(error)

    def _give_up(self, reason: object) -> None:
        self.limit = 0
        self.captured.clear()
        logger.log(
            logging.WARNING if self.compile == "on" else logging.INFO, "not compiled: %s", reason
        )


def shapes_of(batch: Batch) -> tuple:
    """What a capture is valid for: the number of threads; names, shapes, strides, dtypes and
    devices of a batch."""
    kinds = (
        (value.shape, value.stride(), value.dtype, value.device)
        if isinstance(value, Tensor)
        else type(value)
        for value in batch.values()
    )
    return (torch.get_num_threads(), *zip(batch, kinds))
