"""Whether a classifier is right as often as it says."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import MUTED, TRAIN, Array, tidy, to_array
from pyrovae.plots.grid import legend_below, panel_grid

TICKS = (0, 0.25, 0.5, 0.75, 1)


def reliability_diagram(
    panels: Mapping[str, tuple[Array, Array, Array]], *, title: str | None = None
) -> Figure:
    r"""Draw accuracy against confidence, a point a bin, above the share of the data in each bin;
    ECE in the titles.

    Points below the diagonal: more confident than right. Upright lines are 95 % intervals of the
    accuracy (Wilson 1927), so that a bin of few data does not look like a finding.

    Shapes: confidence, accuracy and count (bins,), as `pyrovae.metrics.reliability` gives them
    with bins of equal width; NaN in empty bins.
    Errors: ValueError for no panel, shapes that differ, no data, and a confidence outside its bin
    (`adaptive=True`).

    Source: Guo et al. 2017, arXiv:1706.04599, figure 1, with points for its bars.

    Example:
        >>> import torch
        >>> figure = reliability_diagram({"MAP": (torch.tensor([0.4, 0.9]), torch.tensor([0.5, 0.7]), torch.tensor([2, 8]))})
        >>> figure.axes[0].get_title()
        'MAP\nECE 0.180'
    """
    if not panels:
        raise ValueError(
            "there is no panel to draw, expected some such as {'MAP': reliability(probs, y)}."
        )
    arrays = {name: _check(name, *panel) for name, panel in panels.items()}
    figure, axes = panel_grid(
        list(arrays), most=4, widths=(5.8, 7.6, 2.5), heights=(0.95, 0.8), xlabel="confidence", ylabel="accuracy"
    )  # fmt: skip
    for panel, (name, (confidence, accuracy, count)) in zip(axes, arrays.items()):
        share, bins, full = count / count.sum(), len(count), count > 0
        panel.bar(
            (np.arange(bins) + 0.5) / bins,
            share,
            width=0.9 / bins,
            color=MUTED,
            alpha=0.45,
            label="share of the data",
        )
        panel.plot(
            [0, 1], [0, 1], color="black", linestyle=(0, (4, 2)), linewidth=1, label="calibrated"
        )
        x, y = confidence[full], accuracy[full]
        low, high = _wilson(y, count[full])
        panel.errorbar(
            x, y, [np.clip(y - low, 0, 1), np.clip(high - y, 0, 1)], fmt="o", color=TRAIN, markersize=5, elinewidth=1.2,
            label="accuracy, 95 % interval",
        )  # fmt: skip
        error = (share[full] * np.abs(y - x)).sum()
        tidy(
            panel, title=f"{name}\nECE {error:.3f}", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal"
        )
        panel.set(xticks=TICKS, yticks=TICKS)
        panel.set(xticklabels=["0", "", "0.5", "", "1"], yticklabels=["0", "", "0.5", "", "1"])
    legend_below(figure, ncols=3, title=title)
    return figure


def _check(name: str, *panel: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    confidence, accuracy, count = (to_array(values).astype(float) for values in panel)
    if (
        count.ndim != 1
        or not confidence.shape == accuracy.shape == count.shape
        or not count.sum() > 0
    ):
        raise ValueError(
            f"{name!r} has confidence {confidence.shape}, accuracy {accuracy.shape} and {count.sum():g} data in counts "
            f"{count.shape}, expected three vectors of one length and at least one datum. Use reliability(probs, y)."
        )
    low, full = np.arange(len(count)) / len(count), count > 0
    if not ((confidence >= low - 1e-6) & (confidence <= low + 1 / len(count) + 1e-6))[full].all():
        raise ValueError(
            f"{name!r} has confidences {confidence.round(3).tolist()} that do not lie in {len(count)} bins of equal width. "
            "Use reliability(..., adaptive=False)."
        )
    return confidence, accuracy, count


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z2 = 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = np.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return middle - reach, middle + reach
