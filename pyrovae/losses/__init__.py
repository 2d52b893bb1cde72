"""Objectives: modules called with `**batch` that return nats per datum, to be minimised."""

from pyrovae.losses.aggressive_encoder import Lagging
from pyrovae.losses.base import unwrap
from pyrovae.losses.capacity import CapacityLoss
from pyrovae.losses.elbo import ElboLoss
from pyrovae.losses.elbo_terms import Terms
from pyrovae.losses.iwae import IwaeLoss
from pyrovae.losses.penalty import Penalized, squared_jacobian
from pyrovae.losses.pyro_loss import PyroLoss
from pyrovae.losses.schedules import LinearWarmup

__all__ = [
    "CapacityLoss",
    "ElboLoss",
    "IwaeLoss",
    "Lagging",
    "LinearWarmup",
    "Penalized",
    "PyroLoss",
    "Terms",
    "unwrap",
    "squared_jacobian",
]
