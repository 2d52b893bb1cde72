"""Matrix products by the faster of two libraries, torch's BLAS or oneDNN, as a short measurement
on this machine finds it."""

import functools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, fx

MARGIN = 0.9
"""oneDNN is taken if its time is below this share of the usual one: smaller gains may be noise."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape and strides of a matrix."""


def use_fastest_route(graph: fx.GraphModule) -> int:
    """Send those float32 matrix products on a CPU through oneDNN that it computes faster than
    torch's BLAS; return their number.

    Which is faster depends on processor, shape, strides and threads, so each kind of product in
    the graph is timed.
    """
    changed = 0
    for node in graph.graph.nodes:
        if (
            node.target not in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
            or node.kwargs
        ):
            continue
        *bias, a, b = (argument.meta["val"] for argument in node.args)
        if (
            a.device.type == "cpu"
            and a.dtype == torch.float32
            and all(part.dim() == 1 for part in bias)
            and onednn_is_faster(_layout(a), _layout(b), bool(bias), torch.get_num_threads())
        ):
            bias_node = node.args[0] if bias else None
            node.target, node.args = torch.ops.pyrovae.onednn.default, (*node.args[-2:], bias_node)
            changed += 1
    graph.recompile()
    return changed


@functools.cache
def onednn_is_faster(a: Layout, b: Layout, bias: bool, threads: int) -> bool:
    """Time both routes in turns, on matrices of these layouts; False too where one of them does
    not accept these."""
    # torch.ops has no attribute for an operator that torch was built without
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return False
    try:
        return _time(a, b, bias)
    except RuntimeError:
        return False


def _time(a: Layout, b: Layout, bias: bool) -> bool:
    first, second = _matrix(a), _matrix(b)
    offset = second[0].clone() if bias else None
    routes: list[Callable[[], Tensor]] = [
        lambda: torch.mm(first, second) if offset is None else torch.addmm(offset, first, second),
        lambda: torch.ops.pyrovae.onednn(first, second, offset),
    ]
    with torch.no_grad():
        usual, other = (
            statistics.median(times) for times in zip(*(map(_seconds, routes) for _ in range(11)))
        )
    return other < MARGIN * usual


def _seconds(route: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    route()
    return time.perf_counter() - start


def _layout(matrix: Tensor) -> Layout:
    return tuple(matrix.shape), tuple(matrix.stride())


def _matrix(layout: Layout) -> Tensor:
    """Random numbers in a layout that may repeat them (a stride of 0, of an expanded tensor)."""
    generator = torch.Generator().manual_seed(0)  # leaves every other random stream as it is
    size = 1 + sum((length - 1) * stride for length, stride in zip(*layout))
    return torch.rand(size, dtype=torch.float32, generator=generator).as_strided(*layout)


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a b + bias, as an operator of its own, since inductor does not accept the one that it
    calls."""
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")


_library = torch.library.Library("pyrovae", "DEF")
_library.define("onednn(Tensor a, Tensor b, Tensor? bias) -> Tensor")
_library.impl("onednn", _onednn, "CPU")
torch.library.register_fake(
    "pyrovae::onednn", lambda a, b, bias: a.new_empty(a.shape[0], b.shape[1]), lib=_library
)
