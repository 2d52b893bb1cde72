"""Grids of images: any images, draws from the model, inputs above their reconstructions."""

import math

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import Array, figure_for, gap_of, mosaic, to_images


def image_grid(images: Array, *, columns: int | None = None, title: str | None = None) -> Figure:
    """Draw images in a tight grid, row by row.

    Shapes: images (n, C, H, W) or (n, H, W), C = 1 (grey, 0 = black) or 3 (RGB). Values in [0, 1];
        what lies outside is clipped. `columns` defaults to the near-square ceil(sqrt(n)).
    Errors: ValueError for vectors, other channel counts, 0..255 integers, and columns < 1.

    Example:
        >>> import torch
        >>> figure = image_grid(torch.rand(12, 1, 8, 8), columns=4, title="noise")
        >>> figure.axes[0].images[0].get_array().shape
        (26, 35)
    """
    pixels = to_images(images)
    if columns is None:
        columns = math.ceil(math.sqrt(len(pixels)))
    if columns < 1:
        raise ValueError(
            f"columns is {columns}, expected 1 or more, or None for a near-square grid."
        )
    whole = mosaic(pixels, min(columns, len(pixels)), gap_of(pixels))
    return figure_for(whole, max(pixels.shape[1:3]), 0.6, (0.1, 0.1), title)[0]


def samples(
    images: Array, *, columns: int | None = None, title: str | None = "Samples from the prior"
) -> Figure:
    """Draw images decoded from prior draws, z ~ p(z), x ~ p(x | z) (or its mean: say so in
    `title`).

    Shapes, values and errors: as in `image_grid`.

    Example:
        >>> import torch
        >>> samples(torch.rand(16, 1, 8, 8)).axes[0].get_title()
        'Samples from the prior'
    """
    return image_grid(images, columns=columns, title=title)


def reconstructions(inputs: Array, outputs: Array, *, title: str | None = None) -> Figure:
    """Draw each input above its reconstruction, in up to ten columns and as many pairs of rows as
    needed.

    Shapes: inputs and outputs (n, C, H, W) or (n, H, W), equal. Values in [0, 1], clipped.
    Errors: ValueError when the two shapes differ, and as in `image_grid`.

    Example:
        >>> import torch
        >>> x = torch.rand(4, 1, 8, 8)
        >>> [label.get_text() for label in reconstructions(x, x).axes[0].get_yticklabels()]
        ['input', 'reconstruction']
    """
    above, below = to_images(inputs, "inputs"), to_images(outputs, "outputs")
    if above.shape != below.shape:
        raise ValueError(
            f"inputs has shape {tuple(inputs.shape)} and outputs {tuple(outputs.shape)}, expected equal "
            "shapes (n, C, H, W). Pass the reconstruction of each input, in the same order."
        )
    count, height, width, channels = above.shape
    columns, gap = min(count, 10), gap_of(above)
    bands: list[np.ndarray] = []
    ticks: list[float] = []
    for start in range(0, count, columns):
        top = sum(len(band) for band in bands)
        part = slice(start, start + columns)
        pair = [mosaic(_row(images[part], columns), columns, gap) for images in (above, below)]
        seam = np.ones((1, pair[0].shape[1], channels))
        bands += [pair[0], seam, pair[1], np.repeat(seam, 3 * gap, axis=0)]
        ticks += [top + (height - 1) / 2, top + height + 1 + (height - 1) / 2]
    whole = np.concatenate(bands[:-1])
    figure, axes = figure_for(whole, max(height, width), 0.75, (1.2, 0.1), title)
    axes.set_anchor(
        "W"
    )  # the layout measures the labels from the left edge, so the slack goes right
    axes.set_yticks(ticks, ["input", "reconstruction"] * (len(ticks) // 2))
    axes.tick_params(length=0)
    return figure


def _row(images: np.ndarray, columns: int) -> np.ndarray:
    """Fill a short last row up with white images."""
    return np.concatenate([images, np.ones((columns - len(images), *images.shape[1:]))])
