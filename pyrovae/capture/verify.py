"""Compare a captured graph with the program run eagerly, before it is trusted and later."""

from collections.abc import Callable, Collection
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyrovae.capture._buffers import Buffers
from pyrovae.capture._flat_graph import are_close
from pyrovae.capture._rollback import UndoWrites
from pyrovae.capture.guards import has_backward_hooks, watch_user_code
from pyrovae.core.errors import CaptureError, first_line
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.types import Batch

Run = Callable[[Batch], object]
"""The program, or a replay of its graph, as nested tensors."""


class Verifier:
    """Runs a program and replays of it from the same state (random seed, buffers), which is put
    back afterwards.

    reads: objects whose Python state the program reads, the program among them if it is user code.
    """

    def __init__(self, program: Run, buffers: Buffers, reads: Collection[object]) -> None:
        self.program, self.buffers, self.reads = program, buffers, reads
        self.runs_user_code = False
        """Whether functions from outside torch, Pyro and pyrovae ran in the last `watched` run."""

    def check(self, replay: Run, batch: Batch) -> None:
        """Raise CaptureError unless program, replay and program again give the same results.

        Each runs twice in a row, so that a count of calls shows.
        """
        expected = self.watched(batch, times=2)
        seen, again = (self.results(run, batch, times=2) for run in (replay, self.program))
        if any(
            not torch.equal(one, other)
            for one, other in zip(expected, again)
            if not (one.is_cuda or one.isnan().any())
        ):
            raise CaptureError(
                "two runs of the program on the same inputs give different results: something besides tensors and buffers "
                "changes from call to call. Keep it in a buffer."
            )
        if not are_close(expected, seen):
            raise CaptureError("a replay gives other results than the program.")

    def matches(
        self, replay: Run, batch: Batch, *, compiled: Run | None = None, watch: bool = True
    ) -> bool:
        """Whether a replay still gives the results of the program.

        compiled: a faster replay, which rounds differently and is tried first on a CPU; None where
            replays write to tensors other than buffers.
        watch: look for user code, and undo all writes of the program.
        """
        if watch:
            expected = self.watched(batch)
        else:
            expected = self.results(self.program, batch, undo=compiled is None)
        if compiled is not None and not expected[0].is_cuda:
            if are_close(expected, self.results(compiled, batch, undo=False)):
                return True
        return are_close(expected, self.results(replay, batch))

    def watched(self, batch: Batch, times: int = 1) -> list[Tensor]:
        """Results of the program; sets `runs_user_code`."""
        with watch_user_code() as found:
            results = self.results(self.program, batch, times)
        self.runs_user_code = (
            bool(found)
            or self.program in self.reads
            or any(map(has_backward_hooks, self.buffers.parts))
        )
        return results

    def results(
        self, run: Run, batch: Batch, times: int = 1, *, undo: bool = True
    ) -> list[Tensor]:
        """What `times` runs return, and the buffers after the last; `undo` restores other tensors
        that they write to."""
        with (
            preserve_state(self.buffers.parts, seed=0),
            UndoWrites() if undo else nullcontext(),
            torch.no_grad(),
        ):
            try:
                results = [
                    tensor.clone()
                    for _ in range(times)
                    for tensor in pytree.tree_leaves(
                        run({name: value.clone() for name, value in batch.items()})
                    )
                ]
                return results + [buffer.clone() for buffer in self.buffers.read()]
            except Exception as error:
                raise CaptureError(
                    f"the program fails when it is run again ({type(error).__name__}: {first_line(error)})."
                ) from error
