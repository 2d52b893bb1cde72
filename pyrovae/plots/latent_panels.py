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
    panels: Mapping[str, Array],
    y: Array | Mapping[str, Array] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Scatter codes, a panel a model or a set of data, with the 1 and 2 sigma circles of the
    N(0, I) prior. Each panel has a scale of its own; the circles show it.

    y: class labels, up to 20: one array for all panels, or a mapping from the name of a panel to
    its own; a panel that it does not name is of one colour, as are all for None.

    Shapes: each panel z (N, 2), its labels (N,); N may differ from panel to panel.
    Errors: ValueError for no panel, other shapes, and labels of a panel that is not there.

    Example:
        >>> import torch
        >>> figure = latent_panels({"a": torch.randn(50, 2), "b": 5 * torch.randn(30, 2)})
        >>> [axes.get_title() for axes in figure.axes]
        ['a', 'b']
    """
    arrays = {name: to_array(z) for name, z in panels.items()}
    if not arrays or any(z.ndim != 2 or z.shape[1] != 2 or len(z) == 0 for z in arrays.values()):
        shapes = [z.shape for z in arrays.values()]
        raise ValueError(f"codes have shapes {shapes}, expected (N, 2) in at least one panel.")
    labels = _labels(arrays, y)
    classes = np.unique(np.concatenate([*labels.values()])) if labels else np.empty(0)
    palette = color_sequences["tab10" if len(classes) <= 10 else "tab20"]
    figure = Figure(
        figsize=(4.0 * len(arrays), 5.0),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12),
    )
    axes_of = figure.subplots(1, len(arrays), squeeze=False)[0]
    handles = [Line2D([], [], color="black", linestyle="--", label="prior, 1 and 2 sigma")]
    handles += [
        Line2D([], [], linestyle="", marker="o", color=palette[i % len(palette)], label=f"{one}")
        for i, one in enumerate(classes)
    ]
    for axes, (name, z) in zip(axes_of, arrays.items()):
        colours: list[object] | str = TRAIN
        if name in labels:
            order = np.searchsorted(classes, labels[name])
            colours = [palette[index % len(palette)] for index in order]
        size = float(np.clip(15000 / len(z), 4, 25))
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


def _labels(
    arrays: Mapping[str, np.ndarray], y: Array | Mapping[str, Array] | None
) -> dict[str, np.ndarray]:
    """The labels of each panel that has some."""
    given = y if isinstance(y, Mapping) else {} if y is None else dict.fromkeys(arrays, y)
    labels = {name: to_array(one) for name, one in given.items()}
    for name, one in labels.items():
        if name not in arrays:
            raise ValueError(f"y names {name!r}, expected names of panels: {list(arrays)}.")
        if one.shape != arrays[name].shape[:1]:
            raise ValueError(
                f"y has shape {one.shape}, expected ({len(arrays[name])},), one label for each code of {name!r}."
            )
    return labels
