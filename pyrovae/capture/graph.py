"""Record what a program does to tensors, once, and replay it without the program: no handlers, no
Python, compiled."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Generic, TypeVar, cast

import torch
import torch.nn as nn
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from pyrovae.capture.concretize import ConcretizeMode, place_of, without_nan_warnings
from pyrovae.capture.cuda_graph import CudaGraphRunner, Epilogue, record_cuda_graph
from pyrovae.capture.flat_graph import (
    are_close,
    distinct,
    has_known_shape,
    kinds_of,
    lift,
    python_random_state,
)
from pyrovae.capture.guards import has_backward_hooks, watch_user_code
from pyrovae.capture.inductor import compile_graph, forget_sources
from pyrovae.capture.onednn import use_fastest_route
from pyrovae.capture.reachable import is_user_code, module_of
from pyrovae.capture.rollback import UndoWrites, rolled_back
from pyrovae.capture.same_graph import GraphRecord
from pyrovae.core.errors import CaptureError, first_line
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.recording import recording

Batch = Mapping[str, Tensor]
Result = TypeVar("Result")
DEPENDS_ON_VALUES = (
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "GuardOnDataDependentSymNode",
)
"""What torch calls a look at the value of a tensor that has none."""


class Captured(Generic[Result]):
    r"""What `program(batch)` computes, as one flat graph that is replayed for other batches of the
    same shapes.

    program: a function of a dict of tensors; it may close over modules, draw random numbers and
        call `autograd.grad`. It returns nested tuples, lists and dicts of tensors without
        gradient.
    modules: where buffers live that the program may change. A replay changes them likewise.
    reads: functions and objects beside these and `program` whose Python state takes part.
    compiled: compile the graph with inductor, in some seconds to a minute; False replays it
        operation by operation.

    Closed-over tensors are read anew at each call. Random numbers come from torch's generators in
    the order of the program (compiled, before torch 2.13, in another order). Shapes, strides,
    `training` flags, Python numbers and the number of threads are those of the capture. The graph
    is run beside the program twice before it is trusted; what those runs change in tensors,
    attributes, containers, closures and globals is undone. `runs_user_code` says whether functions
    from outside torch, Pyro and pyrovae were seen to run. Use it under `torch.no_grad()`.

    Raises: CaptureError, and no other exception, for a program whose way depends on the values of
    tensors (`float(tensor)`, `if tensor:`, enumeration) or on anything that changes besides
    tensors (counters, Python's or numpy's random numbers), and where the compiler fails or is
    missing.

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
        modules = list(modules)
        self.reads = [
            *modules,
            *reads,
            *([program] if is_user_code(module_of(program)) else []),
        ]
        try:
            with forget_sources():
                self._capture(program, batch, modules, compiled)
        except CaptureError:
            raise
        except Exception as error:
            raise CaptureError(
                f"it failed{place_of(error)} ({type(error).__name__}: {first_line(error)})."
            ) from error

    def _capture(
        self,
        program: Callable[[Batch], Result],
        batch: Batch,
        modules: list[nn.Module],
        compiled: bool,
    ) -> None:
        parts = {id(part): part for module in modules for part in module.modules()}.values()
        self.slots = [
            (part, name)
            for part in parts
            for name, buffer in part._buffers.items()
            if buffer is not None and buffer.dtype != torch.bool
        ]
        self.masks = [
            (part, name, buffer)
            for part in parts
            for name, buffer in part._buffers.items()
            if buffer is not None and buffer.dtype == torch.bool
        ]
        self.buffers = self._buffers()
        self.names = list(batch)
        odd = [name for name, value in batch.items() if not isinstance(value, Tensor)]
        if odd:
            raise CaptureError(
                f"{odd[0]!r} among the data is no tensor, so replays would not see it change."
            )
        devices = {str(value.device) for value in (*batch.values(), *self.buffers)}
        if len(devices) > 1:  # a CUDA graph would not see numbers on the host change
            raise CaptureError(
                f"data and buffers lie on {sorted(devices)}; move them to one device."
            )
        self.parts, self.modules = parts, modules
        with preserve_state(parts):
            with rolled_back(self.reads), UndoWrites():  # tracing does what touches no input
                graph, self.layout, self.record = self._trace(program, batch)
            self.constants = lift(graph)
            self.program, self.shapes = program, kinds_of(batch)
            self.data_kinds = list(map(_kind, batch.values()))
            self.graph = graph
            self.run: Callable[..., list[Tensor]] = graph
            self.kinds = list(map(_kind, self.constants))
            versions = [constant._version for constant in self.constants]
            with rolled_back(self.reads):
                self._compare(batch)
            self.written = [
                constant
                for constant, version in zip(self.constants, versions)
                if constant._version != version
            ]
            if compiled:
                copies = [constant.clone() for constant in self.written]
                use_fastest_route(graph)
                self.run = compile_graph(graph, self._inputs(batch))
                if next(iter(batch.values())).is_cuda:
                    self.run = record_cuda_graph(self.run, self._inputs(batch), len(self.names))
                with torch.no_grad():
                    for constant, copy in zip(self.written, copies):
                        constant.copy_(copy)

    def __call__(self, batch: Batch) -> Result:
        if (kinds := kinds_of(batch)) != self.shapes:
            raise CaptureError(f"captured for {self.shapes}, called with {kinds}.")
        return self.unflatten(
            [leaf.clone() if leaf.is_cuda else leaf for leaf in self.leaves(batch)]
        )

    def guards_hold(self) -> bool:
        """Whether the modules' buffers are as they were at the capture but for their values; to be
        asked before a replay.
        Boolean ones are to be the same tensors: programs look at their values.

        Buffers that are other tensors than before become ours, in copies: a replay writes to them.
        """
        for index, (part, name) in enumerate(self.slots):
            buffer = part._buffers[name]
            if buffer is not self.buffers[index]:
                if buffer is None or _kind(buffer) != _kind(self.buffers[index]):
                    return False
                self.buffers[index] = part._buffers[name] = buffer.clone()
        return all(part._buffers[name] is mask for part, name, mask in self.masks)

    def has_same_layout(self) -> bool:
        """Whether closed-over tensors have the shapes and strides that they had at the capture."""
        return list(map(_kind, self.constants)) == self.kinds

    def matches_eager(self, batch: Batch, *, suspect: bool = True) -> bool:
        """Whether the program still does what was recorded; not so where Python numbers changed
        that it reads somewhere.

        `suspect=False` trusts that it writes to no tensors that it did not write to before, which
        saves time.
        """
        if not self.has_same_layout():
            return False
        try:
            with rolled_back(self.reads):
                if self.runs_user_code and not suspect:
                    expected = self._results(self.program, batch, undo=bool(self.written))
                else:
                    expected = self._watched(batch)
                if not (
                    self.written or expected[0].is_cuda
                ):  # the quick way first, which rounds otherwise
                    if are_close(
                        expected,
                        self._results(
                            lambda batch: self.run(*self._inputs(batch)), batch, undo=False
                        ),
                    ):
                        return True
                return are_close(expected, self._results(self._replayed, batch))
        except Exception:
            return False

    def records_the_same(self) -> bool:
        """Whether the program, recorded again, is what it was: operations, numbers, tensors.

        Unlike `matches_eager` it sees changes that make no difference for one batch.
        """
        parts = {id(part) for module in self.modules for part in module.modules()}
        if parts != {id(part) for part in self.parts} or not self.has_same_layout():
            return False
        batch = {
            name: torch.empty_strided(shape, strides, dtype=dtype, device=device)
            for name, (shape, strides, dtype, device) in zip(self.names, self.data_kinds)
        }
        try:
            with (
                forget_sources(),
                preserve_state(self.parts),
                rolled_back(self.reads),
                UndoWrites(),
                torch.no_grad(),
            ):
                _, layout, record = self._trace(self.program, batch)
        except Exception:
            return False
        return layout == self.layout and record.matches(self.record)

    def leaves(self, batch: Batch, epilogue: Epilogue | None = None) -> list[Tensor]:
        """The tensors of the result in order, without the time that nesting takes; on CUDA the
        next call overwrites them.

        `epilogue(leaves)` is called behind, or once and replayed where the graph is one of CUDA.
        """
        if isinstance(self.run, CudaGraphRunner):
            return self.run(*self._inputs(batch), epilogue=epilogue)
        leaves = self.run(*self._inputs(batch))
        if epilogue is not None:
            epilogue(leaves)
        return leaves

    def unflatten(self, leaves: list[Tensor]) -> Result:
        return pytree.tree_unflatten(leaves, self.layout)

    def _buffers(self) -> list[Tensor]:
        return cast("list[Tensor]", [part._buffers[name] for part, name in self.slots])

    def _inputs(self, batch: Batch) -> list[Tensor]:
        return [
            *(batch[name] for name in self.names),
            *self._buffers(),
            *self.constants,
        ]

    def _trace(
        self, program: Callable[[Batch], Result], batch: Batch
    ) -> tuple[fx.GraphModule, pytree.TreeSpec, GraphRecord]:
        from torch.fx.experimental.proxy_tensor import (
            make_fx,
        )  # which loads a computer algebra system

        found: list[pytree.TreeSpec] = []

        def flat(batch: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
            """The program as a function of its buffers too, which it may change in place or by
            assignment."""
            for (part, name), buffer in zip(self.slots, buffers):
                part._buffers[name] = buffer
            leaves, layout = pytree.tree_flatten(program(dict(zip(self.names, batch))))
            for (part, name), buffer in zip(self.slots, buffers):
                new = part._buffers[name]
                if new is not buffer:
                    if new is None or (new.shape, new.dtype) != (buffer.shape, buffer.dtype):
                        kind = None if new is None else f"{tuple(new.shape)} {new.dtype}"
                        raise CaptureError(
                            f"buffer {name!r} of {type(part).__name__} was {tuple(buffer.shape)} "
                            f"{buffer.dtype} and becomes {kind}."
                        )
                    buffer.copy_(new)
            found.append(layout)
            return leaves

        own = self._buffers()
        before, mode = python_random_state(), ConcretizeMode(buffer for *_, buffer in self.masks)
        try:
            with (
                recording(),
                mode,
                without_nan_warnings(),
            ):
                graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(
                    distinct(batch), own
                )
        except CaptureError:
            raise
        except Exception as error:  # whatever the program did that a recording cannot follow
            if type(error).__name__ in DEPENDS_ON_VALUES:
                raise CaptureError(
                    f"the value of a tensor decides what the program does{place_of(error)}, as in "
                    "`if tensor:` and `x[mask]`."
                ) from error
            reason = f"{type(error).__name__}: {first_line(error)}"
            if "FakeTensor" in reason:
                reason = "something in it does not work on tensors without values"
            raise CaptureError(
                f"the program cannot be recorded{place_of(error)} ({reason}). Does the value of a tensor "
                "decide what it does?"
            ) from error
        finally:
            for (part, name), buffer in zip(self.slots, own):
                part._buffers[name] = buffer
            guards_hold = self.guards_hold()
            for part, name, mask in self.masks:
                part._buffers[name] = mask
        if not guards_hold:
            raise CaptureError(
                "the program assigns to a Boolean buffer, whose values a recording holds fixed; make it "
                "one of numbers."
            )
        if python_random_state() != before:
            raise CaptureError(
                "the program draws from Python's or numpy's random numbers; draw by torch."
            )
        for node in reversed(graph.graph.nodes):
            if (
                getattr(node.target, "namespace", None) == "profiler"
            ):  # marks that optimisers leave
                graph.graph.erase_node(node)
            elif not has_known_shape(node.meta.get("val")):
                raise CaptureError(
                    f"the program reads the value of a tensor ({node.target}), as float(tensor) does."
                )
        return graph, found[0], GraphRecord(graph, mode.known)

    def _compare(self, batch: Batch) -> None:
        """Twice in a row, so that what counts its calls shows; and the program once more, from the
        same state."""
        expected = self._watched(batch, times=2)
        seen, again = (
            self._results(run, batch, times=2) for run in (self._replayed, self.program)
        )
        if any(
            not torch.equal(one, other)
            for one, other in zip(expected, again)
            if not (one.is_cuda or one.isnan().any())
        ):
            raise CaptureError(
                "the program gives other results on the same numbers: something besides tensors and buffers "
                "changes from call to call. Keep it in a buffer."
            )
        if not are_close(expected, seen):
            raise CaptureError("replayed, the program gives other results than it does itself.")

    def _watched(self, batch: Batch, times: int = 1) -> list[Tensor]:
        """Results of the program, and whether code of the user's ran for them."""
        with watch_user_code() as found:
            results = self._results(self.program, batch, times)
        self.runs_user_code = (
            bool(found) or self.program in self.reads or any(map(has_backward_hooks, self.parts))
        )
        return results

    def _results(
        self, run: Callable[[Batch], object], batch: Batch, times: int = 1, *, undo: bool = True
    ) -> list[Tensor]:
        """What it returns, and buffers after it; `undo` what it writes to other tensors."""
        with (
            preserve_state(self.parts, seed=0),
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
                return results + [buffer.clone() for buffer in self._buffers()]
            except Exception as error:
                raise CaptureError(
                    f"run once more, the program fails ({type(error).__name__}: {first_line(error)})."
                ) from error

    def _replayed(self, batch: Batch) -> list[Tensor]:
        """Uncompiled, which rounds as the program does and draws the same numbers."""
        return self.graph(*self._inputs(batch))


def _kind(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device
