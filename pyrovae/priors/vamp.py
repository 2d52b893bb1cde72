"""The variational mixture of posteriors."""
import pyro.distributions as dist
import torch.nn as nn
from torch import Tensor


class VampPrior(nn.Module):
    r"""Mixture of the encoder's posteriors at learned pseudo-inputs, p(z) = (1/C) \sum_c q(z | u_c).

    `encoder(u)` returns a distribution of one event dim; it is the guide's own encoder (shared, trained once) or
    one of its own. The pseudo-inputs start at `pseudo_inputs` and are learned, unconstrained.

    Shapes: pseudo_inputs `(C, *x event)`; `() -> distribution` with batch `()` and event `(Z,)`.
    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 9.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> VampPrior(NormalHead(MLP(4, [8], 2 * 2)), torch.rand(7, 4))().sample((3,)).shape
        torch.Size([3, 2])
    """

    def __init__(self, encoder: nn.Module, pseudo_inputs: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    def forward(self) -> dist.MixtureSameFamily:
        components = self.encoder(self.pseudo_inputs)
        weights = dist.Categorical(logits=self.pseudo_inputs.new_zeros(len(self.pseudo_inputs)))
        return dist.MixtureSameFamily(weights, components)
