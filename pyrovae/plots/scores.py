"""Scores of several runs side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import TRAIN, tidy


def scores(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    *,
    unit: str = "",
    title: str | None = None,
) -> Figure:
    """Draw one dot a run with bars of one standard error, the first run on top.

    Shapes: names, values and errors (n,). `unit` labels the axis of values.
    Errors: ValueError for no run, and for lists of different lengths.

    Example:
        >>> figure = scores(["diagonal", "IAF"], [-90.1, -88.7], [0.2, 0.2], unit="log p(x), nats")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['diagonal', 'IAF']
    """
    if (
        not len(names)
        or len(names) != len(values)
        or errors is not None
        and len(errors) != len(values)
    ):
        raise ValueError(
            f"{len(names)} names, {len(values)} values and {len(errors) if errors is not None else 'no'} errors, expected "
            "as many of each and at least one."
        )
    figure = Figure(figsize=(7.0, 0.38 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.errorbar(
        np.asarray(values, dtype=float),
        rows,
        xerr=errors,
        fmt="o",
        color=TRAIN,
        markersize=5,
        capsize=3,
    )
    axes.set_yticks(rows, list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    tidy(axes, title=title or "", xlabel=unit)
    return figure
