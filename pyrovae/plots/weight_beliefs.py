"""Prior, likelihood and posterior of the two weights of a line, and the lines they stand for."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrovae.plots.canvas import MUTED, TRAIN, Array, to_array
from pyrovae.plots.variational import SHARES, levels_of

COLOURS = ("#d1701f", "#5b8c3a", "#8a4f9e")


class Update(NamedTuple):
    """One row of `weight_beliefs`.

    Shapes: likelihood and posterior (G, G), on a grid over [-reach, reach] of intercept (columns) and
    slope (rows); families: name -> (G, G); x and y (N,); lines (L, 2), draws of (intercept, slope).
    """

    title: str
    likelihood: Array
    posterior: Array
    families: Mapping[str, Array]
    x: Array
    y: Array
    lines: Array


def weight_beliefs(
    rows: Sequence[Update], *, reach: float, truth: tuple[float, float], title: str | None = None
) -> Figure:
    """Draw a row for each number of data: the likelihood of all of them, the exact posterior with the
    families that stand for it, and lines drawn from it beside the data.

    Errors: ValueError for no rows.

    Example:
        >>> import torch
        >>> line = torch.linspace(-2, 2, 31)
        >>> density = torch.exp(-(line[:, None] ** 2 + line**2))
        >>> row = Update("N = 1", density, density, {"mean field": density}, [0.0], [0.1], torch.zeros(3, 2))
        >>> len(weight_beliefs([row], reach=2.0, truth=(0.0, 0.5)).axes)
        3
    """
    if not rows:
        raise ValueError("there are no rows to draw, expected some such as Update('N = 1', ...).")
    figure = Figure(figsize=(8.2, 2.6 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), 3, squeeze=False)
    names = list(dict.fromkeys(name for row in rows for name in row.families))
    colours = dict(zip(names, COLOURS))
    for row, (left, middle, right) in zip(rows, grid):
        for axes, values in ((left, row.likelihood), (middle, row.posterior)):
            density = to_array(values)
            line = np.linspace(-reach, reach, len(density))
            axes.contourf(line, line, density, levels=12, cmap="Blues")
            axes.plot(*truth, "+", color="black", markersize=8)
            axes.set(xlabel="intercept", ylabel="slope", aspect="equal")
        for name, values in row.families.items():
            density = to_array(values)
            line = np.linspace(-reach, reach, len(density))
            levels = levels_of(density, SHARES[1::2])
            middle.contour(
                line, line, density, levels=levels, colors=colours[name], linewidths=1.3
            )
        left.set_title(f"likelihood, {row.title}", fontsize=9)
        middle.set_title("posterior" if len(to_array(row.x)) else "prior", fontsize=9)
        right.set_title("lines from it, and the data", fontsize=9)
        ends = np.array([-0.2, 2.2])
        for intercept, slope in to_array(row.lines):
            right.plot(ends, intercept + slope * ends, color=MUTED, linewidth=0.7)
        right.plot(ends, truth[0] + truth[1] * ends, color="black", linewidth=1, linestyle="--")
        right.plot(to_array(row.x), to_array(row.y), "o", color=TRAIN, markersize=4)
        right.set(xlabel="x", ylabel="y", xlim=(-0.2, 2.2), ylim=(-2.5, 2.5))
    handles = [Line2D([], [], color=colours[name], label=name) for name in names]
    handles.append(Line2D([], [], color="black", marker="+", linestyle="--", label="truth"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure
