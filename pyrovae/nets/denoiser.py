"""The net of a diffusion model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyrovae.nets.mlp import MLP


class Denoiser(nn.Module):
    r"""The noise e in z = alpha x + sigma e, estimated from z and \gamma = log(sigma^2 / alpha^2).

    A multilayer perceptron on z and on sines and cosines of \gamma; it adds to sigma z, which is
    right for data of variance 1.

    Shapes: z `(*batch, features)`, gamma `(*batch)` -> `(*batch, features)`.
    Source: Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630, section 4 (the noise as the net's
    output), with an MLP in place of their U-net.

    Example:
        >>> Denoiser(4, [16])(torch.zeros(5, 4), torch.zeros(5)).shape
        torch.Size([5, 4])
    """

    def __init__(self, features: int, hidden: Sequence[int], *, frequencies: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.pi * 2.0 ** torch.arange(frequencies) / 64)
        self.net = MLP(features + 2 * frequencies, hidden, features, nn.SiLU)

    frequency: Tensor

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        gamma = gamma.expand(z.shape[:-1])
        angle = gamma.unsqueeze(-1) * self.frequency
        scale = gamma.sigmoid().sqrt().unsqueeze(-1)
        return scale * z + self.net(torch.cat([z, angle.sin(), angle.cos()], -1))
