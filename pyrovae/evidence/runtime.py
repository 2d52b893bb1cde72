"""How every estimate runs: in eval mode, on checked data, in tiles with their own seeds."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyro
import torch

from pyrovae.core.batching import Data, batches, exemplar_of
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.core.traces import Batch

ROWS = 4000
"""Particles x data in one pass: large enough to be fast, small in memory."""


@contextmanager
def evaluation(*programs: Callable) -> Iterator[int]:
    """Eval mode without gradients; flags, buffers and random streams are restored. Yields a
    seed.

    The seed is the one draw from torch's generator that does last, so that estimates in a row are
    independent.
    """
    seed = int(torch.randint(2**62, ()))
    with (
        torch.no_grad(),
        preserve_state(list(find_modules(*programs).values()), training=False),
        pyro.validation_enabled(False),
        flush_subnormals(),
    ):
        yield seed


def first_batch(
    data: Data, names: Sequence[str] | None, *programs: Callable
) -> tuple[Batch, Iterator[Batch]]:
    """The first batch, and an iterator of all batches from the first on, on the programs'
    device."""
    stream = batches(data, names, exemplar_of(*programs))
    first = next(stream, None)
    if first is None:
        raise PairError(
            "the data yield no batch; expected at least one datum. A used-up iterator yields nothing."
        )
    return first, itertools.chain([first], stream)


def tile_size(num_particles: int) -> int:
    """Number of data in one pass of so many particles; independent of the batches."""
    return min(max(ROWS // num_particles, 1), 128)


def derived_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
