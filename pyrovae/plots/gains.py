"""Scores of several runs beside their gains over the first, datum by datum."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pyrovae.plots.canvas import TRAIN, tidy


class Score(NamedTuple):
    """One run: its mean score and that of its differences from the first run of its group, each
    with a standard error."""

    name: str
    value: float
    error: float
    gain: float
    gain_error: float


def paired_scores(
    groups: Mapping[str, Sequence[Score]],
    *,
    unit: str = "log p(x), nats",
    title: str | None = None,
) -> Figure:
    """Draw a row of two panels for each group of runs that compare: the scores, and the gains on
    the group's first run.

    Groups have axes of their own, so that a density never stands beside a probability. Bars are
    one standard error; those of gains are of paired differences, and so much shorter where all
    runs find the same data hard.

    Shapes: any number of scores in each group; a group of one has no panel of gains.
    Errors: ValueError for no group, an empty one, and scores that are not finite (errors may be:
    they draw no bar).

    Example:
        >>> first, second = Score("diagonal", -90.1, 0.9, 0.0, 0.0), Score("IAF", -88.7, 0.9, 1.4, 0.1)
        >>> figure = paired_scores({"probability": [first, second], "density": [Score("normal", 30.0, 1.0, 0.0, 0.0)]})
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['log p(x), nats', 'gain on the first row, nats', 'log p(x), nats']
    """
    if not groups or not all(groups.values()):
        raise ValueError(
            f"there are {len(groups)} groups of sizes {[len(group) for group in groups.values()]}, expected at "
            "least one, and none of them empty."
        )
    for score in (score for group in groups.values() for score in group):
        if not np.isfinite([score.value, score.gain]).all():
            raise ValueError(
                f"{score.name!r} has the score {score.value} and the gain {score.gain}, expected finite numbers."
            )
    sizes = [len(group) for group in groups.values()]
    figure = Figure(
        figsize=(9.6, sum(0.34 * size + 1.15 for size in sizes) + (0.3 if title else 0.0)),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )
    rows = figure.subfigures(
        len(groups), 1, height_ratios=[0.34 * size + 1.15 for size in sizes], squeeze=False
    )[:, 0]
    for row, (name, group) in zip(rows, groups.items()):
        panels = row.subplots(1, 2 if len(group) > 1 else 1, sharey=True, squeeze=False)[0]
        places = np.arange(len(group))
        for axes, values, errors in zip(
            panels,
            ([s.value for s in group], [s.gain for s in group]),
            ([s.error for s in group], [s.gain_error for s in group]),
        ):
            axes.errorbar(
                values,
                places,
                xerr=np.nan_to_num(errors),
                fmt="o",
                color=TRAIN,
                markersize=5,
                capsize=3,
            )
            tidy(axes, xlabel=unit)
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(places, [score.name for score in group])
        panels[0].set_ylim(len(group) - 0.5, -0.5)
        if len(group) > 1:
            panels[1].axvline(0, color="black", linestyle=(0, (4, 2)), linewidth=1)
            panels[1].set_xlabel("gain on the first row, nats")
        row.suptitle(name, fontsize="medium")
    if title is not None:
        figure.suptitle(title)
    return figure
