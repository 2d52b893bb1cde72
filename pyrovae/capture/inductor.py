"""Torch's compiler for graphs of operations."""

import linecache
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx import graph_module

from pyrovae.core.errors import CaptureError, first_line


def compile_graph(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
    """The graph compiled by inductor for inputs of these shapes, with torch's random numbers.

    A graph that was compiled before, in this process or another, is taken from inductor's cache.

    Raises: CaptureError where the compiler fails.
    """
    with _quiet():
        import torch._inductor.config as config
        from torch._guards import TracingContext, tracing
        from torch._inductor.compile_fx import compile_fx
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        # without a shape environment inductor does not use its cache of graphs, even though all
        # shapes are static
        shapes = FakeTensorMode(
            shape_env=ShapeEnv(), static_shapes=True, allow_non_fake_inputs=True
        )
        # inductor's own random numbers are another stream than torch's, and gave NaN beside
        # normalisation layers
        with config.patch(fallback_random=True), torch.no_grad():
            try:
                with tracing(TracingContext(shapes)):
                    run = cast("Callable[..., list[Tensor]]", compile_fx(graph, inputs))
                run(*inputs)  # compiles
                return run
            except Exception as error:
                raise CaptureError(
                    f"the compiler failed ({type(error).__name__}: {first_line(error)})"
                ) from error


@contextmanager
def forget_sources() -> Iterator[None]:
    """Remove the entries that tracing and compiling add to tables of torch that live as long as
    the process.

    Torch keeps the source text of each traced graph, for tracebacks, and a list of the modules
    that it generated: about 100 KiB a capture.
    """
    sources = cast("dict", _private_of_torch(graph_module, "_loader", "eval_cache") or {})
    before = set(sources)
    modules = _generated_modules()
    known = len(modules)
    try:
        yield
    finally:
        for key in sources.keys() - before:
            del sources[key]
            linecache.cache.pop(key, None)
        del (modules or _generated_modules())[known:]


def _generated_modules() -> list[object]:
    """Inductor's list of the modules it has loaded; empty before inductor is imported."""
    codecache = sys.modules.get("torch._inductor.codecache")
    found = _private_of_torch(codecache, "PyCodeCache", "modules")
    return [] if found is None else cast("list[object]", found)


def _private_of_torch(owner: object, *names: str) -> object:
    """Attributes of attributes that have no public name; None in a torch that lacks them."""
    for name in names:
        owner = getattr(owner, name, None)  # other versions of torch may have renamed it
    return owner


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's own warnings, and without its message that a machine with CUDA's
    files has no GPU."""

    def is_news(record: logging.LogRecord) -> bool:
        return "No CUDA runtime is found" not in str(record.msg)

    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.removeFilter(is_news)
