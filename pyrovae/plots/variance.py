"""The noise of gradient estimators in the course of training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyrovae.plots.canvas import MUTED, TRAIN, VALID, tidy

COLOURS = (TRAIN, VALID, "#4b8b3b", "#8a4f9e", "#b03a48", MUTED)
STYLES = ("-", "--", ":")


def gradient_variance(
    epochs: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str | None = None,
) -> Figure:
    """Draw the total variance of each estimator against the epoch, one panel an objective, on one
    logarithmic axis.

    Variances compare within a panel: estimators of different objectives have different means.

    Shapes: epochs (T,); each series (T,), positive.
    Errors: ValueError for no series, other lengths, and values that have no logarithm.

    Example:
        >>> figure = gradient_variance([0, 10], {"ELBO": {"pathwise": [2.0, 1.0], "score function": [300.0, 200.0]}})
        >>> figure.axes[0].get_yscale()
        'log'
    """
    if not panels or not all(panels.values()):
        raise ValueError(
            "there is no series to draw, expected panels such as {'ELBO': {'pathwise': [2.0, 1.0]}}."
        )
    for name, series in (
        (name, series) for panel in panels.values() for name, series in panel.items()
    ):
        array = np.asarray(series, dtype=float)
        if array.shape != (len(epochs),) or not (np.isfinite(array) & (array > 0)).all():
            raise ValueError(
                f"{name!r} holds {array.tolist()}, expected {len(epochs)} positive variances, one for each epoch."
            )
    figure = Figure(figsize=(4.4 * len(panels), 4.2), layout="constrained")
    for axes, (name, panel) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()
    ):
        for index, (label, values) in enumerate(panel.items()):
            axes.plot(
                epochs, values, color=COLOURS[index % len(COLOURS)], linestyle=STYLES[index // len(COLOURS) % len(STYLES)],
                marker="o", markersize=4, linewidth=1.6, label=label,
            )  # fmt: skip
        tidy(axes, title=name, xlabel="epoch", yscale="log")
        if min(epochs) >= 0 and max(epochs) > 20:
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xticks(sorted(set(epochs)), [f"{epoch:g}" for epoch in sorted(set(epochs))])
            axes.minorticks_off()
            axes.set_xlim(-0.15, 1.4 * max(epochs))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="best")
    figure.axes[0].set_ylabel("total variance of the guide's gradient")
    if title is not None:
        figure.suptitle(title)
    return figure
