"""Images that a classifier was not trained on: turned, moved, blurred and noisy, in five strengths."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

STRENGTHS = (1, 2, 3, 4, 5)
Shift = Callable[[Tensor, int], Tensor]
"""From images `(N, C, H, W)` in [0, 1] and a strength from 1 to 5 to images."""


def rotated(x: Tensor, strength: int) -> Tensor:
    """By 15 degrees times the strength, about the centre; what comes in is 0."""
    turn = math.radians(15 * strength)
    return _affine(
        x, [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]
    )


def translated(x: Tensor, strength: int) -> Tensor:
    """To the right and down by 1/14 of the image times the strength, each."""
    part = 2 * strength / 14  # of half the image, the unit of the grid
    return _affine(x, [[1.0, 0.0, -part], [0.0, 1.0, -part]])


def blurred(x: Tensor, strength: int) -> Tensor:
    """By a normal of standard deviation 1/56 of the image's width times the strength."""
    sigma = x.shape[-1] * strength / 56
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1).to(x)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        weight = kernel.reshape(shape).expand(channels, -1, -1, -1)
        padding = tuple(size // 2 for size in weight.shape[-2:])
        x = F.conv2d(x, weight, padding=padding, groups=channels)
    return x


def noisy(x: Tensor, strength: int) -> Tensor:
    """With normal noise of standard deviation 0.1 times the strength, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(strength)
    noise = torch.randn(x.shape, generator=generator).to(x)
    return (x + 0.1 * strength * noise).clamp(0, 1)


SHIFTS: dict[str, Shift] = {
    "rotation": rotated,
    "translation": translated,
    "blur": blurred,
    "noise": noisy,
}


def _affine(x: Tensor, matrix: list[list[float]]) -> Tensor:
    grid = F.affine_grid(x.new_tensor(matrix).expand(len(x), 2, 3), list(x.shape), False)
    return F.grid_sample(x, grid, align_corners=False)
