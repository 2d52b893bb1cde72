"""Arithmetic without subnormal numbers, which x86 processors handle 10 to 100 times slower than
others."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_set = Region(lambda on: torch.set_flush_denormal(bool(on)) and None)
"""Sets the flag of the thread that calls it: torch's function does no more."""


@contextmanager
def flush_subnormals(flush: bool = True) -> Iterator[None]:
    """Round numbers below the smallest normal one (1.2e-38 in float32) to zero, on this thread and
    torch's workers.

    Gradients are full of them where importance weights or likelihoods are nearly one-hot. The flag
    is restored on leaving; `flush=False` keeps such numbers inside a block that rounds them. Where
    the OpenMP library of torch cannot be found (not on Linux), only the calling thread is set;
    where the processor has no such flag, nothing happens.
    """
    if is_flushing() == flush or not torch.set_flush_denormal(flush):
        yield
        return
    _on_all_threads(flush)
    try:
        yield
    finally:
        torch.set_flush_denormal(not flush)
        _on_all_threads(not flush)


def is_flushing() -> bool:
    """Whether the calling thread flushes subnormal numbers."""
    return not (torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0).item()


def _on_all_threads(on: bool) -> None:
    parallel = _parallel_region()
    if parallel is not None and torch.get_num_threads() > 1:
        parallel(_set, int(on), torch.get_num_threads(), 0)


@cache
def _parallel_region() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, num_threads, flags)` of the OpenMP library that torch uses,
    which owns the workers.

    Other packages bring an OpenMP library of their own (scikit-learn does), so the symbol is
    looked up as torch's is: first among the libraries that are loaded globally (LD_PRELOAD), then
    among the libraries that torch's own depends on.
    """
    for library in (None, str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")):
        try:
            region = ctypes.CDLL(library).GOMP_parallel
        except (OSError, AttributeError, TypeError):  # TypeError: None on Windows
            continue
        region.argtypes, region.restype = (
            (Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint),
            None,
        )
        return region
    return None
