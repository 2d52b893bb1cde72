"""The latent space: where the data went, and which dimensions carry them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from pyrovae.plots.canvas import MUTED, TRAIN, Array, tidy, to_array


def latent_scatter(
    z: Array,
    y: Array | None = None,
    *,
    dims: Sequence[int] = (0, 1),
    standard_prior: bool = True,
    title: str | None = None,
) -> Figure:
    """Scatter two latent coordinates, coloured by label, with the 1 and 2 sigma circles of the
    N(0, I) prior.

    Of a two-dimensional standard normal, 39 % lies within the inner circle and 86 % within the
    outer: data far outside, or a hole inside, mean an aggregate posterior that is not the prior.
    `standard_prior=False` leaves the circles out, where the prior is another.

    Shapes: z (N, D), D >= 2; y (N,) or None. Up to 20 different labels become a legend, more a
    colour bar.
    Errors: ValueError for other shapes, and for dims that are equal or outside 0..D - 1.

    Example:
        >>> import torch
        >>> figure = latent_scatter(torch.randn(50, 2), torch.arange(50) % 3)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['0', '1', '2']
    """
    z = to_array(z)
    if z.ndim != 2 or z.shape[1] < 2 or len(z) == 0:
        raise ValueError(f"z has shape {z.shape}, expected (N, D) with N >= 1 and D >= 2.")
    if len(dims) != 2 or dims[0] == dims[1] or not all(0 <= dim < z.shape[1] for dim in dims):
        raise ValueError(
            f"dims is {tuple(dims)}, expected two different ones of 0..{z.shape[1] - 1}."
        )
    across, up = z[:, dims[0]], z[:, dims[1]]
    figure = Figure(figsize=(5.2 if y is None else 6.0, 5.5), layout="constrained")
    axes = figure.subplots()
    alpha = float(np.clip(0.8 * (3000 / len(z)) ** 0.5, 0.15, 0.8))
    style: dict[str, Any] = {
        "s": float(np.clip(15000 / len(z), 4, 25)),
        "alpha": alpha,
        "linewidths": 0,
        "rasterized": True,
    }
    if y is None:
        axes.scatter(across, up, color=TRAIN, **style)
    else:
        y = to_array(y)
        if y.shape != (len(z),):
            raise ValueError(
                f"y has shape {y.shape}, expected ({len(z)},): one label for each row of z."
            )
        classes = np.unique(y)
        if len(classes) <= 20:
            colours = color_sequences["tab10" if len(classes) <= 10 else "tab20"]
            order = np.searchsorted(classes, y)
            # one call in data order, so that no class hides another by being drawn last
            axes.scatter(across, up, c=[colours[index] for index in order], **style)
            handles = [
                Line2D([], [], linestyle="", marker="o", color=colour, label=f"{label}")
                for label, colour in zip(classes, colours, strict=False)
            ]
            figure.legend(
                handles=handles, loc="outside right upper", frameon=False, handletextpad=0.1
            )
        else:
            points = axes.scatter(across, up, c=y, cmap="viridis", **style)
            bar = figure.colorbar(points, ax=axes, shrink=0.8)
            bar.outline.set_visible(False)
            if bar.solids is not None:
                bar.solids.set_alpha(1)
    if standard_prior:
        for radius in (1, 2):
            axes.add_patch(
                Circle(
                    (0, 0), radius, fill=False, edgecolor="black", linestyle="--", linewidth=1.2
                )
            )
        prior = Line2D([], [], color="black", linestyle="--", label="prior, 1 and 2 sigma")
        figure.legend(handles=[prior], loc="outside lower center", frameon=False)
    tidy(axes, xlabel=f"latent {dims[0]}", ylabel=f"latent {dims[1]}", title=title or "")
    low, high = min(across.min(), up.min(), -2.2), max(across.max(), up.max(), 2.2)
    axes.set(xlim=(1.05 * low, 1.05 * high), ylim=(1.05 * low, 1.05 * high), aspect="equal")
    return figure


def kl_per_dim(kl: Array, *, threshold: float | None = 0.01, title: str | None = None) -> Figure:
    """Draw the KL of each latent dimension from the prior as bars, largest first, named by its own
    index.

    Dimensions at or below `threshold` nats are drawn as inactive; None draws all alike. Not to be
    confused with the active units of Burda et al. 2016 (arXiv:1509.00519, section 5.2), which
    count dimensions whose posterior *mean* varies by more than 0.01 over the data.

    Shapes: kl (D,), averaged over data. Units: nats per datum.
    Errors: ValueError for another shape, for no dimension, and for values that are not finite.

    Example:
        >>> import torch
        >>> figure = kl_per_dim(torch.tensor([0.002, 1.5, 0.4]))
        >>> [round(float(bar.get_height()), 3) for bar in figure.axes[0].patches]
        [1.5, 0.4, 0.002]
    """
    kl = to_array(kl).astype(float)
    if kl.ndim != 1 or len(kl) == 0:
        raise ValueError(
            f"kl has shape {kl.shape}, expected (D,). Average over data first: kl.mean(0)."
        )
    if not np.isfinite(kl).all():
        raise ValueError(
            f"kl is not finite in dimensions {np.flatnonzero(~np.isfinite(kl)).tolist()}."
        )
    order = np.argsort(-kl, kind="stable")
    active = np.full(len(kl), True) if threshold is None else kl[order] > threshold
    figure = Figure(
        figsize=(float(np.clip(0.22 * len(kl) + 1.5, 4.5, 11)), 3.4), layout="constrained"
    )
    axes = figure.subplots()
    axes.bar(range(len(kl)), kl[order], width=0.8, color=np.where(active, TRAIN, MUTED))
    tidy(
        axes,
        xlabel="latent dimension",
        ylabel="KL (nats per datum)",
        title=title or "KL per latent dimension",
    )
    axes.grid(False, axis="x")
    axes.set_xlim(-0.7, len(kl) - 0.3)
    every = -(-len(kl) // 40)
    axes.set_xticks(range(0, len(kl), every), order[::every], rotation=90 if len(kl) > 20 else 0)
    for label, alive in zip(axes.get_xticklabels(), active[::every], strict=True):
        label.set_color("black" if alive else MUTED)
    if threshold is not None:
        handles = [
            Patch(color=TRAIN, label=f"active: {active.sum()} of {len(kl)}"),
            Patch(color=MUTED, label=f"inactive: {(~active).sum()}, at most {threshold:g} nats"),
        ]
        figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=2)
    return figure
