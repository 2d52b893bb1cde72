"""Normal distributions on top of nets: encoders q(z | x) and likelihoods p(x | z) of real data."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.heads.precision import at_least_float32


class NormalHead(nn.Module):
    r"""Diagonal normal whose mean and scale the net predicts: N(loc, (min_scale + exp(s))^2),
    (loc, s) = net(parents).

    As an encoder this is the usual q(z | x). As a likelihood, set `min_scale` to the resolution of
    the data: on constant pixels the density is unbounded and a free scale runs to zero.

    Shapes: the net returns `(*batch, 2 * E1, *rest)`, split along the first event dim into loc and
    s; the distribution has event `(E1, *rest)` of `event_dim` dims.
    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 9 (encoder) and appendix C.2.

    Example:
        >>> from pyrovae.nets import MLP
        >>> NormalHead(MLP(4, [8], 2 * 3))(torch.zeros(5, 4)).event_shape
        torch.Size([3])
    """

    def __init__(self, net: nn.Module, *, event_dim: int = 1, min_scale: float = 0.0) -> None:
        super().__init__()
        self.net = net
        self.event_dim = event_dim
        self.min_scale = min_scale

    def forward(self, *parents: Tensor) -> dist.Independent:
        loc, log_scale = at_least_float32(self.net(*parents)).chunk(2, dim=-self.event_dim)
        return dist.Normal(loc, self.min_scale + log_scale.exp()).to_event(self.event_dim)


class FixedScaleNormalHead(nn.Module):
    r"""N(net(parents), scale^2 I) with a constant scale: the log-density is the squared error in
    nats, constants kept.

    Shapes: the net returns `(*batch, *event)` of `event_dim` event dims. `scale` is in the units
    of the data. Raises ValueError for a scale that is not positive.

    Example:
        >>> from pyrovae.nets import MLP
        >>> FixedScaleNormalHead(MLP(2, [8], 3), scale=0.1)(torch.zeros(5, 2)).event_shape
        torch.Size([3])
    """

    scale: Tensor

    def __init__(self, net: nn.Module, *, scale: float, event_dim: int = 1) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}, but a standard deviation is positive.")
        self.net = net
        self.event_dim = event_dim
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.get_default_dtype()))

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.Normal(at_least_float32(self.net(*parents)), self.scale).to_event(
            self.event_dim
        )


class LearnedScaleNormalHead(nn.Module):
    r"""N(net(parents), scale^2 I) with one scale for all data, learned by maximum likelihood: one for
    all dims, or one for each.

    At the optimum scale^2 is the mean squared error, which balances reconstruction against KL
    without a beta.

    Shapes: the net returns `(*batch, *event)` of `event_dim` event dims. scale_shape: `()`, or a
    shape that broadcasts to the event, such as `(features,)`.
    Source: Rybkin, Daniilidis & Levine 2021, arXiv:2006.13202, section 3.

    Example:
        >>> from pyrovae.nets import MLP
        >>> LearnedScaleNormalHead(MLP(2, [8], 3))(torch.zeros(5, 2)).event_shape
        torch.Size([3])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        initial_scale: float = 1.0,
        event_dim: int = 1,
        scale_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not initial_scale > 0:
            raise ValueError(
                f"initial_scale={initial_scale}, but a standard deviation is positive."
            )
        self.net = net
        self.event_dim = event_dim
        self.log_scale = nn.Parameter(torch.full(scale_shape, float(initial_scale)).log())

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.Normal(at_least_float32(self.net(*parents)), self.log_scale.exp()).to_event(
            self.event_dim
        )
