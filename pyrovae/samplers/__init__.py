"""Samplers of weights from minibatches: optimisers with noise, for `fit`, and what keeps their draws."""
from pyrovae.samplers.collect import Collect
from pyrovae.samplers.langevin import SGHMC, SGLD, cyclical
from pyrovae.samplers.laplace import laplace, linearize
from pyrovae.samplers.swag import swag

__all__ = ["Collect", "SGHMC", "SGLD", "cyclical", "laplace", "linearize", "swag"]
