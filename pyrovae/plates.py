"""The law of shapes, once: every value in a program is laid out as `(K particles, B data, *event)`."""

DATA = "data"
DATA_DIM = -1
PARTICLES = "particles"
PARTICLES_DIM = -2

MAX_PLATE_NESTING = 1
"""Plates open inside a program: the data plate. Passed to every Pyro ELBO, so that none has to guess it."""
