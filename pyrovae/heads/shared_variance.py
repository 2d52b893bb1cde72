"""Normal likelihood whose noise is a value of the program."""

import pyro.distributions as dist
from torch import Tensor

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32


class SharedVarianceHead(Head):
    r"""N(net(parents), v I) with the variance v of the noise the last parent: a `Global` site with
    a prior.

    Shapes: v `(K, 1)` or `()`, the net returns `(*batch, *event)` of `event_dim` event dims.

    Example:
        >>> import torch
        >>> from pyrovae.nets import MLP
        >>> SharedVarianceHead(MLP(2, [8], 3))(torch.zeros(5, 2), torch.tensor(0.1)).event_shape
        torch.Size([3])
    """

    def forward(self, *parents: Tensor) -> dist.Independent:
        scale = parents[-1].sqrt()
        loc = at_least_float32(self.net(*parents[:-1]))
        return dist.Normal(loc, scale.reshape(scale.shape + (1,) * self.event_dim)).to_event(
            self.event_dim
        )
