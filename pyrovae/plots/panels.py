"""What the KL of several runs is made of."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pyrovae.plots.canvas import MUTED, TRAIN, tidy


def kl_parts(
    names: Sequence[str],
    information: Sequence[float],
    marginal: Sequence[float],
    *,
    title: str | None = None,
) -> Figure:
    """Draw a bar a run, the first on top: mutual information, then the marginal KL after it;
    together they are the KL.

    Estimates below zero, which are noise about zero, are drawn as zero.

    Shapes: names, information and marginal (n,), in nats per datum, as `pyrovae.elbo_surgery`
    gives them.
    Errors: ValueError for no run, and for lists of different lengths.

    Example:
        >>> figure = kl_parts(["collapsed", "free bits"], [0.0, 3.9], [0.0, 0.2])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['collapsed', 'free bits']
    """
    if not len(names) or not len(names) == len(information) == len(marginal):
        raise ValueError(
            f"{len(names)} names, {len(information)} mutual informations and {len(marginal)} marginal KLs, expected as "
            "many of each and at least one."
        )
    figure = Figure(figsize=(7.0, 0.38 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    first, second = (
        np.clip(np.asarray(part, dtype=float), 0, None) for part in (information, marginal)
    )
    axes.barh(rows, first, height=0.6, color=TRAIN, label="mutual information I(x; z)")
    axes.barh(rows, second, left=first, height=0.6, color=MUTED, label="marginal KL(q(z) || p(z))")
    axes.set_yticks(rows, list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    tidy(axes, title=title or "", xlabel="KL(q(z | x) || p(z)), nats per datum")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
