"""Objectives: modules called with `**batch` that return nats per datum, to be minimised."""

from pyrovae.losses.aggressive_encoder import Lagging
from pyrovae.losses.base import unwrap
from pyrovae.losses.capacity import CapacityLoss
from pyrovae.losses.contrastive_divergence import ContrastiveDivergence
from pyrovae.losses.density_ratio import DensityRatio
from pyrovae.losses.diffusion import DiffusionLoss
from pyrovae.losses.elbo import ElboLoss
from pyrovae.losses.elbo_terms import Terms
from pyrovae.losses.iwae import IwaeLoss
from pyrovae.losses.leave_one_out import LeaveOneOutLoss
from pyrovae.losses.penalty import Penalized, squared_jacobian
from pyrovae.losses.pyro_loss import PyroLoss
from pyrovae.losses.schedules import LinearWarmup
from pyrovae.losses.semi_supervised import SemiSupervisedLoss
from pyrovae.losses.total_correlation import (
    TotalCorrelation,
    minibatch_weighted,
    stratified,
)
from pyrovae.losses.vector_quantized import VectorQuantizedLoss

__all__ = [
    "CapacityLoss",
    "ContrastiveDivergence",
    "DensityRatio",
    "DiffusionLoss",
    "ElboLoss",
    "IwaeLoss",
    "Lagging",
    "LeaveOneOutLoss",
    "LinearWarmup",
    "Penalized",
    "PyroLoss",
    "SemiSupervisedLoss",
    "Terms",
    "TotalCorrelation",
    "VectorQuantizedLoss",
    "minibatch_weighted",
    "stratified",
    "unwrap",
    "squared_jacobian",
]
