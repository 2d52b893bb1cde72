"""Priors: modules whose forward() returns p(z)."""
from pyrovae.priors.standard import StandardNormal
from pyrovae.priors.vamp import VampPrior

__all__ = ["StandardNormal", "VampPrior"]
