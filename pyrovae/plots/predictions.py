"""Real predictions against what was observed: how near, whether the intervals hold, what the
residuals look like."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import MUTED, TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.comparison import STYLES
from pyrovae.plots.grid import columns_for, legend_below, panel_grid

LEVELS = np.linspace(0.0, 1.0, 21)


class Predictions(NamedTuple):
    """One panel: the predictive distribution of each datum, and what was observed; all (N,), in
    the units of y."""

    observed: Array
    mean: Array
    deviation: Array
    """Standard deviation of y, noise included."""
    lower: Array
    """Lower end of a central interval of y."""
    upper: Array
    rank: Array
    """Share of the draws of y below the observed one, in [0, 1]: uniform where the predictions are
    calibrated."""


def predicted_observed(
    panels: Mapping[str, Predictions],
    *,
    level: float = 0.9,
    ylabel: str = "predicted y",
    xlabel: str = "observed y",
    title: str | None = None,
) -> Figure:
    """Draw each predictive mean with its interval against what was observed; intervals that miss
    it stand out.

    Shapes: see `Predictions`. `level` is that of the intervals; the title of a panel says how many
    hold what was observed.
    Errors: ValueError for no panel, vectors of different lengths or no data, NaN, and intervals
    that are inside out.

    Example:
        >>> import torch
        >>> y = torch.linspace(0, 1, 5)
        >>> panel = Predictions(y, y + 0.1, torch.ones(5), torch.full((5,), 0.2), torch.full((5,), 0.8), y)
        >>> predicted_observed({"MAP": panel}).axes[0].get_title()
        'MAP\\nintervals hold 60 %'
    """
    arrays = {name: _check(name, Predictions(*panel)) for name, panel in _some(panels).items()}
    figure, axes = panel_grid(
        list(arrays), most=3, widths=(5.2, 8.4, 2.8), heights=(0.95, 0.5), xlabel=xlabel, ylabel=ylabel
    )  # fmt: skip
    ends = np.concatenate([np.concatenate([p.observed, p.mean]) for p in arrays.values()])
    low, high = ends.min(), ends.max()
    reach = 0.25 * (high - low) or 1.0
    for panel, (name, p) in zip(axes, arrays.items()):
        holds = (p.lower <= p.observed) & (p.observed <= p.upper)
        panel.axline(
            (low, low),
            slope=1,
            color="black",
            linestyle=(0, (4, 2)),
            linewidth=1,
            label="predicted = observed",
        )
        for some, colour, label in ((holds, TRAIN, "holds"), (~holds, VALID, "misses")):
            panel.vlines(
                p.observed[some],
                p.lower[some],
                p.upper[some],
                color=colour,
                linewidth=0.9,
                alpha=0.45,
            )
            panel.plot(
                p.observed[some], p.mean[some], "o" if label == "holds" else "D", color=colour, markersize=4,
                markeredgecolor="white", markeredgewidth=0.4, label=f"{100 * level:g} % interval {label} y",
            )  # fmt: skip
        tidy(panel, title=f"{name}\nintervals hold {100 * holds.mean():.0f} %")
    axes[0].set(xlim=(low - 0.05 * reach, high + 0.05 * reach), ylim=(low - reach, high + reach))
    legend_below(figure, ncols=3 if len(axes) > 1 else 1, title=title)
    return figure


def residuals(
    panels: Mapping[str, Predictions], *, xlabel: str = "predicted y", title: str | None = None
) -> Figure:
    """Draw (observed - predicted) / predictive standard deviation against the prediction, with
    lines at -2, 0 and 2.

    About one in twenty should lie outside the outer lines; a trend is bias, a funnel is noise that
    the model takes for equal.

    Shapes and errors: as in `predicted_observed`, and ValueError for deviations that are not
    positive.

    Example:
        >>> import torch
        >>> y = torch.linspace(0, 1, 5)
        >>> figure = residuals({"MAP": Predictions(y, y + 0.1, 0.1 * torch.ones(5), y, y, y)})
        >>> figure.axes[0].lines[-1].get_ydata().round(3).tolist()
        [-1.0, -1.0, -1.0, -1.0, -1.0]
    """
    arrays = {name: _check(name, Predictions(*panel)) for name, panel in _some(panels).items()}
    if flat := [name for name, p in arrays.items() if not (p.deviation > 0).all()]:
        raise ValueError(
            f"the deviations of {flat[0]!r} reach {arrays[flat[0]].deviation.min():g}, expected positive ones: "
            "standard deviations of y with its noise."
        )
    figure, axes = panel_grid(
        list(arrays), most=3, widths=(5.8, 8.4, 2.8), heights=(0.7, 0.3), xlabel=xlabel,
        ylabel="residual / predictive s.d.",
    )  # fmt: skip
    scaled = {name: (p.observed - p.mean) / p.deviation for name, p in arrays.items()}
    for panel, (name, p) in zip(axes, arrays.items()):
        for place, style in ((0, "-"), (-2, (0, (4, 2))), (2, (0, (4, 2)))):
            panel.axhline(place, color="black", linestyle=style, linewidth=1)
        panel.plot(
            p.mean,
            scaled[name],
            "o",
            color=TRAIN,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
        outside = 100 * (np.abs(scaled[name]) > 2).mean()
        tidy(panel, title=f"{name}\n{outside:.0f} % outside 2 s.d.")
    farthest = max(2.5, *(np.abs(values).max() for values in scaled.values()))
    axes[0].set_ylim(-1.08 * farthest, 1.08 * farthest)
    if title is not None:
        figure.suptitle(title)
    return figure


def coverage(panels: Mapping[str, Predictions], *, title: str | None = None) -> Figure:
    """Draw the share of data that central intervals hold against their level, a line a method.

    The grey band is where 95 % of calibrated predictions of as many independent data lie (normal
    approximation, at each level by itself): below it intervals are too narrow, above it too wide.

    Shapes and errors: as in `predicted_observed`, and ValueError for ranks outside [0, 1].

    Example:
        >>> import torch
        >>> y = torch.linspace(0.025, 0.975, 20)
        >>> figure = coverage({"MAP": Predictions(y, y, y, y, y, y)})
        >>> [label.get_text() for label in figure.legends[0].get_texts()]
        ['95 % range if calibrated', 'calibrated', 'MAP']
    """
    arrays = {name: _check(name, Predictions(*panel)) for name, panel in _some(panels).items()}
    figure = Figure(figsize=(5.4, 5.6), layout="constrained")
    axes = figure.subplots()
    spread = 1.96 * np.sqrt(LEVELS * (1 - LEVELS) / min(len(p.rank) for p in arrays.values()))
    axes.fill_between(
        LEVELS,
        np.clip(LEVELS - spread, 0, 1),
        np.clip(LEVELS + spread, 0, 1),
        color=MUTED,
        alpha=0.3,
        linewidth=0,
        label="95 % range if calibrated",
    )
    axes.plot(
        [0, 1], [0, 1], color="black", linestyle=(0, (4, 2)), linewidth=1, label="calibrated"
    )
    for index, (name, p) in enumerate(arrays.items()):
        if p.rank.min() < 0 or p.rank.max() > 1:
            raise ValueError(
                f"the ranks of {name!r} range over [{p.rank.min():g}, {p.rank.max():g}], expected [0, 1]."
            )
        held = (np.abs(2 * p.rank - 1)[:, None] <= LEVELS).mean(0)
        colour, marker, style = STYLES[index % len(STYLES)]
        axes.plot(
            LEVELS,
            held,
            color=colour,
            marker=marker,
            linestyle=style,
            markersize=4,
            linewidth=1.5,
            label=name,
            markerfacecolor=colour if index < len(STYLES) else "white",
            clip_on=False,
        )
    tidy(axes, xlabel="level of the interval", ylabel="share of the data inside")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    figure.legend(loc="outside lower center", ncols=columns_for(len(arrays) + 2, 3), frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure


def _some(panels: Mapping[str, Predictions]) -> Mapping[str, Predictions]:
    if not panels:
        raise ValueError(
            "there is no panel to draw, expected some such as {'MAP': Predictions(...)}."
        )
    return panels


def _check(name: str, panel: Predictions) -> Predictions:
    panel = Predictions(*(to_array(values).astype(float) for values in panel))
    for field, values in panel._asdict().items():
        if (
            values.shape != panel.observed.shape
            or values.ndim != 1
            or not values.size
            or not np.isfinite(values).all()
        ):
            raise ValueError(
                f"{field} of {name!r} has shape {values.shape} with {np.isfinite(values).sum()} finite values, expected "
                f"(N,), as long as observed {panel.observed.shape}, all finite. Give each target a panel of its own."
            )
    if (panel.lower > panel.upper).any():
        raise ValueError(
            f"{(panel.lower > panel.upper).sum()} intervals of {name!r} have their lower end above the upper."
        )
    return panel
