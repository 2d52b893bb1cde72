"""Guides over the weights of `Bayesian` nets: ordinary Pyro guides, like any autoguide."""
from pyrovae.weight_guides.draws import Draws, Ensemble
from pyrovae.weight_guides.dropout import MCDropout
from pyrovae.weight_guides.joint_normal import JointNormal
from pyrovae.weight_guides.mean_field import MeanField
from pyrovae.weight_guides.point import PointEstimate
from pyrovae.weight_guides.radial import Radial

__all__ = ["Draws", "Ensemble", "JointNormal", "MCDropout", "MeanField", "PointEstimate", "Radial"]
