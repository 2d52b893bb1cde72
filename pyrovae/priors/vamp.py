"""The variational mixture of posteriors."""

import pyro.distributions as dist
import torch.nn as nn
from torch import Tensor

from pyrovae.priors.diagonal import mixture


class VampPrior(nn.Module):
    r"""Mixture of the encoder's posteriors at pseudo-inputs, p(z) = \sum_c pi_c q(z | u_c).

    `encoder(u)` returns a distribution of one event dim; it is the guide's own encoder (shared,
    trained once) or one of its own. The pseudo-inputs start at `pseudo_inputs`.

    learn_inputs: train them (the VampPrior); False keeps them as they are, say a subset of the
        data.
    learn_weights: train pi; else pi_c = 1/C as in the paper.
    constrain: a map from the parameters to inputs, e.g. `nn.Hardtanh(0, 1)` for pixels; none by
        default.

    Shapes: pseudo_inputs `(C, *x event)`; `() -> distribution` with batch `()` and event `(Z,)`.
    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 9.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> VampPrior(NormalHead(MLP(4, [8], 2 * 2)), torch.rand(7, 4))().sample((3,)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        pseudo_inputs: Tensor,
        *,
        learn_inputs: bool = True,
        learn_weights: bool = False,
        constrain: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.constrain = constrain or nn.Identity()
        inputs = pseudo_inputs.detach().clone()
        if learn_inputs:
            self.pseudo_inputs = nn.Parameter(inputs)
        else:
            self.register_buffer("pseudo_inputs", inputs)
        logits = inputs.new_zeros(len(inputs))
        if learn_weights:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    def forward(self) -> dist.MixtureSameFamily:
        return mixture(self.logits, self.encoder(self.constrain(self.pseudo_inputs)))
