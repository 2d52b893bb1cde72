"""A variational family on the density that it is to meet."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pyrovae.plots.canvas import TRAIN, VALID, Array, to_array

SHARES = (0.2, 0.5, 0.8, 0.95)
"""Of the mass that each contour encloses."""


class Fitted(NamedTuple):
    """One panel of `variational_panels`.

    Shapes: target and family (G, G), densities on a grid over [-reach, reach] in both dims, z_0 along
    the columns and z_1 along the rows; path (T, 2) of a point, or None.
    """

    title: str
    target: Array
    family: Array
    path: Array | None = None


def variational_panels(
    rows: Sequence[Sequence[Fitted]],
    *,
    reach: float,
    title: str | None = None,
    labels: tuple[str, str] = ("latent 0", "latent 1"),
) -> Figure:
    """Draw the target filled, the family as lines about 20, 50, 80 and 95 % of its mass, and the path
    of its mean from a dot to a cross.

    Errors: ValueError for no panel, for rows of different lengths, and for densities that are not
    finite squares.

    Example:
        >>> import torch
        >>> line = torch.linspace(-3, 3, 41)
        >>> density = torch.exp(-(line[:, None] ** 2 + line**2) / 2)
        >>> figure = variational_panels([[Fitted("exact", density, density)]], reach=3.0)
        >>> figure.axes[0].get_title()
        'exact'
    """
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"rows of {[len(row) for row in rows]} panels, expected at least one, and rows of one length."
        )
    size = (2.6 * len(rows[0]) + 0.4, 2.75 * len(rows) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    for row, axes_of_row in zip(rows, grid):
        for panel, axes in zip(row, axes_of_row):
            draw_fitted(axes, panel, reach)
        axes_of_row[0].set_ylabel(labels[1])
    for axes in grid[-1]:
        axes.set_xlabel(labels[0])
    handles: list[Patch | Line2D] = [
        Patch(color=TRAIN, alpha=0.5, label="target p"),
        Line2D([], [], color=VALID, label="family q"),
    ]
    if any(panel.path is not None for row in rows for panel in row):
        handles.append(
            Line2D([], [], color="0.2", lw=1, marker=".", label="mean of q in training")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure


def draw_fitted(axes: Axes, panel: Fitted, reach: float) -> None:
    target, family = (_square(panel.title, values) for values in (panel.target, panel.family))
    line = np.linspace(-reach, reach, len(target))
    levels = [*levels_of(target, SHARES), target.max() * 1.01]
    axes.contourf(line, line, target, levels=levels, cmap="Blues", vmin=-0.3 * target.max())
    axes.contour(
        line, line, family, levels=levels_of(family, SHARES), colors=VALID, linewidths=1.2
    )
    if panel.path is not None:
        path = to_array(panel.path)
        axes.plot(*path.T, color="0.2", linewidth=0.9)
        axes.plot(*path[0], ".", color="0.2")
        axes.plot(*path[-1], "x", color="0.2", markersize=5)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(panel.title, fontsize=9)


def levels_of(density: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Densities above which lie `shares` of the mass on the grid, ascending and distinct.

    Example:
        >>> levels_of(np.array([[4.0, 3.0], [2.0, 1.0]]), [0.3, 0.6])
        [3.0, 4.0]
    """
    values = np.sort(density.ravel())[::-1]
    mass = np.cumsum(values) / values.sum()
    ranks = np.searchsorted(mass, list(shares)).clip(max=len(values) - 1)
    return sorted({float(value) for value in values[ranks]})


def _square(title: str, values: Array) -> np.ndarray:
    array = to_array(values)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not np.isfinite(array).all():
        raise ValueError(
            f"panel {title!r} has a density of shape {array.shape}, expected (G, G) finite numbers."
        )
    return array
