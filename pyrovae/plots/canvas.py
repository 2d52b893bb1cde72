"""What every picture shares: arrays out of tensors, images out of arrays, a bare figure, one
palette."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

Array = torch.Tensor | np.ndarray

TRAIN, VALID, MUTED = "#2f6690", "#d1701f", "#9aa3ab"


def to_array(values: Array) -> np.ndarray:
    """Return `values` as a NumPy array on the host; bfloat16, which NumPy lacks, becomes float32.

    Example:
        >>> to_array(torch.ones(2, dtype=torch.bfloat16)).dtype
        dtype('float32')
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        return values.numpy()
    return np.asarray(values)


def to_images(images: Array, name: str = "images", lead: int = 1) -> np.ndarray:
    """Return images as (*lead, H, W, 3) or (*lead, H, W, 1) floats clipped to [0, 1].

    Shapes: (*lead, C, H, W) with C = 1 (grey) or 3 (RGB), or (*lead, H, W); `lead` is the number
    of leading dimensions.
    Errors: ValueError for vectors, for another number of channels, for no image at all, and for
        integers above 1 (0..255 would clip to plain white).

    Example:
        >>> to_images(torch.rand(5, 1, 8, 8)).shape
        (5, 8, 8, 1)
    """
    array = to_array(images)
    expected = "(" + ("n" if lead == 1 else "rows, steps") + ", C, H, W)"
    if array.ndim == lead + 2:
        array = np.expand_dims(array, -3)
    if array.ndim != lead + 3 or array.shape[-3] not in (1, 3):
        raise ValueError(
            f"{name} has shape {tuple(np.shape(images))}, expected {expected} with C = 1 or 3, or the same "
            f"without C. Reshape vectors first, for example {name}.reshape(-1, 1, 28, 28)."
        )
    if array.size == 0:
        raise ValueError(
            f"{name} has shape {tuple(np.shape(images))}, expected at least one pixel."
        )
    if array.dtype.kind in "iu" and array.max() > 1:
        raise ValueError(
            f"{name} holds integers up to {array.max()}, expected values in [0, 1]. Divide by 255 first."
        )
    return np.clip(np.moveaxis(array.astype(float), -3, -1), 0, 1)


def mosaic(images: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Lay (n, H, W, c) images out row by row, `gap` white pixels apart: (rows (H + gap) - gap,
    ..., c).

    Example:
        >>> mosaic(np.zeros((3, 8, 8, 1)), columns=2, gap=1).shape
        (17, 17, 1)
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    canvas = np.ones((rows, height + gap, columns, width + gap, channels))
    for index, image in enumerate(images):
        canvas[index // columns, :height, index % columns, :width] = image
    canvas = canvas.reshape(rows * (height + gap), columns * (width + gap), channels)
    return canvas[: canvas.shape[0] - gap, : canvas.shape[1] - gap]


def gap_of(images: np.ndarray) -> int:
    """Return the width of the white line between (..., H, W, c) images, in pixels: a tenth of the
    image.

    Example:
        >>> gap_of(np.zeros((3, 28, 28, 1)))
        3
    """
    return max(1, round(max(images.shape[-3:-1]) / 10))


def show(axes: Axes, pixels: np.ndarray) -> None:
    """Draw (H, W, c) pixels in [0, 1] as they are: square, unsmoothed, grey with 0 = black, no
    frame.

    Example:
        >>> show(Figure().subplots(), np.zeros((8, 8, 1)))
    """
    grey = pixels.shape[-1] == 1
    axes.imshow(
        pixels[..., 0] if grey else pixels,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def tidy(axes: Axes, **labels: str | tuple[float, float]) -> None:
    """Set the labels of a graph and leave only what carries information: two spines, a faint grid.

    Example:
        >>> tidy(Figure().subplots(), title="KL", xlabel="epoch")
    """
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def figure_for(
    pixels: np.ndarray, tile: int, inches: float, extra: tuple[float, float], title: str | None
) -> tuple[Figure, Axes]:
    """Return a figure that fits (H, W, c) pixels tightly, and its axes with the pixels in them.

    `tile` is the larger side of one image in pixels and `inches` what it should measure; the whole
    picture stays within 10 inches. `extra` is the room for labels: (width, height) in inches; the
    title's comes on top.

    Example:
        >>> figure, axes = figure_for(np.zeros((80, 80, 1)), 8, 0.5, (0.0, 0.0), None)
        >>> figure.get_size_inches().tolist()
        [5.0, 5.0]
    """
    height, width = pixels.shape[:2]
    scale = min(inches / tile, 10 / max(height, width))
    room = 0.3 if title else 0.0
    size = (
        max(width * scale + extra[0], 0.1 * len(title or "")),
        height * scale + extra[1] + room,
    )
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    axes = figure.subplots()
    show(axes, pixels)
    if title:
        axes.set_title(title)
    return figure, axes
