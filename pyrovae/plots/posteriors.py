"""Posteriors of single data against the prior: ellipses in two dims, densities in one."""

from collections.abc import Sequence

import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from pyrovae.plots.canvas import TRAIN, Array, tidy, to_array
from pyrovae.plots.grid import columns_for

MASSES = (0.3935, 0.8647)
"""Within 1 and 2 standard deviations of a two-dimensional normal."""
PRIOR = "0.35"


def posterior_ellipses(
    mean: Array,
    covariance: Array,
    y: Array | None = None,
    *,
    prior: Array,
    reach: float,
    title: str | None = None,
) -> Figure:
    """Draw q(z | x) of N data as ellipses of 1 and 2 standard deviations, coloured by label, on
    contours of the prior that hold 39 % and 86 % of it, as those of a normal do.

    Shapes: mean (N, 2), covariance (N, 2, 2), y (N,) or None; prior (G, G), its density at a grid
    over [-reach, reach] in both dims, z_0 along the columns and z_1 along the rows.
    Errors: ValueError for other shapes, and for a prior that is not finite.

    Example:
        >>> import torch
        >>> density = torch.exp(-torch.linspace(-3, 3, 50)[:, None] ** 2) * torch.ones(50)
        >>> figure = posterior_ellipses(torch.zeros(4, 2), torch.eye(2).repeat(4, 1, 1), prior=density, reach=3.0)
        >>> len(figure.axes[0].patches)
        8
    """
    centres, spread, density = to_array(mean), to_array(covariance), to_array(prior)
    count = len(centres)
    if centres.shape != (count, 2) or spread.shape != (count, 2, 2) or not count:
        raise ValueError(
            f"mean and covariance have shapes {centres.shape} and {spread.shape}, expected (N, 2) and (N, 2, 2)."
        )
    if density.ndim != 2 or density.shape[0] != density.shape[1] or not np.isfinite(density).all():
        raise ValueError(f"prior has shape {density.shape}, expected (G, G) finite densities.")
    colours, handles = _colours(y, count)
    figure = Figure(figsize=(5.2 if y is None else 6.0, 5.7), layout="constrained")
    axes = figure.subplots()
    grid = np.linspace(-reach, reach, len(density))
    levels = sorted({_level(density, mass) for mass in MASSES})
    axes.contour(grid, grid, density, levels=levels, colors=PRIOR, linestyles="--", linewidths=1.2)
    for centre, matrix, colour in zip(centres, spread, colours):
        variances, directions = np.linalg.eigh(matrix)
        widths = 2 * np.sqrt(variances.clip(min=0))
        angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
        for size, alpha in ((1, 0.45), (2, 0.18)):
            axes.add_patch(
                Ellipse(
                    tuple(centre),
                    *(size * widths),
                    angle=angle,
                    facecolor=(*to_rgb(colour), alpha),
                    edgecolor=colour,
                    linewidth=0.6,
                )
            )
    tidy(axes, xlabel="latent 0", ylabel="latent 1", title=title or "")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    outline = Line2D([], [], color=PRIOR, linestyle="--", label="prior, 39 % and 86 % of it")
    figure.legend(handles=[outline], loc="outside lower center", frameon=False)
    _legend(figure, handles)
    return figure


def posterior_densities(
    mean: Array,
    scale: Array,
    y: Array | None = None,
    *,
    prior: Array,
    grid: Array,
    dims: Sequence[int],
    title: str | None = None,
) -> Figure:
    """Draw q(z_d | x) of N data as normal densities of the given means and standard deviations,
    coloured by label, against the density of the prior: a panel for each of some dims.

    Shapes: mean and scale (N, D), y (N,) or None, prior (D, G) at the points `grid` (G,), `dims` the
    D numbers of the dims.
    Errors: ValueError for other shapes, and for a scale that is not positive.

    Example:
        >>> import torch
        >>> grid = torch.linspace(-3, 3, 50)
        >>> figure = posterior_densities(
        ...     torch.zeros(4, 2), torch.ones(4, 2), prior=torch.exp(-grid**2).expand(2, 50), grid=grid, dims=(7, 3)
        ... )
        >>> [axes.get_title() for axes in figure.axes]
        ['latent 7', 'latent 3']
    """
    centres, spreads, density, points = (to_array(part) for part in (mean, scale, prior, grid))
    shape = centres.shape
    if len(shape) != 2 or spreads.shape != shape or not shape[0] or len(dims) != shape[1]:
        raise ValueError(
            f"mean and scale have shapes {shape} and {spreads.shape}, expected (N, {len(dims)}), one column a dim."
        )
    if density.shape != (shape[1], len(points)) or not (spreads > 0).all():
        raise ValueError(
            f"prior has shape {density.shape}, expected {(shape[1], len(points))}, and scales are positive."
        )
    colours, handles = _colours(y, shape[0])
    columns = columns_for(len(dims), 3)
    rows = -(-len(dims) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axes in panels.flat[len(dims) :]:
        axes.remove()
    for index, (axes, dim) in enumerate(zip(panels.flat, dims)):
        _normals(axes, points, centres[:, index], spreads[:, index], colours)
        axes.plot(points, density[index], color="black", linestyle="--", linewidth=1.4)
        tidy(axes, title=f"latent {dim}")
        axes.set(xlim=(points[0], points[-1]), yticks=[], ylim=(0, None))
        axes.tick_params(labelbottom=index + columns >= len(dims))
    prior_line = Line2D([], [], color="black", linestyle="--", label="prior")
    figure.legend(handles=[prior_line], loc="outside lower center", frameon=False)
    _legend(figure, handles)
    if title is not None:
        figure.suptitle(title)
    return figure


def _normals(
    axes: Axes, grid: np.ndarray, mean: np.ndarray, scale: np.ndarray, colours: list[str]
) -> None:
    for centre, spread, colour in zip(mean, scale, colours):
        height = np.exp(-0.5 * ((grid - centre) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        axes.fill_between(grid, height, color=colour, alpha=0.12, linewidth=0)
        axes.plot(grid, height, color=colour, linewidth=1.0)


def _colours(y: Array | None, count: int) -> tuple[list[str], list[Line2D]]:
    """A colour for each datum, and the legend of labels."""
    if y is None:
        return [TRAIN] * count, []
    labels = to_array(y)
    if labels.shape != (count,):
        raise ValueError(f"y has shape {labels.shape}, expected ({count},), one label a datum.")
    classes, order = np.unique(labels, return_inverse=True)
    name = "tab10" if len(classes) <= 10 else "tab20"
    palette = [to_hex(colour) for colour in color_sequences[name]]
    handles = [
        Line2D([], [], linestyle="", marker="o", color=palette[i % len(palette)], label=f"{one}")
        for i, one in enumerate(classes[: len(palette)])
    ]
    return [palette[index % len(palette)] for index in order], handles


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    if handles:
        figure.legend(handles=handles, loc="outside right upper", frameon=False, handletextpad=0.1)


def _level(density: np.ndarray, mass: float) -> float:
    """The density above which lies the given part of the mass on the grid."""
    values = np.sort(density.ravel())[::-1]
    total = np.cumsum(values)
    return float(values[min(len(values) - 1, np.searchsorted(total, mass * total[-1]))])
