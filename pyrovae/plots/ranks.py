"""Ranks of simulated values among posterior draws, against what uniform ranks would do."""

from collections.abc import Mapping
from math import lgamma

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import MUTED, TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import legend_below, panel_grid

MASS = 0.99
"""Of the band about one bin."""
JOINT = 0.95
"""Of the band that a whole line of uniform values stays in."""
POINTS, SIMULATED = 100, 4000
LINES = (TRAIN, VALID, "#4a8c5c", "#8a5a9e", "#b03a48", "#6b6b6b")


def rank_histograms(
    panels: Mapping[str, tuple[Array, Array]], *, most: int = 4, title: str | None = None
) -> Figure:
    """Draw histograms of ranks, each with the band that a bin of uniform ranks lies in with
    probability 0.99 (binomial, each bin for itself).

    Like a U: posteriors too narrow; a hump: too wide; falling: too high; rising: too low. Of 20 bins
    one leaves its band in every fifth flat histogram.

    Shapes: each panel a pair of counts (bins,) and expected counts (bins,), as
    `pyrovae.metrics.rank_counts` and `SimulatedRanks.histograms()` give them. most: panels in a row.
    Errors: ValueError for no panel, other shapes, and counts of another sum than the expected ones.

    Source: Talts et al. 2018, arXiv:1804.06788, figure 1.

    Example:
        >>> import torch
        >>> figure = rank_histograms({"w[0]": (torch.tensor([9, 11, 10]), torch.full((3,), 10.0))})
        >>> figure.axes[0].get_title()
        'w[0]'
    """
    if not panels:
        raise ValueError("there is no panel to draw, expected some such as ranks.histograms().")
    arrays = {name: _check(name, *panel) for name, panel in panels.items()}
    figure, axes = panel_grid(
        list(arrays), most=most, widths=(5.5, 2.6 * most, 2.4), heights=(0.6, 0.5), xlabel="rank / L",
        ylabel="simulations",
    )  # fmt: skip
    for panel, (name, (counts, expected)) in zip(axes, arrays.items()):
        edges = np.linspace(0, 1, len(counts) + 1)
        low, high = zip(*(_binomial(int(counts.sum()), value) for value in expected))
        panel.stairs(
            high, edges, baseline=low, fill=True, color=MUTED, alpha=0.45, label=f"{MASS:.0%} if uniform"
        )  # fmt: skip
        panel.stairs(
            expected, edges, baseline=None, color="black", linestyle=(0, (4, 2)), linewidth=1
        )
        panel.stairs(counts, edges, fill=True, color=TRAIN, alpha=0.3)
        panel.stairs(counts, edges, color=TRAIN, linewidth=1.6, label="ranks")
        tidy(panel, title=name, xlim=(0, 1))
    axes[0].set_ylim(0.0, 1.05 * max(counts.max() for counts, _ in arrays.values()))
    legend_below(figure, ncols=2, title=title)
    return figure


