"""Guides over the weights of `Bayesian` nets: ordinary Pyro guides, like any autoguide."""

from pyrovae.bnn.guides.dropout import MCDropout
from pyrovae.bnn.guides.empirical import Empirical, Ensemble
from pyrovae.bnn.guides.joint_normal import JointNormal
from pyrovae.bnn.guides.mean_field import MeanField
from pyrovae.bnn.guides.point_estimate import PointEstimate
from pyrovae.bnn.guides.radial import Radial
from pyrovae.bnn.guides.structured_normal import StructuredNormal

__all__ = [
    "Empirical",
    "Ensemble",
    "JointNormal",
    "MCDropout",
    "MeanField",
    "PointEstimate",
    "Radial",
    "StructuredNormal",
]
