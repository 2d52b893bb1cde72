"""The objective of a VAE."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, NotNegative
from pyrovae.recipes.setting_rules import NotWith, OnlyWith

Objective = Literal[
    "elbo", "analytic-kl", "score-function", "capacity", "iwae", "stl", "dreg", "renyi"
]
ALONE = NotWith(
    "is the ELBO; give --particles 5, say, or leave --objective out",
    of=("iwae", "renyi"),
    particles=(1,),
)
ONE_DREG = NotWith(
    "is the ELBO without the score of q; give --particles 5, say, or use --objective stl",
    of=("dreg",),
    particles=(1,),
)


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings:
    """The training objective."""

    objective: Annotated[Objective, ALONE, ONE_DREG] = "elbo"
    """elbo: Trace_ELBO on K draws; analytic-kl: with the KL in closed form where there is one;
    score-function: without reparameterisation (high variance, for comparison); capacity: the KL is
    held at --capacity. Importance-weighted bounds: iwae, dreg (iwae with doubly reparameterised
    gradients), renyi (of order --alpha). stl: the ELBO of K draws without the score of q."""
    particles: Count = 1
    """K, the number of samples of z for each datum and step."""
    alpha: Annotated[float, OnlyWith(objective="renyi")] = 0.5
    """0 is the IWAE bound, 1 the ELBO."""
    beta: NotNegative = 1.0
    """elbo, analytic-kl: weight of the KL in training; reported numbers use beta = 1."""
    kl_warmup: FromZero = 0
    """Epochs over which beta (elbo, analytic-kl) or the capacity (capacity) rises from 0."""
    free_bits: NotNegative = 0.0
    """elbo, analytic-kl: nats of KL per datum that are not penalised."""
    capacity: Annotated[NotNegative, OnlyWith(objective="capacity")] = 25.0
    """Target KL, in nats per datum."""
    gamma: Annotated[NotNegative, OnlyWith(objective="capacity")] = 30.0
    """Weight of the distance of the KL from the capacity."""
    contractive: NotNegative = 0.0
    """Weight of the squared Jacobian of the encoder, which makes a contractive autoencoder of a point
    guide."""
    guide_steps: Count = 1
    """Training steps of the guide for each step of the model (aggressive encoder training)."""
    refine_steps: FromZero = 0
    """Gradient steps that refine the variational parameters of each datum (semi-amortised
    inference), in training and in evaluation."""

    def __post_init__(self) -> None:
        bounds.check(self)
