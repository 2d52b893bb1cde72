"""Curvatures of the log-likelihood at a mode, for Laplace's approximation
(`bnn.posthoc.fit_laplace`): `Full`, `Diagonal`, `Kron`, `LowRank`.

All are the Fisher information, summed over the data, in units of the prior: for the usual likelihoods
the generalised Gauss-Newton matrix, computed exactly and not from drawn targets.
"""

from pyrovae.bnn.curvature.base import Curvature, CurvatureOf
from pyrovae.bnn.curvature.dense import Diagonal, Full
from pyrovae.bnn.curvature.kron import Kron
from pyrovae.bnn.curvature.low_rank import LowRank
from pyrovae.bnn.curvature.roots import KronRoot, LayerRoot, LowRankRoot

__all__ = [
    "Curvature",
    "CurvatureOf",
    "Diagonal",
    "Full",
    "Kron",
    "KronRoot",
    "LayerRoot",
    "LowRank",
    "LowRankRoot",
]
