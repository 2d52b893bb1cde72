"""The objective of a VAE."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, NotNegative
from pyrovae.recipes.uses import NotWith, Only

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
    """What is minimised."""

    objective: Annotated[Objective, ALONE, ONE_DREG] = "elbo"
    """elbo: Trace_ELBO on K draws; analytic-kl: with the KL in closed form where there is one;
    score-function: without reparameterisation (for comparison: it is noisy); capacity: the KL held
    at --capacity. Importance-weighted bounds: iwae, dreg (iwae with doubly reparameterised
    gradients), renyi (of order --alpha). stl: the ELBO of K draws without the score of q."""
    particles: Count = 1
    """K, the draws of z for each datum and step."""
    alpha: Annotated[float, Only(objective="renyi")] = 0.5
    """0 is the IWAE bound, 1 the ELBO."""
    beta: NotNegative = 1.0
    """elbo, analytic-kl: weight of the KL; everything reported is at beta = 1."""
    kl_warmup: FromZero = 0
    """elbo, analytic-kl: epochs over which beta rises from 0. capacity: epochs over which the
    capacity does."""
    free_bits: NotNegative = 0.0
    """elbo, analytic-kl: nats of KL per datum that cost nothing."""
    capacity: Annotated[NotNegative, Only(objective="capacity")] = 25.0
    """Nats of KL per datum."""
    gamma: Annotated[NotNegative, Only(objective="capacity")] = 30.0
    """The pull towards it."""
    guide_steps: Count = 1
    """Steps of the guide for each of the model, so that it does not lag behind."""
    refine_steps: FromZero = 0
    """Gradient steps by which the guide's proposal is refined for each datum (semi-amortised), in
    training and in scoring."""

    def __post_init__(self) -> None:
        bounds.check(self)
