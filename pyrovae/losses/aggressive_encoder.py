"""Train the guide more often than the model."""

from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.detach import frozen
from pyrovae.core.errors import CaptureError, PairError
from pyrovae.core.recording import is_recording
from pyrovae.losses.base import Loss, unwrap


class Lagging(nn.Module):
    r"""The inner loss, with the model trained in only one of `guide_steps` training steps, so that
    the guide does not lag behind it.

    In the other steps the model's parameters get no gradient, and optimisers that skip such
    parameters leave them unchanged; parameters that model and guide share count as the model's.
    After `stop_after` steps both are always trained. A remedy for posterior collapse: early in
    training the guide is too far from the true posterior for the model to learn to use z.

    Raises: PairError where the guide has no parameters except those it shares with the model.
    Source: He et al. 2019, arXiv:1901.05534, algorithm 1 (there the guide's steps go on until they
    no longer help).

    Example:
        >>> from pyrovae import ElboLoss, Guide, Node
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> loss = Lagging(ElboLoss(model, Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))), guide_steps=5)
        >>> _ = loss(x=torch.ones(3, 4))  # the first step moves both
        >>> loss(x=torch.ones(3, 4)).backward()
        >>> [p.grad is None for p in model.parameters()]
        [True, True, True, True]
    """

    step: Tensor

    def __init__(
        self, loss: nn.Module, *, guide_steps: int, stop_after: int | None = None
    ) -> None:
        super().__init__()
        if guide_steps < 1:
            raise ValueError(
                f"guide_steps={guide_steps}, expected at least 1: steps of the guide for each of the model."
            )
        self.inner, self.guide_steps, self.stop_after = loss, guide_steps, stop_after
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, **batch: Tensor) -> Tensor:
        if not self.training:
            return self.inner(**batch)
        if is_recording():
            raise CaptureError(
                "Lagging trains model and guide in some steps and the guide alone in the others."
            )
        step, self.step = int(self.step), self.step + 1
        if step % self.guide_steps == 0 or self.stop_after is not None and step >= self.stop_after:
            return self.inner(**batch)
        with frozen(cast(Loss, unwrap(self)).model):
            loss = self.inner(**batch)
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise PairError(
                "all parameters of the guide are part of the model too, e.g. by a VampPrior of its encoder, so "
                "there is nothing to train in the guide's steps. Give the prior an encoder of its own."
            )
        return loss
