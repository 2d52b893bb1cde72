"""Several methods in the course of something: a rotation, the number of data, the size of a
network."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import columns_for

# told apart by people who see no red or no green, and by their markers in grey
STYLES = (
    (TRAIN, "o", "-"), (VALID, "s", "-"), ("#009e73", "^", "--"), ("#333333", "D", "-."), ("#cc79a7", "v", "-"),
    ("#56b4e9", "P", "--"), ("#8c6d1f", "X", ":"), ("#7b7b7b", "<", "-."),
)  # fmt: skip


class Line(NamedTuple):
    """One line of `comparison`: y at each x, and perhaps its standard error; all (T,)."""

    x: Array
    y: Array
    se: Array | None = None


def comparison(
    series: Mapping[str, Line],
    xlabel: str,
    ylabel: str,
    *,
    xlog: bool = False,
    title: str | None = None,
) -> Figure:
    """Draw a line a method with bars of one standard error; those after the eighth have hollow
    markers.

    For accuracy against the angle of a rotation, or error against the number of data seen; of a
    training history see `curves`.

    Shapes: x, y and se (T,), T of each line its own. A NaN in se draws no bar; x need not be
    sorted.
    Errors: ValueError for no line or more than sixteen, lengths that differ, and values that are
    not finite.

    Example:
        >>> figure = comparison({"MAP": Line([0, 90], [0.99, 0.2], [0.01, 0.02])}, "angle (degrees)", "accuracy")
        >>> figure.axes[0].get_xlabel(), len(figure.axes[0].containers)
        ('angle (degrees)', 1)
    """
    if not 1 <= len(series) <= 2 * len(STYLES):
        raise ValueError(
            f"there are {len(series)} lines, expected 1 to {2 * len(STYLES)}. Draw several figures."
        )
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, line) in enumerate(series.items()):
        colour, marker, style = STYLES[index % len(STYLES)]
        solid = index < len(STYLES)
        line = Line(*line)
        x, y = (to_array(values).astype(float) for values in (line.x, line.y))
        se = None if line.se is None else to_array(line.se).astype(float)
        if (
            x.ndim != 1
            or not len(x)
            or x.shape != y.shape
            or se is not None
            and se.shape != x.shape
            or not (np.isfinite(x) & np.isfinite(y)).all()
        ):
            raise ValueError(
                f"{name!r} has x {x.shape}, y {y.shape} and se {None if se is None else se.shape}, expected vectors of one "
                "length, x and y finite. Leave out the points that failed."
            )
        order = np.argsort(x, kind="stable")
        axes.errorbar(
            x[order], y[order], None if se is None else se[order], color=colour, marker=marker, linestyle=style,
            markersize=5.5, linewidth=1.6, elinewidth=1.2, capsize=2.5,
            markeredgecolor="white" if solid else colour, markerfacecolor=colour if solid else "white", markeredgewidth=0.6,
            label=name,
        )  # fmt: skip
    tidy(axes, title=title or "", xlabel=xlabel, ylabel=ylabel)
    if xlog:
        axes.set_xscale("log")
    fitting = int(
        6.8 / (0.7 + 0.09 * max(map(len, series)))
    )  # inches: of the figure, a handle, a letter
    figure.legend(
        loc="outside lower center",
        ncols=columns_for(len(series), min(4, max(1, fitting))),
        frameon=False,
    )
    return figure
