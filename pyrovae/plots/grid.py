"""Panels side by side that share their axes, their labels and one legend."""

from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def columns_for(panels: int, most: int) -> int:
    """Return how many columns look best: all in one row where they fit, rows as even as possible
    otherwise.

    Example:
        >>> [columns_for(panels, 3) for panels in (1, 3, 4, 5, 7)]
        [1, 3, 2, 3, 3]
    """
    return -(-panels // -(-panels // most))


def panel_grid(
    names: Sequence[str],
    *,
    most: int,
    widths: tuple[float, float, float],
    heights: tuple[float, float],
    xlabel: str,
    ylabel: str,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel a name, at most `most` in a row, x labels below the last
    panel of each column.

    `widths`: of a single panel, of all panels of a row together, and of the narrowest panel, in
    inches. `heights`: of a row over the width of a panel, and the inches that its labels add.

    Example:
        >>> figure, panels = panel_grid(
        ...     ["a", "b", "c"], most=2, widths=(5.5, 8, 3), heights=(0.8, 0.0), xlabel="x", ylabel="y"
        ... )
        >>> [panel.get_xlabel() for panel in panels]
        ['', 'x', 'x']
    """
    columns = columns_for(len(names), most)
    rows = -(-len(names) // columns)
    width = widths[0] if columns == 1 else max(widths[2], widths[1] / columns)
    figure = Figure(
        figsize=(width * columns, (heights[0] * width + heights[1]) * rows + 0.6),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06),
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    panels = list(grid.flat[: len(names)])
    for axes in panels[-columns:]:
        axes.set_xlabel(xlabel)
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel(ylabel)
    return figure, panels


def legend_below(figure: Figure, *, ncols: int, title: str | None) -> None:
    """Draw one legend of everything that has a label, each label once, and the title.

    Example:
        >>> figure = Figure(layout="constrained")
        >>> for axes in figure.subplots(1, 2):
        ...     line = axes.plot([0, 1], label="mean")
        >>> legend_below(figure, ncols=2, title=None)
        >>> len(figure.legends[0].get_texts())
        1
    """
    handles = dict(_labelled(figure))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
    )
    if title is not None:
        figure.suptitle(title)


def _labelled(figure: Figure) -> Iterator[tuple[str, Artist]]:
    for axes in reversed(figure.axes):
        handles, labels = axes.get_legend_handles_labels()
        yield from zip(labels, handles)
