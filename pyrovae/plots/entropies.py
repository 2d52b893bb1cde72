"""How sure predictions are of data like the training data, and of other data."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import TRAIN, VALID, Array, tidy, to_array
from pyrovae.plots.grid import legend_below, panel_grid


def entropy_histograms(
    panels: Mapping[str, tuple[Array, Array]],
    *,
    num_classes: int | None = None,
    bins: int = 30,
    labels: tuple[str, str] = ("in distribution", "out of distribution"),
    title: str | None = None,
) -> Figure:
    """Draw the predictive entropies of known and of unknown data, a panel a method, in the same
    bins.

    Heights are shares of each set, whatever its size, on a square-root axis: the first bin often
    holds nearly all known data, and the rest should still be seen. A dotted line marks log C, the
    entropy of no idea at all.

    Shapes: each panel a pair (N,), (M,), in nats. `num_classes` C sets the range 0..log C; None:
    the largest entropy.
    Errors: ValueError for no panel, vectors that are empty, NaN or negative, and entropies above
    log C.

    Example:
        >>> import torch
        >>> figure = entropy_histograms({"MAP": (torch.rand(50), torch.rand(80) + 1)}, num_classes=10)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['in distribution', 'out of distribution', 'log C']
    """
    if not panels:
        raise ValueError(
            "there is no panel to draw, expected some such as {'MAP': (entropy_in, entropy_out)}."
        )
    arrays = {
        name: [to_array(values).astype(float) for values in pair] for name, pair in panels.items()
    }
    most = None if num_classes is None else np.log(num_classes)
    for name, values in (
        (name, values) for pair in arrays.values() for name, values in zip(labels, pair)
    ):
        if (
            values.ndim != 1
            or not len(values)
            or not np.isfinite(values).all()
            or values.min() < -1e-6
            or most is not None
            and values.max() > most + 1e-4
        ):
            raise ValueError(
                f"the entropies {name!r} have shape {values.shape} and range [{values.min(initial=np.inf):.4g}, "
                f"{values.max(initial=-np.inf):.4g}], expected (N,) nats from 0 to "
                f"{'a finite number' if most is None else f'log {num_classes} = {most:.4g}'}."
            )
    highest = most or max(values.max() for pair in arrays.values() for values in pair) or 1.0
    edges = np.linspace(0, highest, bins + 1)
    figure, axes = panel_grid(
        list(arrays), most=3, widths=(6.5, 7.6, 3.2), heights=(0.6, 0.6), xlabel="predictive entropy (nats)",
        ylabel="share of the data",
    )  # fmt: skip
    shares = {
        name: [np.histogram(values.clip(0, highest), edges)[0] / len(values) for values in pair]
        for name, pair in arrays.items()
    }
    for panel, (name, pair) in zip(axes, shares.items()):
        for share, colour in zip(pair, (TRAIN, VALID)):
            panel.stairs(share, edges, fill=True, color=colour, alpha=0.3)
        for share, label, colour, line in zip(pair, labels, (TRAIN, VALID), ("-", (0, (3, 1)))):
            panel.stairs(share, edges, color=colour, linewidth=1.6, linestyle=line, label=label)
        if most is not None:
            panel.axvline(
                most, color="black", linestyle=":", linewidth=1.2, label="log C", clip_on=False
            )
        tidy(panel, title=name)
    axes[0].set_yscale("function", functions=(lambda v: np.sqrt(np.clip(v, 0, None)), np.square))
    axes[0].set(
        xlim=(0, highest),
        ylim=(0, 1.05 * max(share.max() for pair in shares.values() for share in pair)),
    )
    ticks = [
        tick for tick in (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1) if tick <= axes[0].get_ylim()[1]
    ]
    axes[0].set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    legend_below(figure, ncols=3, title=title)
    return figure
