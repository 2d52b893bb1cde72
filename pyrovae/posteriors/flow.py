"""Normalising flows on top of an encoder."""

from collections.abc import Sequence

import torch.nn as nn
import zuko
from torch import Tensor
from zuko.distributions import NormalizingFlow
from zuko.lazy import LazyTransform

from pyrovae.posteriors.implicit import implicit


class FlowPosterior(nn.Module):
    r"""q(z | x): the encoder's draw pushed through a flow, z = f_c^{-1}(e), e ~ encoder(x), c =
    context(x).

    log q(z | x) = log encoder(f_c(z) | x) + log |det df_c/dz|.

    transform: a lazy transform of zuko, from z to e, that takes the context: `zuko.flows.NSF(Z,
        C).transform.inv` draws in one pass and scores a foreign z in several (inverse
        autoregressive), without `.inv` the other way round (a MAF); coupling flows
        (`zuko.flows.RealNVP`) take one pass both ways.
    context: a net from x to the vector c; by default c is x itself, then a vector `(*batch, C)`.

    Shapes: those of the encoder, whose event is a vector `(Z,)`. STL and DReG gradients score
    foreign draws.
    Source: Rezende & Mohamed 2015, arXiv:1505.05770, eq. 15; the context: Kingma et al. 2016,
    arXiv:1606.04934, eq. 10.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> spline = zuko.flows.NSF(2, 4, transforms=1, hidden_features=(8,)).transform.inv
        >>> FlowPosterior(NormalHead(MLP(4, [8], 2 * 2)), spline)(torch.rand(5, 4)).rsample().shape
        torch.Size([5, 2])
    """

    def __init__(
        self, encoder: nn.Module, transform: LazyTransform, *, context: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.transform = transform
        self.context = context or nn.Identity()

    def forward(self, *parents: Tensor) -> NormalizingFlow:
        return NormalizingFlow(
            implicit(self.transform(self.context(*parents))), self.encoder(*parents)
        )


class IAF(nn.Module):
    r"""Inverse autoregressive flow: affine steps, each seeing the dimensions before its own and
    the context.

    A `FlowPosterior` of zuko's masked autoregressive steps, inverted: drawing and scoring its own
    draw takes one pass; scoring a foreign z takes several (`FixedPointTransform`), so use it as a
    guide and not as a prior.

    Shapes: `encoder(x)` has event `(features,)`; the steps see `context(x)`, or x itself, a vector
    of length `context`.
    Source: Kingma et al. 2016, arXiv:1606.04934, eq. 10.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> IAF(NormalHead(MLP(4, [8], 2 * 2)), features=2, context=4)(torch.rand(5, 4)).rsample().shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        context: int,
        *,
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
        context_net: nn.Module | None = None,
    ) -> None:
        super().__init__()
        steps = zuko.flows.MAF(
            features, context, transforms=transforms, hidden_features=hidden
        ).transform
        self.flow = FlowPosterior(encoder, steps.inv, context=context_net)

    def forward(self, *parents: Tensor) -> NormalizingFlow:
        return self.flow(*parents)
