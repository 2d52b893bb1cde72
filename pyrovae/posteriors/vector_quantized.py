"""The guide of a vector-quantised VAE: a point mass on the nearest code."""

from typing import Protocol, cast

import pyro.distributions as dist
from torch import Tensor, nn


class FindsNearest(Protocol):
    """A codebook, such as `nets.Codebook`."""

    def nearest(self, vectors: Tensor) -> Tensor:
        """The code of the nearest vector of the book."""


class VectorQuantized(nn.Module):
    r"""q(c | x) = 1 for the codes nearest to net(x), M of them.

    The codes are discrete, so the point mass has a probability, 1, and log p(x, c) is a lower bound of
    log p(x) without noise: `pv.log_weights(model, guide, batch, 1)`, or the ELBO. Train the nets
    by `losses.VectorQuantizedLoss`: an argmin has no gradient.

    Shapes: the net returns `(*batch, M, features)`; the distribution has event `(M,)`.
    Source: van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, eq. 1.

    Example:
        >>> import torch
        >>> from pyrovae.nets import MLP, Codebook
        >>> guide = VectorQuantized(MLP(4, [8], (2, 3)), Codebook(8, 3))
        >>> guide(torch.zeros(5, 4))().shape
        torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module, codebook: nn.Module) -> None:
        super().__init__()
        self.net, self.codebook = net, codebook

    def forward(self, *parents: Tensor) -> dist.Delta:
        codes = cast(FindsNearest, self.codebook).nearest(self.net(*parents))
        return dist.Delta(codes, event_dim=1)
