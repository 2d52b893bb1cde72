"""Residual cells for images, and the steps between their resolutions, without statistics of the
batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyrovae.nets.batched import Batched


class ResidualCell(nn.Module):
    r"""x + f(x) with f = W_4 a(W_3 a(W_2 a(W_1 a(x)))): a bottleneck of 1x1, 3x3, 3x3 and 1x1
    convolutions, a being SiLU.

    W_4 starts 1/sqrt(depth) times its usual size, so that the variance of a stack of `depth` cells
    does not grow with its depth. No normalisation across the batch: a datum's density must not
    depend on its neighbours.

    Shapes: `(*batch, channels, H, W)` -> the same. `hidden`: channels inside, by default a half.
    kernel: 3, or 1 where H and W are 1.
    Source: He et al. 2016, arXiv:1603.05027, figure 4e; in hierarchical VAEs Child 2021,
    arXiv:2011.10650, section 3.2 and figure 3.

    Example:
        >>> ResidualCell(8, depth=4)(torch.zeros(5, 3, 8, 7, 7)).shape
        torch.Size([5, 3, 8, 7, 7])
    """

    def __init__(
        self, channels: int, *, hidden: int | None = None, depth: int = 1, kernel: int = 3
    ) -> None:
        super().__init__()
        if channels < 1 or depth < 1 or kernel not in (1, 3):
            raise ValueError(
                f"channels={channels}, depth={depth}, kernel={kernel}; expected at least one channel and one cell, "
                "and a kernel of 1 or 3."
            )
        inside = hidden or max(1, channels // 2)
        last = nn.Conv2d(inside, channels, 1)
        for parameter in last.parameters():
            parameter.data *= depth**-0.5
        self.net = Batched(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(channels, inside, 1),
                nn.SiLU(),
                nn.Conv2d(inside, inside, kernel, padding=kernel // 2),
                nn.SiLU(),
                nn.Conv2d(inside, inside, kernel, padding=kernel // 2),
                nn.SiLU(),
                last,
            ),
            event_dim=3,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class Downsampling(nn.Module):
    r"""A 3x3 convolution of stride 2, which halves height and width (rounded up).

    Shapes: `(*batch, in_channels, H, W)` -> `(*batch, out_channels, ceil(H / 2), ceil(W / 2))`.

    Example:
        >>> Downsampling(1, 8)(torch.zeros(5, 3, 1, 7, 28)).shape
        torch.Size([5, 3, 8, 4, 14])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = Batched(nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Upsampling(nn.Module):
    r"""A 1x1 convolution, the nearest pixels at `size`, and a learned number for each place.

    Shapes: `(*batch, in_channels, h, w)` -> `(*batch, out_channels, *size)`, for any two sizes.
    Source: Child 2021, arXiv:2011.10650, section 3.2 (nearest neighbours in place of transposed
    convolutions).

    Example:
        >>> Upsampling(8, 4, (7, 7))(torch.zeros(5, 3, 8, 4, 4)).shape
        torch.Size([5, 3, 4, 7, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, size: Sequence[int]) -> None:
        super().__init__()
        height, width = size
        self.size = (height, width)
        self.net = Batched(nn.Conv2d(in_channels, out_channels, 1), 3)
        self.place = Place(out_channels, size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        grown = functional.interpolate(x.reshape(-1, *x.shape[-3:]), self.size)
        return self.place(grown.reshape(*x.shape[:-2], *self.size))


class Place(nn.Module):
    r"""Add one learned number for each channel and place, zeros at first.

    Convolutions do not know where they are; latents of mean 0 everywhere do not tell them either.

    Shapes: `(*batch, channels, *size)` -> the same.
    """

    def __init__(self, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(channels, *size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value
