"""Residual classifiers of images, without statistics of the batch."""

import math
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from pyrovae.nets.batched import Batched

GROUPS = 8


class ResidualBlock(nn.Module):
    r"""a(g(x) + n(W_2 a(n(W_1 x)))) with 3x3 convolutions W, group norms n, and g the identity, or a
    1x1 convolution where the shape changes.

    Shapes: `(N, in_channels, H, W)` -> `(N, out_channels, ceil(H / stride), ceil(W / stride))`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            norm(out_channels),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            norm(out_channels),
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        )
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.net(x))


class ResNet(nn.Module):
    r"""A convolution, three stages of residual blocks of 16, 32 and 64 channels times `width`, each
    but the first halving height and width, the mean over places, and a linear map: 6 `blocks` + 2
    layers.

    Group norms stand in for batch norms, which tie a datum to its neighbours. They have no
    parameters, so that every weight is one of a linear or convolutional layer, for which all
    methods for Bayesian nets have a rule.

    Shapes: `(*batch, C, H, W)` -> `(*batch, out_features)`. blocks: of a stage; 1 is ResNet-8, 3
    ResNet-20.
    Source: He, Zhang, Ren & Sun 2016, arXiv:1512.03385, section 4.2; group norm: Wu & He 2018,
    arXiv:1803.08494.

    Example:
        >>> import torch
        >>> ResNet((3, 32, 32), 10)(torch.zeros(2, 3, 3, 32, 32)).shape
        torch.Size([2, 3, 10])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_features: int,
        *,
        blocks: int = 1,
        width: float = 1.0,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if blocks < 1 or width <= 0:
            raise ValueError(
                f"blocks={blocks}, width={width}; expected at least one block a stage, and a positive width."
            )
        self.in_shape = tuple(in_shape)
        channels = [max(1, round(base * width)) for base in (16, 32, 64)]
        places = [
            math.prod(math.ceil(size / 2**stage) for size in in_shape[1:]) for stage in range(3)
        ]
        if any(norm(size).num_groups == size * count for size, count in zip(channels, places)):
            raise ValueError(
                f"in_shape={tuple(in_shape)}, width={width}: groups of a norm hold one number each, which it sets to "
                "0. Use images above 4x4 pixels, or a larger width."
            )
        layers: list[nn.Module] = [
            nn.Conv2d(in_shape[0], channels[0], 3, padding=1),
            norm(channels[0]),
            activation(),
        ]
        before = channels[0]
        for stage, size in enumerate(channels):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(ResidualBlock(before, size, stride, activation))
                before = size
        layers += [Mean(), nn.Linear(before, out_features)]
        self.net = Batched(nn.Sequential(*layers), event_dim=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Mean(nn.Module):
    """The mean over places, `(N, C, H, W)` -> `(N, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def norm(channels: int) -> nn.GroupNorm:
    """A norm of each datum over groups of channels and all places, without parameters."""
    groups = next(count for count in range(GROUPS, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, affine=False)
