"""The law of shapes, once: every value in a program is laid out as `(K particles, B data, *event)`."""
import pyro
from pyro import poutine
from pyro.poutine.util import site_is_subsample

DATA = "data"
DATA_DIM = -1
PARTICLES = "particles"
PARTICLES_DIM = -2

MAX_PLATE_NESTING = 1
"""Plates open inside a program: the data plate. Passed to every Pyro ELBO, so that none has to guess it."""


def data_plate(size: int) -> pyro.plate:
    """The plate over all `size` data of a batch, at dim -1, to be entered once.

    It hides the record of row indices that Pyro makes for plates that subsample: this one does not, two programs in
    one trace may each open theirs, and a replay has nothing to resize.
    """
    with poutine.block(hide_fn=site_is_subsample):
        return pyro.plate(DATA, size, dim=DATA_DIM)
