"""Posteriors that are built from a trained net."""

from pyrovae.bnn.posthoc.laplace import laplace, linearize
from pyrovae.bnn.posthoc.laplace_posterior import LaplacePosterior, fit_laplace
from pyrovae.bnn.posthoc.swag import swag

__all__ = ["LaplacePosterior", "fit_laplace", "laplace", "linearize", "swag"]
