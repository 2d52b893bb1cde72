"""Posteriors that are built from a trained net."""

from pyrovae.bnn.posthoc.function_space import OutputNormal, output_normal
from pyrovae.bnn.posthoc.held_out_prior import tune_prior
from pyrovae.bnn.posthoc.laplace import laplace, linearize
from pyrovae.bnn.posthoc.laplace_posterior import LaplacePosterior, fit_laplace, laplace_guide
from pyrovae.bnn.posthoc.marginal_likelihood import MarginalLikelihood
from pyrovae.bnn.posthoc.swag import swag

__all__ = [
    "LaplacePosterior",
    "MarginalLikelihood",
    "OutputNormal",
    "fit_laplace",
    "laplace",
    "laplace_guide",
    "linearize",
    "output_normal",
    "swag",
    "tune_prior",
]
