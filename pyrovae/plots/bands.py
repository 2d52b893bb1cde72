"""Predictions of a curve, with what is not known of it and what is noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrovae.plots.canvas import TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import legend_below, panel_grid

LIGHT, DARK = "#a9c4dc", "#12344d"


class Bands(NamedTuple):
    """One panel of `regression_bands`: a predictive distribution over a grid of x, and the data
    behind it.

    Shapes: x, mean, epistemic, total and truth (G,); train_x and train_y (N,). All in the same
    units.
    """

    x: Array
    mean: Array
    epistemic: Array
    """Standard deviation of the regression function over draws of the weights."""
    total: Array
    """Standard deviation of y: noise included."""
    train_x: Array
    train_y: Array
    truth: Array | None = None
    """The function that made the data, where it is known."""


def regression_bands(
    panels: Mapping[str, Bands], *, xlabel: str = "x", ylabel: str = "y", title: str | None = None
) -> Figure:
    """Draw predictive means with bands of two standard deviations side by side, on the same axes.

    The dark band is epistemic, what more data would remove; the light one about it adds the noise.
    The axis ends at the range of the training data and the truth, widened by half of it at both
    ends: a wilder band runs out of the panel, so that it does not flatten its neighbours.

    Errors: ValueError for no panel, for shapes that differ, for NaN, and for a total that is less
    than its epistemic part.

    Example:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 5)
        >>> panel = Bands(x, x, 0.1 + x.abs(), 0.5 + x.abs(), torch.zeros(3), torch.zeros(3))
        >>> [axes.get_title() for axes in regression_bands({"mean field": panel, "HMC": panel}).axes]
        ['mean field', 'HMC']
    """
    if not panels:
        raise ValueError(
            "there is no panel to draw, expected some such as {'mean field': Bands(...)}."
        )
    arrays = {name: _check(name, Bands(*panel)) for name, panel in panels.items()}
    figure, axes = panel_grid(
        list(arrays), most=3, widths=(6.5, 7.6, 3.3), heights=(0.75, 0.2), xlabel=xlabel, ylabel=ylabel
    )  # fmt: skip
    for panel, (name, bands) in zip(axes, arrays.items()):
        _draw(panel, bands)
        tidy(panel, title=name)
    axes[0].set(
        xlim=_ends([bands.x for bands in arrays.values()]), ylim=_limits(list(arrays.values()))
    )
    legend_below(figure, ncols=5 if len(arrays) != 4 and len(arrays) > 2 else 3, title=title)
    return figure


def _check(name: str, panel: Bands) -> Bands:
    x, mean, epistemic, total, train_x, train_y = (
        to_array(values).astype(float) for values in panel[:6]
    )
    truth = None if panel.truth is None else to_array(panel.truth).astype(float)
    for pair, first in (
        ((x, mean, epistemic, total, truth), "x"),
        ((train_x, train_y), "train_x"),
    ):
        for values in pair:
            if values is not None and (
                values.shape != pair[0].shape or values.ndim != 1 or not np.isfinite(values).all()
            ):
                raise ValueError(
                    f"{name!r} holds a tensor of shape {values.shape} with {np.isfinite(values).sum()} finite values, "
                    f"expected vectors as long as {first} {pair[0].shape}, all finite. Drop a trailing 1 with squeeze(-1)."
                )
    if (epistemic < 0).any() or (total < epistemic * (1 - 1e-5)).any():
        raise ValueError(
            f"{name!r} has a negative epistemic deviation or a total one below it. Wanted standard deviations, total = "
            "sqrt(epistemic^2 + noise^2)."
        )
    order = np.argsort(x)
    return Bands(
        x[order],
        mean[order],
        epistemic[order],
        total[order],
        train_x,
        train_y,
        None if truth is None else truth[order],
    )


def _draw(axes: Axes, panel: Bands) -> None:
    for scale, colour, label in (
        (panel.total, LIGHT, "y \u00b1 2 sd"), (panel.epistemic, TRAIN, "function \u00b1 2 sd")
    ):  # fmt: skip
        axes.fill_between(
            panel.x,
            panel.mean - 2 * scale,
            panel.mean + 2 * scale,
            color=colour,
            alpha=0.55,
            linewidth=0,
            label=label,
        )
    axes.plot(panel.x, panel.mean, color=DARK, linewidth=1.8, label="mean")
    if panel.truth is not None:
        axes.plot(
            panel.x,
            panel.truth,
            color="black",
            linestyle=(0, (4, 2)),
            linewidth=1.3,
            label="truth",
        )
    axes.plot(
        panel.train_x, panel.train_y, "o", color=VALID, markersize=3.6, markeredgecolor="white", markeredgewidth=0.4,
        label="training data",
    )  # fmt: skip


def _ends(arrays: Sequence[Array]) -> tuple[float, float]:
    values = np.concatenate([to_array(part) for part in arrays])
    return float(values.min()), float(values.max())


def _limits(panels: list[Bands]) -> tuple[float, float]:
    low, high = _ends(
        [values for p in panels for values in (p.train_y, p.truth) if values is not None]
    )
    bottom, top = _ends(
        [p.mean + sign * 2 * p.total for p in panels for sign in (-1, 1)] + [np.array([low, high])]
    )
    reach, margin = (high - low) / 2 or 1.0, 0.04 * (top - bottom or 1.0)
    return max(bottom - margin, low - reach), min(top + margin, high + reach)
