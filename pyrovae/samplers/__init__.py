"""Samplers of weights: optimisers with noise for `fit`, what keeps their draws, and Markov chains on all data at once."""
from pyrovae.samplers.arviz import chains_to_arviz
from pyrovae.samplers.collect import Collect
from pyrovae.samplers.gibbs import Gibbs, noise_variance
from pyrovae.samplers.hmc import Chains, hmc
from pyrovae.samplers.langevin import SGHMC, SGLD, cyclical
from pyrovae.samplers.laplace import laplace, linearize
from pyrovae.samplers.mcmc import mcmc
from pyrovae.samplers.swag import swag

__all__ = ["Chains", "Collect", "Gibbs", "SGHMC", "SGLD", "chains_to_arviz", "cyclical", "hmc", "laplace", "linearize",
           "mcmc", "noise_variance", "swag"]
