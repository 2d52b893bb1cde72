"""Record the tensor operations of a program once, and replay them compiled, without its Python and
its handlers."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils import _pytree as pytree

from pyrovae.capture._buffers import Buffers
from pyrovae.capture._flat_graph import kinds_of, layout_of, lift
from pyrovae.capture._rollback import UndoWrites, rolled_back
from pyrovae.capture.concretize import place_of
from pyrovae.capture.cuda_graph import CudaGraphRunner, Epilogue, record_cuda_graph
from pyrovae.capture.inductor import compile_graph, forget_sources
from pyrovae.capture.onednn import use_fastest_route
from pyrovae.capture.tracing import trace
from pyrovae.capture.user_code import is_user_code, module_of
from pyrovae.capture.verify import Verifier
from pyrovae.core.errors import CaptureError, first_line
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.types import Batch

Result = TypeVar("Result")


class Captured(Generic[Result]):
    r"""`program(batch)` as one flat graph of tensor operations, which is replayed for other
    batches of the same shapes.

    program: a function of a dict of tensors; it may close over modules, draw random numbers and
        call `autograd.grad`. It returns nested tuples, lists and dicts of tensors without
        gradient.
    modules: those whose buffers the program may change; a replay changes them likewise.
    reads: other functions and objects whose Python state the program reads.
    compiled: compile the graph with inductor, in some seconds to a minute; False replays it
        operation by operation.

    The present values of closed-over tensors are used at each call. Random numbers come from
    torch's generators in the order of the program (compiled, before torch 2.13, in another order).
    Shapes, strides, `training` flags, Python numbers and the number of threads are those of the
    capture. Before it is used, the graph is compared with two runs of the program, whose changes
    of tensors, attributes, containers, closures and globals are undone. Use it under
    `torch.no_grad()`.

    Raises: CaptureError, and no other exception, for a program with data-dependent control flow
    (`float(tensor)`, `if tensor:`, enumeration) or with state besides tensors that changes
    (counters, Python's or numpy's random numbers), and where the compiler fails or is missing.

    Example:
        >>> net = nn.Linear(3, 2)
        >>> def gradients(batch: Batch) -> list[Tensor]:
        ...     with torch.enable_grad():
        ...         return list(torch.autograd.grad(net(batch["x"]).square().mean(), list(net.parameters())))
        >>> replay = Captured(gradients, {"x": torch.ones(4, 3)}, compiled=False)
        >>> with torch.no_grad():
        ...     [gradient.shape for gradient in replay({"x": torch.zeros(4, 3)})]
        [torch.Size([2, 3]), torch.Size([2])]
    """

    def __init__(
        self,
        program: Callable[[Batch], Result],
        batch: Batch,
        *,
        modules: Iterable[nn.Module] = (),
        reads: Iterable[object] = (),
        compiled: bool = True,
    ) -> None:
        self.program, self.modules = program, list(modules)
        self.reads = [
            *self.modules,
            *reads,
            *([program] if is_user_code(module_of(program)) else []),
        ]
        try:
            with forget_sources():
                self._capture(batch, compiled)
        except CaptureError:
            raise
        except Exception as error:
            raise CaptureError(
                f"the capture failed{place_of(error)} ({type(error).__name__}: {first_line(error)})."
            ) from error

    def _capture(self, batch: Batch, compiled: bool) -> None:
        self.buffers = Buffers(self.modules)
        _check_inputs(batch, self.buffers.captured)
        self.names, self.kinds = list(batch), kinds_of(batch)
        self.data_layouts = list(map(layout_of, batch.values()))
        self.verifier = Verifier(self.program, self.buffers, self.reads)
        with preserve_state(self.buffers.parts):
            with (
                rolled_back(self.reads),
                UndoWrites(),
            ):  # tracing executes operations that depend on no input
                self.graph, self.layout, self.record = trace(self.program, batch, self.buffers)
            self.constants = lift(self.graph)
            self.run: Callable[..., list[Tensor]] = self.graph
            self.constant_layouts = list(map(layout_of, self.constants))
            versions = [constant._version for constant in self.constants]
            with rolled_back(self.reads):
                self.verifier.check(self._replay, batch)
            self.written = [
                constant
                for constant, version in zip(self.constants, versions)
                if constant._version != version
            ]
            if compiled:
                self._compile(batch)

    def _compile(self, batch: Batch) -> None:
        """Compile the graph; what its first runs write to closed-over tensors is undone."""
        copies = [constant.clone() for constant in self.written]
        use_fastest_route(self.graph)
        self.run = compile_graph(self.graph, self._inputs(batch))
        if next(iter(batch.values())).is_cuda:
            self.run = record_cuda_graph(self.run, self._inputs(batch), len(self.names))
        with torch.no_grad():
            for constant, copy in zip(self.written, copies):
                constant.copy_(copy)

    def __call__(self, batch: Batch) -> Result:
        if (kinds := kinds_of(batch)) != self.kinds:
            raise CaptureError(f"captured for {self.kinds}, called with {kinds}.")
        return self.unflatten(
            [leaf.clone() if leaf.is_cuda else leaf for leaf in self.leaves(batch)]
        )

    @property
    def runs_user_code(self) -> bool:
        """Whether functions from outside torch, Pyro and pyrovae were seen to run."""
        return self.verifier.runs_user_code

    def guards_hold(self) -> bool:
        """Whether the buffers allow a replay, to be asked before each: see `Buffers.guards_hold`."""
        return self.buffers.guards_hold()

    def has_same_layout(self) -> bool:
        """Whether closed-over tensors have the shapes and strides that they had at the capture."""
        return list(map(layout_of, self.constants)) == self.constant_layouts

    def matches_eager(self, batch: Batch, *, suspect: bool = True) -> bool:
        """Whether a replay still gives the results of the program; False where Python numbers
        changed that the program reads.

        `suspect=False` assumes that it writes to no tensors that it did not write to at the
        capture, which saves time.
        """
        if not self.has_same_layout():
            return False
        try:
            with rolled_back(self.reads):
                return self.verifier.matches(
                    self._replay,
                    batch,
                    compiled=None
                    if self.written
                    else lambda batch: self.run(*self._inputs(batch)),
                    watch=suspect or not self.runs_user_code,
                )
        except Exception:
            return False

    def records_the_same(self) -> bool:
        """Whether the program, traced again, gives the same graph: operations, numbers, tensors.

        Unlike `matches_eager` it sees changes that make no difference for one batch.
        """
        parts = {id(part) for module in self.modules for part in module.modules()}
        if parts != {id(part) for part in self.buffers.parts} or not self.has_same_layout():
            return False
        batch = {
            name: torch.empty_strided(shape, strides, dtype=dtype, device=device)
            for name, (shape, strides, dtype, device) in zip(self.names, self.data_layouts)
        }
        try:
            with (
                forget_sources(),
                preserve_state(self.buffers.parts),
                rolled_back(self.reads),
                UndoWrites(),
                torch.no_grad(),
            ):
                _, layout, record = trace(self.program, batch, self.buffers)
        except Exception:
            return False
        return layout == self.layout and record.matches(self.record)

    def leaves(self, batch: Batch, epilogue: Epilogue | None = None) -> list[Tensor]:
        """The tensors of the result in order, without the time that nesting takes; on CUDA the
        next call overwrites them.

        `epilogue(leaves)` runs after the graph; a CUDA graph includes it.
        """
        if isinstance(self.run, CudaGraphRunner):
            return self.run(*self._inputs(batch), epilogue=epilogue)
        leaves = self.run(*self._inputs(batch))
        if epilogue is not None:
            epilogue(leaves)
        return leaves

    def unflatten(self, leaves: list[Tensor]) -> Result:
        return pytree.tree_unflatten(leaves, self.layout)

    def _inputs(self, batch: Batch) -> list[Tensor]:
        return [*(batch[name] for name in self.names), *self.buffers.read(), *self.constants]

    def _replay(self, batch: Batch) -> list[Tensor]:
        """The graph uncompiled, which rounds as the program does and draws the same numbers."""
        return self.graph(*self._inputs(batch))


def _check_inputs(batch: Batch, buffers: list[Tensor]) -> None:
    odd = [name for name, value in batch.items() if not isinstance(value, Tensor)]
    if odd:
        raise CaptureError(
            f"{odd[0]!r} among the data is no tensor, so it would be constant in replays."
        )
    devices = {str(value.device) for value in (*batch.values(), *buffers)}
    if len(devices) > 1:  # a CUDA graph would not see numbers on the host change
        raise CaptureError(f"data and buffers lie on {sorted(devices)}; move them to one device.")
