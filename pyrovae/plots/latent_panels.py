"""Two-dimensional latent spaces of several models, side by side."""

from collections.abc import Mapping

import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from pyrovae.plots.canvas import TRAIN, Array, tidy, to_array


def latent_panels(
    panels: Mapping[str, Array], y: Array | None = None, *, title: str | None = None
) -> Figure:
    """Scatter the codes of the same data under each model, a panel a model, with the 1 and 2 sigma
    circles of the N(0, I) prior. Each panel has a scale of its own; the circles show it.

    Shapes: each panel z (N, 2); y (N,) class labels, up to 20, or None.
    Errors: ValueError for no panel and for other shapes.

    Example:
        >>> import torch
        >>> figure = latent_panels({"a": torch.randn(50, 2), "b": 5 * torch.randn(50, 2)})
        >>> [axes.get_title() for axes in figure.axes]
        ['a', 'b']
    """
    arrays = {name: to_array(z) for name, z in panels.items()}
    labels = None if y is None else to_array(y)
    sizes = {z.shape for z in arrays.values()}
    if len(sizes) != 1 or next(iter(sizes))[1:] != (2,):
        raise ValueError(f"codes have shapes {sorted(sizes)}, expected one (N, 2) for all panels.")
    count = len(next(iter(arrays.values())))
    if labels is not None and labels.shape != (count,):
        raise ValueError(f"y has shape {labels.shape}, expected ({count},).")
    figure = Figure(
        figsize=(4.0 * len(arrays), 5.0),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12),
    )
    axes_of = figure.subplots(1, len(arrays), squeeze=False)[0]
    handles = [Line2D([], [], color="black", linestyle="--", label="prior, 1 and 2 sigma")]
    colours: list[object] | str = TRAIN
    if labels is not None:
        classes, order = np.unique(labels, return_inverse=True)
        palette = color_sequences["tab10" if len(classes) <= 10 else "tab20"]
        colours = [palette[index % len(palette)] for index in order]
        handles += [
            Line2D(
                [], [], linestyle="", marker="o", color=palette[i % len(palette)], label=f"{one}"
            )
            for i, one in enumerate(classes)
        ]
    size = float(np.clip(15000 / count, 4, 25))
    for axes, (name, z) in zip(axes_of, arrays.items()):
        axes.scatter(z[:, 0], z[:, 1], c=colours, s=size, alpha=0.6, linewidths=0, rasterized=True)
        for radius in (1, 2):
            axes.add_patch(
                Circle(
                    (0, 0), radius, fill=False, edgecolor="black", linestyle="--", linewidth=1.2
                )
            )
        reach = 1.05 * max(2.2, float(np.abs(z).max()))
        tidy(axes, xlabel="latent 0", ylabel="latent 1", title=name)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    figure.legend(handles=handles, loc="outside lower center", ncols=11, frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure
