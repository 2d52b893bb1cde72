"""Samplers of weights: optimisers with noise for `fit`, the hook that keeps their draws, and
Markov chains on all data at once."""

from pyrovae.bnn.samplers.arviz import chains_to_arviz
from pyrovae.bnn.samplers.chees import chees
from pyrovae.bnn.samplers.collect import Collect
from pyrovae.bnn.samplers.gibbs import Gibbs, noise_variance
from pyrovae.bnn.samplers.hmc import hmc
from pyrovae.bnn.samplers.langevin import SGHMC, SGLD, cyclical
from pyrovae.bnn.samplers.mcmc import mcmc
from pyrovae.bnn.samplers.nuts import nuts
from pyrovae.bnn.samplers.potential import Potential
from pyrovae.bnn.samplers.random_walk import random_walk
from pyrovae.bnn.samplers.stacked_chains import Chains
from pyrovae.bnn.samplers.stacked_nuts import stacked_nuts

__all__ = [
    "Chains",
    "Collect",
    "Gibbs",
    "Potential",
    "SGHMC",
    "SGLD",
    "chains_to_arviz",
    "chees",
    "cyclical",
    "hmc",
    "mcmc",
    "noise_variance",
    "nuts",
    "random_walk",
    "stacked_nuts",
]
