"""The point mass: deterministic encoders."""

import pyro.distributions as dist
from torch import Tensor

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32


class DeltaHead(Head):
    r"""All mass at net(parents): log q(z) = 0 there and -inf elsewhere, draws with the net's own
    gradient.

    As a guide it makes an autoencoder: with a flat prior the loss is the reconstruction alone,
    with `priors.StandardNormal` the code is a maximum a posteriori estimate. The "ELBO" is then
    log p(x, z) at one z and no bound on log p(x); `log_evidence` refuses such a guide.

    Shapes: the net returns `(*batch, *event)` of `event_dim` event dims.

    Example:
        >>> import torch
        >>> from pyrovae.nets import MLP
        >>> DeltaHead(MLP(4, [8], 2))(torch.zeros(5, 4)).rsample().shape
        torch.Size([5, 2])
    """

    def forward(self, *parents: Tensor) -> dist.Delta:
        return dist.Delta(at_least_float32(self.net(*parents)), event_dim=self.event_dim)
