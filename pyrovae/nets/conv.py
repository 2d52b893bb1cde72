"""Convolutional encoder and decoder nets for images of any size."""

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from pyrovae.nets.batched import Batched


def _halved(size: int) -> int:
    return (size + 1) // 2


class ConvEncoder(nn.Module):
    r"""Stride-2 3x3 convolutions, each halving height and width (rounded up), then one linear map
    to a vector.

    Shapes: `(*batch, C, H, W)` -> `(*batch, out_features)`, for any C, H, W. No normalisation
    across the batch: a datum's density must not depend on its neighbours.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 7, 9), [8, 16], 4)(torch.zeros(5, 3, 1, 7, 9)).shape
        torch.Size([5, 3, 4])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        channels: Sequence[int],
        out_features: int,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        c, h, w = in_shape
        layers: list[nn.Module] = []
        for width in channels:
            layers += [nn.Conv2d(c, width, 3, stride=2, padding=1), activation()]
            c, h, w = width, _halved(h), _halved(w)
        self.net = Batched(
            nn.Sequential(*layers, nn.Flatten(), nn.Linear(c * h * w, out_features)), event_dim=3
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ConvDecoder(nn.Module):
    r"""The mirror of `ConvEncoder`: a linear map, then transposed convolutions up to exactly
    `out_shape`.

    Shapes: `(*batch, in_features)` -> `(*batch, C, H, W)`, for any C, H, W. `channels` reads from
    the latent side to the image side, one entry a doubling.

    Example:
        >>> import torch
        >>> ConvDecoder(4, [16, 8], (1, 7, 9))(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 3, 1, 7, 9])
    """

    def __init__(
        self,
        in_features: int,
        channels: Sequence[int],
        out_shape: Sequence[int],
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        out_channels, *size = out_shape
        sizes = [tuple(size)]
        for _ in channels:
            sizes.append((_halved(sizes[-1][0]), _halved(sizes[-1][1])))
        sizes.reverse()
        first = (channels[0], *sizes[0])
        layers: list[nn.Module] = [
            nn.Linear(in_features, first[0] * first[1] * first[2]),
            nn.Unflatten(-1, first),
        ]
        for i, width in enumerate(channels):
            last = i + 1 == len(channels)
            (h, w), (up_h, up_w) = sizes[i], sizes[i + 1]
            grow = (up_h - (2 * h - 1), up_w - (2 * w - 1))
            layers += [
                activation(),
                nn.ConvTranspose2d(
                    width,
                    out_channels if last else channels[i + 1],
                    3,
                    stride=2,
                    padding=1,
                    output_padding=grow,
                ),
            ]
        self.net = Batched(nn.Sequential(*layers), event_dim=1)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
