"""Inverse autoregressive flow on top of an encoder."""
from collections.abc import Sequence

import torch.nn as nn
import zuko
from torch import Tensor
from zuko.distributions import NormalizingFlow


class IAF(nn.Module):
    r"""q(z | x): the encoder's draw pushed through autoregressive steps, z = f_x(e), e ~ encoder(x).

    log q(z | x) = log encoder(e | x) - log |det df_x/de|. Drawing and scoring its own draw takes one pass; scoring a
    foreign z takes Z passes, so use it as a guide and not as a prior. Each step may look at x itself.

    Shapes: `encoder(x)` has event `(features,)`; x is a vector `(*batch, context)`.
    Source: Kingma et al. 2016, arXiv:1606.04934, eq. 10 (here zuko's affine masked autoregressive steps, inverted).

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> IAF(NormalHead(MLP(4, [8], 2 * 2)), features=2, context=4)(torch.rand(5, 4)).rsample().shape
        torch.Size([5, 2])
    """

    def __init__(self, encoder: nn.Module, features: int, context: int, *, transforms: int = 2,
                 hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self.encoder = encoder
        self.steps = zuko.flows.MAF(features, context, transforms=transforms, hidden_features=hidden).transform

    def forward(self, x: Tensor) -> NormalizingFlow:
        return NormalizingFlow(self.steps(x).inv, self.encoder(x))
