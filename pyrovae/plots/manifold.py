"""The decoded plane: what the decoder makes of a grid of prior quantiles."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyrovae.plots.canvas import Array, figure_for, mosaic, to_images


def prior_grid(
    n: int, num_latents: int, dims: Sequence[int] = (0, 1), low: float = 0.05, high: float = 0.95
) -> Tensor:
    r"""Return the latents of an n by n grid of standard-normal quantiles on two dimensions, zero
    elsewhere.

    The coordinates are Phi^{-1}(p) for n evenly spaced p in [low, high], so every tile stands for
    the same prior mass. Row-major, the way the picture is read: the first latent is the top left
    corner, dims[0] grows to the right, dims[1] falls downwards.

    Shapes: (n * n, num_latents), the default dtype, on the CPU.
    Errors: ValueError for n < 2, dims that are equal or outside 0..num_latents - 1, and unless
        0 < low < high < 1.

    Example:
        >>> prior_grid(3, 4, dims=(0, 2)).shape
        torch.Size([9, 4])
    """
    _check_grid(n, dims, low, high)
    if not all(0 <= dim < num_latents for dim in dims):
        raise ValueError(
            f"dims is {tuple(dims)}, expected two of the latents 0..{num_latents - 1}."
        )
    quantiles = torch.special.ndtri(torch.linspace(low, high, n, dtype=torch.float64))
    quantiles = quantiles.to(torch.get_default_dtype())
    grid = quantiles.new_zeros(n, n, num_latents)
    grid[..., dims[0]] = quantiles
    grid[..., dims[1]] = quantiles.flip(0)[:, None]
    return grid.reshape(n * n, num_latents)


def manifold(
    images: Array,
    n: int,
    *,
    dims: Sequence[int] = (0, 1),
    low: float = 0.05,
    high: float = 0.95,
    title: str | None = None,
) -> Figure:
    """Draw the images decoded from `prior_grid(n, ...)` as one mosaic with ticks at quantiles.

    From 16 pixels a tile the mosaic is seamless.
    `dims`, `low` and `high` only label the axes: pass what `prior_grid` was given.

    Shapes: images (n * n, C, H, W) or (n * n, H, W), in the order of `prior_grid`. Values in [0,
    1], clipped.
    Errors: ValueError when there are not n * n images, and as in `image_grid` and `prior_grid`.
    Source: Kingma & Welling 2014, arXiv:1312.6114, figure 4 (there the quantiles run over the unit
    square).

    Example:
        >>> z = prior_grid(5, num_latents=2)
        >>> decoded = torch.sigmoid(z @ torch.randn(2, 64)).reshape(-1, 1, 8, 8)
        >>> manifold(decoded, 5).axes[0].get_xlabel()
        'latent 0, quantile of N(0, 1)'
    """
    _check_grid(n, dims, low, high)
    pixels = to_images(images)
    if len(pixels) != n * n:
        raise ValueError(
            f"images holds {len(pixels)} images, expected n * n = {n * n}. Decode prior_grid({n}, num_latents)."
        )
    _, height, width, _ = pixels.shape
    gap = (
        1 if max(height, width) < 16 else 0
    )  # tiny images need a line between them to be told apart
    whole = mosaic(pixels, n, gap=gap)
    figure, axes = figure_for(whole, max(height, width), max(0.3, 6.0 / n), (0.8, 0.6), title)
    axes.set_anchor("W")
    tiles = np.unique(np.linspace(0, n - 1, min(n, 5)).round().astype(int))
    labels = [f"{low + (high - low) * tile / (n - 1):.3g}" for tile in tiles]
    axes.set_xticks((tiles + 0.5) * width + tiles * gap - 0.5, labels)
    axes.set_yticks((n - tiles - 0.5) * height + (n - 1 - tiles) * gap - 0.5, labels)
    axes.set_xlabel(f"latent {dims[0]}, quantile of N(0, 1)")
    axes.set_ylabel(f"latent {dims[1]}, quantile of N(0, 1)")
    return figure


def _check_grid(n: int, dims: Sequence[int], low: float, high: float) -> None:
    if n < 2:
        raise ValueError(f"n is {n}, expected 2 or more tiles a side.")
    if len(dims) != 2 or dims[0] == dims[1]:
        raise ValueError(
            f"dims is {tuple(dims)}, expected two different latent dimensions, such as (0, 1)."
        )
    if not 0 < low < high < 1:
        raise ValueError(
            f"low is {low} and high {high}, expected probabilities 0 < low < high < 1."
        )
