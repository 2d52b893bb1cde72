"""Scores of several data sets, one panel a score."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pyrovae.plots.canvas import TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import columns_for, legend_below

COLOURS = (TRAIN, VALID)


def score_histograms(
    panels: Mapping[str, Mapping[str, Array]],
    *,
    bins: int = 40,
    unit: str = "nats",
    zero: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw histograms of one or two data sets in each panel, in the same bins: what separates
    them, and how much they overlap.

    Heights are shares of each set. Bins span the central 99 % of both sets; the rest is counted in
    the outermost bins. zero: what a line at 0, drawn where there is a name for it, means.

    Shapes: for each panel a mapping from the name of a set to its scores, (N,).
    Errors: ValueError for no panel, other than one or two sets, vectors that are empty or not
    finite.

    Example:
        >>> import torch
        >>> figure = score_histograms({"-log p(x)": {"digits": torch.rand(50), "noise": torch.rand(60) + 1}})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['digits', 'noise']
    """
    arrays = {
        panel: {name: to_array(values).astype(float) for name, values in sets.items()}
        for panel, sets in panels.items()
    }
    if not arrays or any(len(sets) not in (1, 2) for sets in arrays.values()):
        raise ValueError(
            "expected panels of one or two sets, such as {'-log p(x)': {'test': scores}}."
        )
    for panel, sets in arrays.items():
        for name, values in sets.items():
            if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
                raise ValueError(
                    f"{panel!r} of {name!r} has shape {values.shape}, expected finite scores, (N,)."
                )
    columns = columns_for(len(arrays), 3)
    rows = -(-len(arrays) // columns)
    lines = 1 + max(panel.count("\n") for panel in arrays)
    longest = max(len(line) for panel in arrays for line in panel.split("\n"))
    width = columns * max(3.4, 0.085 * longest, 0.1 * len(title or "") / columns)
    figure = Figure(
        figsize=(width, (2.4 + 0.2 * lines) * rows + 0.6),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(arrays) :]:
        axes.remove()
    for axes, (panel, sets) in zip(grid.flat, arrays.items()):
        low, high = np.quantile(np.concatenate(list(sets.values())), [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        for (name, values), colour, line in zip(sets.items(), COLOURS, ("-", (0, (3, 1)))):
            share = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(share, edges, color=colour, linewidth=1.6, linestyle=line, label=name)
        if zero is not None:
            axes.axvline(0, color="black", linestyle="--", linewidth=1.2, label=zero)
        tidy(axes, title=panel)
        axes.set_xlabel(unit)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of the data")
    legend_below(figure, ncols=2, title=title)
    return figure
