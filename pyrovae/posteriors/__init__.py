"""Posteriors: modules whose forward(context) returns q(z | context). zuko's flows need no file
here."""

from pyrovae.posteriors.flow import IAF, FlowPosterior
from pyrovae.posteriors.ladder import PrecisionWeighted
from pyrovae.posteriors.planar import PlanarPosterior
from pyrovae.posteriors.residual import ResidualNormal
from pyrovae.posteriors.score_function import NonReparameterized
from pyrovae.posteriors.vector_quantized import VectorQuantized

__all__ = [
    "IAF",
    "FlowPosterior",
    "NonReparameterized",
    "PlanarPosterior",
    "PrecisionWeighted",
    "ResidualNormal",
    "VectorQuantized",
]
