"""Posteriors made of a trained net afterwards."""

from pyrovae.bnn.posthoc.laplace import laplace, linearize
from pyrovae.bnn.posthoc.swag import swag

__all__ = ["laplace", "linearize", "swag"]
