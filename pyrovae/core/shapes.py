"""The law of shapes, once: every value in a program is laid out as `(K particles, B data,
*event)`."""

import pyro

from pyrovae.core.param_store import in_local_scope

DATA = "data"
DATA_DIM = -1
PARTICLES = "particles"
PARTICLES_DIM = -2

MAX_PLATE_NESTING = 1
"""Plates open inside a program: the data plate. Passed to every Pyro ELBO, so that none has to
guess it."""


def data_plate(size: int) -> pyro.plate:
    """The plate over all `size` data of a batch, at dim -1, to be entered once."""
    return (_FullPlate if in_local_scope() else pyro.plate)(DATA, size, dim=DATA_DIM)


class _FullPlate(pyro.plate):
    """A plate without the sample site of row indices, which only subsampling needs; it is
    faster."""

    @staticmethod  # pyro.plate always passes the size
    def _subsample(  # type: ignore[override]
        name: str, size: int, *_: object
    ) -> tuple[int, int, None]:
        return size, size, None
