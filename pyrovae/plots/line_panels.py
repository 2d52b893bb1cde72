"""Lines with bands of several methods in a grid of panels, each with an axis of its own."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyrovae.plots.canvas import to_array
from pyrovae.plots.comparison import STYLES, Line


def line_panels(
    rows: Sequence[Mapping[str, Mapping[str, Line]]],
    *,
    xlabels: Sequence[str],
    ylabels: Sequence[str],
    title: str | None = None,
) -> Figure:
    """Draw rows of panels, title -> method -> line, with bands of one standard error.

    xlabels: of each column; ylabels: of each row, or of each panel where there is one row.
    Errors: ValueError for no panel, rows of different lengths, more than eight methods, and lines that
    are not finite or whose lengths differ.

    Example:
        >>> panel = {"ensemble": Line([1, 2], [0.3, 0.2], [0.01, 0.02])}
        >>> figure = line_panels([{"MNIST": panel}], xlabels=["members"], ylabels=["NLL"])
        >>> figure.axes[0].get_ylabel()
        'NLL'
    """
    columns = {len(row) for row in rows}
    if len(columns) != 1 or 0 in columns:
        raise ValueError(
            f"rows of {[len(row) for row in rows]} panels, expected at least one, and rows of one length."
        )
    names = list(dict.fromkeys(name for row in rows for panel in row.values() for name in panel))
    if len(names) > len(STYLES):
        raise ValueError(f"{len(names)} methods, expected at most {len(STYLES)}.")
    styles = dict(zip(names, STYLES))
    width = columns.pop()
    figure = Figure(figsize=(3.0 * width + 0.4, 2.5 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for index, (row, axes_of_row) in enumerate(zip(rows, grid)):
        for column, ((name, panel), axes) in enumerate(zip(row.items(), axes_of_row)):
            whole = True
            for method, line in panel.items():
                x, y, se = _arrays(f"{name}, {method}", Line(*line))
                whole &= bool((x == x.round()).all())
                colour, marker, style = styles[method]
                axes.plot(
                    x, y, color=colour, marker=marker, linestyle=style, markersize=4, label=method
                )
                if se is not None:
                    axes.fill_between(x, y - se, y + se, color=colour, alpha=0.2, linewidth=0)
            if whole:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if index == 0:
                axes.set_title(name, fontsize=10)
            if index == len(rows) - 1:
                axes.set_xlabel(xlabels[column])
            if len(rows) == 1 or column == 0:
                axes.set_ylabel(ylabels[column if len(rows) == 1 else index])
            axes.grid(alpha=0.25)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, len(handles)), frameon=False
    )
    if title is not None:
        figure.suptitle(title)
    return figure


def _arrays(name: str, line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    x, y = (to_array(values).astype(float) for values in (line.x, line.y))
    se = None if line.se is None else to_array(line.se).astype(float)
    if x.ndim != 1 or x.shape != y.shape or se is not None and se.shape != x.shape:
        raise ValueError(f"{name}: x {x.shape}, y {y.shape}, expected vectors of one length.")
    if not (np.isfinite(x) & np.isfinite(y)).all():
        raise ValueError(f"{name}: values that are not finite. Leave out the points that failed.")
    return x, y, se
