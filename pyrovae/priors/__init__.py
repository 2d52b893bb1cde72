"""Priors: modules whose forward(*conditions) returns p(z). zuko's flows need no file here."""

from pyrovae.priors.flat import Flat, Laplace
from pyrovae.priors.inverse_gamma import InverseGammaPrior
from pyrovae.priors.mixing import Mixing
from pyrovae.priors.mixture import MixtureOfNormals
from pyrovae.priors.restricted_boltzmann import RestrictedBoltzmann
from pyrovae.priors.standard import StandardNormal
from pyrovae.priors.vamp import VampPrior

__all__ = [
    "Flat",
    "InverseGammaPrior",
    "Laplace",
    "Mixing",
    "MixtureOfNormals",
    "RestrictedBoltzmann",
    "StandardNormal",
    "VampPrior",
]
