"""The capacity objective: a KL that is held at a target, which grows."""

from collections.abc import Callable
from typing import TypedDict, Unpack

import torch.nn as nn
from pyro.infer import ELBO
from torch import Tensor

from pyrovae.core.shapes import DATA
from pyrovae.losses.elbo import ElboLoss
from pyrovae.losses.schedules import Schedule, weight_of


class ElboOptions(TypedDict, total=False):
    """The options of `ElboLoss` that `CapacityLoss` passes on."""

    num_data: int | None
    elbo: ELBO | None


class CapacityLoss(nn.Module):
    r"""-(E_q log p(x | z) - gamma |KL - C|) in nats per datum: the KL is drawn to C nats instead
    of to zero.

    capacity: C in nats per datum, summed over latent sites; a number or a schedule, e.g.
        `LinearWarmup(1000, stop=25.0)`.
    gamma: weight of the distance |KL - C|; the paper takes 1000 at 64 x 64 pixels.
    options: those of `ElboLoss` except beta and free_bits (`num_data`, `elbo`, `plate`).

    The KL is that of the batch: in closed form where `elbo` uses one, with the weights that a
    `poutine.scale` in the programs gives the data. `terms` and everything reported stay those of
    the ELBO at beta = 1.

    Raises: TypeError where the KL is summed out by enumeration or its gradient needs the score
    function.
    Source: Burgess et al. 2018, arXiv:1804.03599, section 5.

    Example:
        >>> import torch
        >>> from pyrovae import LinearWarmup
        >>> loss = CapacityLoss(model, guide, capacity=LinearWarmup(1000, stop=5.0), gamma=30.0)
        >>> loss(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        capacity: float | Schedule,
        gamma: float = 1000.0,
        plate: str = DATA,
        **options: Unpack[ElboOptions],
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma={gamma}, expected a weight of at least 0.")
        self.inner = ElboLoss(model, guide, beta=0.0, plate=plate, **options)
        self.capacity, self.gamma = capacity, gamma

    def forward(self, **batch: Tensor) -> Tensor:
        loss, terms, kl = self.inner.parts(batch, purpose="CapacityLoss")
        self.inner.terms = terms and terms.detach()
        values, weights = zip(*kl.values())
        return (
            loss
            + self.gamma
            * (sum(values) - sum(weights) / len(weights) * weight_of(self.capacity)).abs()
        )
