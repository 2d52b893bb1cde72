"""Trace a program on tensors without values, as one graph of tensor operations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from pyrovae.capture._buffers import Buffers
from pyrovae.capture._flat_graph import has_known_shape, python_random_state, without_aliases
from pyrovae.capture._same_graph import GraphRecord
from pyrovae.capture.concretize import ConcretizeMode, place_of, without_nan_warnings
from pyrovae.core.errors import CaptureError, first_line
from pyrovae.core.recording import recording
from pyrovae.core.types import Batch

DEPENDS_ON_VALUES = (
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "GuardOnDataDependentSymNode",
)
"""Names of torch's exceptions for a program that reads the value of a tensor without one."""


def trace(
    program: Callable[[Batch], Any], batch: Batch, buffers: Buffers
) -> tuple[fx.GraphModule, pytree.TreeSpec, GraphRecord]:
    """The graph of `program(batch)` as a function of the tensors of the batch and the buffers, the
    nesting of its result, and a record to compare with later ones.

    The program may change buffers in place or by assignment.

    Raises: CaptureError where the program cannot be traced: data-dependent control flow, values
    read as Python numbers, random numbers of Python or numpy.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # loads a computer algebra system

    found: list[pytree.TreeSpec] = []
    names = list(batch)

    def flat(values: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
        buffers.assign(inputs)
        leaves, layout = pytree.tree_flatten(program(dict(zip(names, values))))
        buffers.copy_assigned_to(inputs)
        found.append(layout)
        return leaves

    own = buffers.read()
    before, mode = python_random_state(), ConcretizeMode(buffer for *_, buffer in buffers.masks)
    try:
        with recording(), mode, without_nan_warnings():
            graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(
                without_aliases(batch), own
            )
    except CaptureError:
        raise
    except Exception as error:  # tracing failed, or the program did
        raise _explained(error) from error
    finally:
        buffers.assign(own)
        masks_kept = buffers.guards_hold()
        buffers.restore_masks()
    if not masks_kept:
        raise CaptureError(
            "the program assigns to a Boolean buffer, whose values a recording holds fixed; make it "
            "one of numbers."
        )
    if python_random_state() != before:
        raise CaptureError(
            "the program draws random numbers from Python or numpy; draw them from torch."
        )
    _drop_profiler_marks(graph)
    for node in reversed(graph.graph.nodes):
        if not has_known_shape(node.meta.get("val")):
            raise CaptureError(
                f"the program reads the value of a tensor ({node.target}), as float(tensor) does."
            )
    return graph, found[0], GraphRecord(graph, mode.known)


def _explained(error: Exception) -> CaptureError:
    if type(error).__name__ in DEPENDS_ON_VALUES:
        return CaptureError(
            f"the value of a tensor decides what the program does{place_of(error)}, as in "
            "`if tensor:` and `x[mask]`."
        )
    reason = f"{type(error).__name__}: {first_line(error)}"
    if "FakeTensor" in reason:
        reason = "something in it does not work on tensors without values"
    return CaptureError(
        f"the program cannot be recorded{place_of(error)} ({reason}). Does the value of a tensor "
        "decide what it does?"
    )


def _drop_profiler_marks(graph: fx.GraphModule) -> None:
    """Erase the operators `torch.ops.profiler.*` with which optimisers mark their steps."""
    for node in reversed(graph.graph.nodes):
        if isinstance(node.target, OpOverload) and node.target.namespace == "profiler":
            graph.graph.erase_node(node)
