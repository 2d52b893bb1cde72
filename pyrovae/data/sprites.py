"""Binary images of one shape each, whose factors of variation are known: drawn here, not downloaded."""

import itertools
import math

import torch
from torch import Tensor

from pyrovae.data.batches import DictDataset
from pyrovae.data.errors import DataError, whole_number
from pyrovae.data.holdout import hold_out, split_valid
from pyrovae.data.splits import Splits

FACTORS = ("shape", "scale", "x", "y", "rotation")
"""The columns of `factors`; the last one only where there is more than one rotation."""
SHAPES = ("square", "ellipse", "triangle")
SCALES = 3
_OVERSAMPLING = 4


def load_sprites(*, size: int = 16, rotations: int = 1, valid_size: int | None = None) -> Splits:
    """A square, an ellipse or a triangle at 3 scales and size/2 x size/2 positions, each image once; a
    random fifth, always the same, is the test set.

    rotations: angles, evenly spaced over a quarter turn (a half-turned ellipse and a quarter-turned
    square would be images with two sets of factors).

    Shapes: x (N, 1, size, size) of 0 and 1; factors (N, 4), or (N, 5) with rotations, int64, each
    from 0, in the order of `FACTORS`; y (N,), the shape. N = 9 (size / 2)^2 rotations: 576 at
    size 16, 2,304 at size 32.

    Raises:
        DataError: a size that is odd or below 16, and more rotations than its pixels tell apart.

    Source: after dSprites (Matthey et al. 2017, github.com/deepmind/dsprites-dataset), smaller and
    with a triangle for the heart.

    Example:
        >>> from pyrovae.data import load_sprites
        >>> sprites = load_sprites()
        >>> len(sprites.train), len(sprites.test), sprites.train.tensors["factors"].shape
        (415, 115, torch.Size([415, 4]))
    """
    size = whole_number(size, "size", at_least=16)
    if size % 2:
        raise DataError(f"size is {size}, expected an even number of at least 16.")
    rotations = whole_number(rotations, "rotations", at_least=1)
    counts = (len(SHAPES), SCALES, size // 2, size // 2, rotations)
    factors = torch.tensor(list(itertools.product(*map(range, counts))))
    x = _draw(factors, size, rotations)
    if len(x.flatten(1).unique(dim=0)) < len(x):
        raise DataError(
            f"rotations is {rotations}, so close at {size} x {size} pixels that some images are equal. Take fewer, "
            "or a larger size."
        )
    kept = factors if rotations > 1 else factors[:, :-1]
    data = DictDataset(x=x, factors=kept, y=factors[:, 0])
    rest, test = hold_out(data, len(x) // 5, seed=1)
    train, valid = split_valid(rest, valid_size)
    return Splits(
        "sprites", train, valid, test, levels=2, source="drawn by pyrovae.data.load_sprites"
    )


def _draw(factors: Tensor, size: int, rotations: int) -> Tensor:
    """Pixels of which the shape covers more than half, `(N, 1, size, size)`."""
    kinds, which = factors[:, [0, 1, 4]].unique(dim=0, return_inverse=True)
    corner = torch.stack(
        [_at_the_corner(*map(int, kind), size=size, rotations=rotations) for kind in kinds]
    )
    row = torch.arange(size)[:, None] - factors[:, 3, None, None]
    column = torch.arange(size) - factors[:, 2, None, None]
    return corner[which[:, None, None], row % size, column % size].float()[:, None]


def _at_the_corner(shape: int, scale: int, turn: int, *, size: int, rotations: int) -> Tensor:
    """The upper left of all positions: the edge cuts no shape, so the others are shifts."""
    points = (torch.arange(size * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - (size / 4 + 0.5)
    points = points / (size / 16 * (2.0 + 1.1 * scale))
    dy, dx = torch.meshgrid(points, points, indexing="ij")
    angle = turn * math.pi / 2 / rotations
    a = math.cos(angle) * dx + math.sin(angle) * dy
    b = math.cos(angle) * dy - math.sin(angle) * dx
    inside = (_square, _ellipse, _triangle)[shape](a, b).float()
    cells = inside.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING)
    return cells.mean((1, 3)) > 0.5


def _square(a: Tensor, b: Tensor) -> Tensor:
    return (a.abs() < 0.8) & (b.abs() < 0.8)


def _ellipse(a: Tensor, b: Tensor) -> Tensor:
    return a**2 + (b / 0.6) ** 2 < 1


def _triangle(a: Tensor, b: Tensor) -> Tensor:
    return (b < 0.7) & (b > 2 * a.abs() - 1)