def rank_ecdf(
    panels: Mapping[str, Mapping[str, Array]], *, most: int = 3, title: str | None = None
) -> Figure:
    """Draw how the distribution function of the probability integral transforms of one or several
    methods differs from that of uniform ones, with the band that a whole line of uniform values
    stays in with probability 0.95. No bins to choose.

    Above 0 on the left and below it on the right: posteriors too narrow; the reverse: too wide; one
    hill: too high; one valley: too low.

    Shapes: in each panel by method (R,) in [0, 1], as `pyrovae.metrics.randomized_pit` gives them,
    one R in all.
    Errors: ValueError for no panel, more than six methods, other shapes and values outside [0, 1].

    Source: Säilynoja, Bürkner & Vehtari 2022, arXiv:2103.10522, with simulated pointwise levels.

    Example:
        >>> import torch
        >>> figure = rank_ecdf({"w[0]": {"exact": torch.rand(50), "narrow": torch.rand(50) * 0.2}})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['95% if uniform', 'exact', 'narrow']
    """
    arrays = {
        panel: {name: to_array(values).astype(float) for name, values in methods.items()}
        for panel, methods in panels.items()
    }
    every = [values for methods in arrays.values() for values in methods.values()]
    if not every or any(len(methods) > len(LINES) for methods in arrays.values()):
        raise ValueError(
            f"expected panels of 1 to {len(LINES)} methods, such as {{'w': {{'exact': pit}}}}."
        )
    size = every[0].size
    for values in every:
        if values.shape != (size,) or not size or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"the transforms have shape {values.shape} and range [{values.min(initial=np.inf):.3g}, "
                f"{values.max(initial=-np.inf):.3g}], expected (R,) = ({size},) numbers in [0, 1]."
            )
    grid = np.linspace(0, 1, POINTS + 1)
    low, high = _joint_band(size)
    figure, axes = panel_grid(
        list(arrays), most=most, widths=(6.0, 2.9 * most, 2.6), heights=(0.62, 0.5), xlabel="rank / L",
        ylabel="ECDF - uniform",
    )  # fmt: skip
    for panel, (name, methods) in zip(axes, arrays.items()):
        panel.fill_between(
            grid, low, high, color=MUTED, alpha=0.45, linewidth=0, label=f"{JOINT:.0%} if uniform"
        )
        for (method, values), colour in zip(methods.items(), LINES):
            share = np.searchsorted(np.sort(values), grid, side="right") / size
            panel.plot(grid, share - grid, color=colour, linewidth=1.5, label=method)
        tidy(panel, title=name, xlim=(0, 1))
    legend_below(figure, ncols=5 if len(arrays) > 1 else 3, title=title)
    return figure


def _check(name: str, *panel: Array) -> tuple[np.ndarray, np.ndarray]:
    counts, expected = (to_array(values).astype(float) for values in panel)
    if counts.ndim != 1 or counts.shape != expected.shape or not len(counts):
        raise ValueError(
            f"{name!r} has counts {counts.shape} and expected counts {expected.shape}, expected two vectors of one "
            "length. Use rank_counts(ranks, num_draws, bins), one number at a time."
        )
    if not counts.sum() > 0 or not np.isclose(counts.sum(), expected.sum()):
        raise ValueError(
            f"{name!r} holds {counts.sum():g} ranks and {expected.sum():g} are expected; the sums are to agree."
        )
    return counts, expected


def _binomial(size: int, expected: float) -> tuple[float, float]:
    """Where a binomial count of this mean lies with probability `MASS`."""
    number, share = np.arange(size + 1), min(max(expected / size, 1e-12), 1 - 1e-12)
    choose = np.array([lgamma(size + 1) - lgamma(k + 1) - lgamma(size - k + 1) for k in number])
    below = np.exp(choose + number * np.log(share) + (size - number) * np.log1p(-share)).cumsum()
    tail = (1 - MASS) / 2
    low, high = np.searchsorted(below, [tail, 1 - tail])
    return float(low), float(min(high, size))


def _joint_band(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise order statistics of simulated lines, as far out as keeps `JOINT` of them inside."""
    noise = np.random.default_rng(0)  # its own: the same band whenever it is drawn
    lines = noise.multinomial(size, np.full(POINTS, 1 / POINTS), SIMULATED).cumsum(1)[:, :-1]
    ordered = np.sort(lines, 0)
    outermost = np.full(SIMULATED, SIMULATED)  # lines no further in at its outermost point
    for column, order in zip(lines.T, ordered.T):
        at_most = np.searchsorted(order, column, side="right")
        at_least = SIMULATED - np.searchsorted(order, column, side="left")
        outermost = np.minimum(outermost, np.minimum(at_most, at_least))
    allowed = np.sort(outermost)[int((1 - JOINT) * SIMULATED)] - 1
    inner = np.arange(1, POINTS) / POINTS
    low, high = (ordered[row] / size - inner for row in (allowed, SIMULATED - 1 - allowed))
    return np.pad(low, 1), np.pad(high, 1)  # at the ends all lines meet
