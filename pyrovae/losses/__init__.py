"""Objectives: modules called with `**batch` that return nats per datum, to be minimised."""
from pyrovae.losses.elbo import ElboLoss
from pyrovae.losses.schedules import LinearWarmup
from pyrovae.losses.terms import Terms

__all__ = ["ElboLoss", "LinearWarmup", "Terms"]
