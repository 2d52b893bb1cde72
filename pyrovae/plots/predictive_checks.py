"""Statistics of replicated data sets beside that of the data."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import columns_for, legend_below


def predictive_checks(
    panels: Mapping[str, tuple[Array, Array]], *, bins: int = 30, title: str | None = None
) -> Figure:
    """Draw a histogram of each statistic over replicated data sets, and a line at its value in the
    data; p = P(T(y_rep) > T(y)) in the titles.

    Shapes: each panel a pair of T(y_rep) (K,) and T(y) (), as `PredictiveCheck.panels` gives them.
    Errors: ValueError for no panel, other shapes, and numbers that are not finite.

    Example:
        >>> import torch
        >>> figure = predictive_checks({"sd": (torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor(3.0))})
        >>> figure.axes[0].get_title()
        'sd\\np = 0.375'
    """
    if not panels:
        raise ValueError(
            "there is no panel to draw, expected some such as {'sd': (replicated, observed)}."
        )
    arrays = {
        name: (to_array(replicated).astype(float), to_array(observed).astype(float))
        for name, (replicated, observed) in panels.items()
    }
    for name, (values, value) in arrays.items():
        if (
            values.ndim != 1
            or not len(values)
            or value.ndim
            or not np.isfinite([*values, value]).all()
        ):
            raise ValueError(
                f"{name!r} has replicates of shape {values.shape} and a value of shape {value.shape}, expected (K,) and "
                "(), all finite."
            )
    columns = columns_for(len(arrays), 4)
    rows = -(-len(arrays) // columns)
    width = max(5.0 if columns == 1 else 0.0, 2.6 * columns)
    figure = Figure(figsize=(width, 2.3 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(arrays) :]:
        axes.remove()
    for axes, (name, (values, value)) in zip(grid.flat, arrays.items()):
        share, edges = np.histogram(values, bins)
        axes.stairs(share / len(values), edges, fill=True, color=TRAIN, alpha=0.3)
        axes.stairs(share / len(values), edges, color=TRAIN, linewidth=1.6, label="replicates")
        axes.axvline(value, color=VALID, linewidth=1.8, label="data")
        p = (values > value).mean() + 0.5 * (values == value).mean()
        tidy(axes, title=f"{name}\np = {p:.3f}")
    for axes in grid[:, 0]:
        axes.set_ylabel("share of replicates")
    legend_below(figure, ncols=2, title=title)
    return figure
