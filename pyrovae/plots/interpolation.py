"""Paths between two latents, and the pictures along them."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pyrovae.plots.canvas import VALID, Array, figure_for, gap_of, mosaic, to_images


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    r"""Return the straight path (1 - t) start + t end, t = 0, ..., 1.

    The straight line is what a low-dimensional latent space wants (D up to about ten): it needs no
    origin and is right for any prior. In many dimensions it leaves the region the decoder was
    trained on: two draws of N(0, I) have norm near sqrt(D), their midpoint sqrt(D / 2). There use
    `interpolate_spherical`.

    Shapes: start (D,), end (D,) -> (steps, D); both ends included.
    Errors: ValueError for unequal or non-vector shapes, and for fewer than 2 steps.

    Example:
        >>> interpolate(torch.zeros(2), torch.tensor([1.0, 2.0]), 3).tolist()
        [[0.0, 0.0], [0.5, 1.0], [1.0, 2.0]]
    """
    t = _times(start, end, steps)
    return (1 - t) * start + t * end


def interpolate_spherical(start: Tensor, end: Tensor, steps: int) -> Tensor:
    r"""Return the path along the great circle, [sin((1 - t) a) start + sin(t a) end] / sin a.

    a is the angle between the two latents. Under a N(0, I) prior in many dimensions every point of
    the path keeps the norm near sqrt(D) of a typical draw. It is meant for that prior only.
    (Parallel latents have a = 0; the formula's limit is the straight path.)

    Shapes: start (D,), end (D,) -> (steps, D); both ends included.
    Errors: ValueError as in `interpolate`, for a zero vector, and for opposite directions, between
        which no great circle is the shortest.
    Source: Shoemake 1985 (SIGGRAPH, "Animating rotation with quaternion curves"), the slerp
        formula; White 2016, arXiv:1609.04468, for its use on latents.

    Example:
        >>> path = interpolate_spherical(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), 3)
        >>> bool(torch.allclose(path.norm(dim=-1), torch.tensor(2.0)))
        True
    """
    t = _times(start, end, steps)
    norms = torch.stack([start.norm(), end.norm()])
    if (norms == 0).any():
        raise ValueError(
            "a latent is the zero vector, which has no direction. Use interpolate instead."
        )
    u, v = start / norms[0], end / norms[1]
    angle = 2 * torch.atan2(
        (u - v).norm(), (u + v).norm()
    )  # exact for small angles, where acos is not
    if angle < 1e-4:
        return interpolate(start, end, steps)
    if torch.pi - angle < 1e-4:
        raise ValueError(
            "the latents point in opposite directions, so no great circle between them is the shortest. "
            "Use interpolate, or pass a third latent in between."
        )
    return (((1 - t) * angle).sin() * start + (t * angle).sin() * end) / angle.sin()


def interpolation(
    images: Array, *, labels: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """Draw one path a row, its two ends framed; `labels` stand at the rows.

    Shapes: images (rows, steps, C, H, W) or (rows, steps, H, W), C = 1 or 3; labels (rows,).
    Values in [0, 1], clipped.
    Errors: ValueError for other shapes, for fewer than 2 steps, and for another number of labels
    than rows.

    Example:
        >>> interpolation(torch.rand(3, 7, 1, 8, 8)).axes[0].images[0].get_array().shape
        (26, 62)
    """
    pixels = to_images(images, lead=2)
    rows, steps, height, width, _ = pixels.shape
    if steps < 2:
        raise ValueError(
            f"images has shape {tuple(images.shape)}: {steps} step, expected 2 or more."
        )
    if labels is not None and len(labels) != rows:
        raise ValueError(f"there are {len(labels)} labels for {rows} rows, expected one for each.")
    gap = gap_of(pixels)
    whole = mosaic(pixels.reshape(-1, *pixels.shape[2:]), steps, gap)
    room = 0.1 + 0.09 * max(map(len, labels or [""]))
    figure, axes = figure_for(whole, max(height, width), 0.75, (room, 0.3), title)
    last = (steps - 1) * (width + gap)
    for row in range(rows):
        for left in (0, last):
            corner = (left - 0.5, row * (height + gap) - 0.5)
            frame = Rectangle(
                corner, width, height, fill=False, edgecolor=VALID, linewidth=2, clip_on=False
            )
            axes.add_patch(frame)
    middle = (width - 1) / 2
    axes.set_xticks([middle, last + middle], ["start", "end"])
    if labels is not None:
        axes.set_yticks([row * (height + gap) + (height - 1) / 2 for row in range(rows)], labels)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=0, labeltop=True, labelbottom=False, labelcolor=VALID)
    return figure


def _times(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Check the two ends and return t = 0, ..., 1 as a column."""
    if start.dim() != 1 or start.shape != end.shape:
        raise ValueError(
            f"the ends have shapes {tuple(start.shape)} and {tuple(end.shape)}, expected (D,) twice. "
            "Pass one latent each, for example z[0] and z[1]."
        )
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected 2 or more: both ends are part of the path.")
    return torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
