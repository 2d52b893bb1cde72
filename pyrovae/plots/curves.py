"""Training curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from pyrovae.plots.canvas import TRAIN, VALID, tidy

PANELS = {
    "ELBO (nats per datum)": ("elbo", "valid_elbo"),
    "Reconstruction (nats per datum)": ("reconstruction", "valid_reconstruction"),
    "KL (nats per datum)": ("kl", "valid_kl"),
    "Active units": ("active_units",),
}


@runtime_checkable
class Table(Protocol):
    """What has its series in columns, as the `History` that `fit` returns."""

    columns: Callable[[], Mapping[str, Sequence[float]]]


def curves(
    history: Mapping[str, Sequence[float]] | Table,
    *,
    title: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw ELBO, reconstruction, KL (training and validation on one axis) and active units against
    the epoch.

    history: what `fit` returns, or a mapping from the names of series to their numbers. names: other
    words for "ELBO", "Reconstruction" or "KL", where the objective is another.

    A panel whose series are missing, empty or all NaN is left out, and so are active units whose
    number never changes, which the title of the KL states instead; NaNs within a series are
    skipped, so a validation every fifth epoch is still a line. The limits of an axis are Tukey's
    outer fences (quartiles -+ 3 interquartile ranges) of what it shows, so that the wild first
    epochs do not flatten the rest; the last value is always inside, and the picture says how many
    points are not.

    Keys: epoch, elbo, reconstruction, kl, valid_elbo, valid_reconstruction, valid_kl,
        active_units; others (beta, lr) are ignored. `epoch` defaults to 1, 2, .... Units: nats per
        datum; ELBO and reconstruction, E_q log p(x | z): larger is better.
    Errors: ValueError when nothing can be drawn, and when a series and `epoch` differ in length;
        TypeError for what is neither a history nor a mapping.

    Example:
        >>> history = {"elbo": [-200.0, -120.0, -110.0], "valid_elbo": [float("nan"), -121.0, -112.0]}
        >>> [axes.get_title() for axes in curves(history).axes]
        ['ELBO (nats per datum)']
    """
    # of a data frame `columns` is no method
    found: Any = history
    if isinstance(history, Table) and callable(history.columns):
        found = history.columns()
    if not hasattr(found, "get"):  # as mappings and data frames have
        raise TypeError(
            f"history is {type(found).__name__}, expected what fit returned, or a mapping from names such as "
            f"{next(iter(PANELS.values()))[0]!r} to numbers."
        )
    series = {key: _points(found, key) for keys in PANELS.values() for key in keys}
    panels = {name: keys for name, keys in PANELS.items() if any(len(series[key]) for key in keys)}
    units = set(series["active_units"][:, 1].tolist())
    if len(units) == 1 and (kl := "KL (nats per datum)") in panels:
        del panels["Active units"]
        panels = {
            f"{name}; {units.pop():g} active units" if name == kl else name: keys
            for name, keys in panels.items()
        }
    if not panels:
        raise ValueError(
            f"history holds {sorted(found)} and no finite value to draw, expected one or more of {sorted(series)}. "
            "Pass what fit returned, after at least one epoch."
        )
    width = 2 if len(panels) == 4 else len(panels)
    rows = -(-len(panels) // width)
    figure = Figure(
        figsize=(4.0 * width, 2.9 * rows + 0.3),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )
    for axes, (name, keys) in zip(
        figure.subplots(rows, width, squeeze=False).flat, panels.items(), strict=True
    ):
        _panel(axes, name, {key: series[key] for key in keys if len(series[key])})
        first = name.split(" (")[0]
        axes.set_title(name.replace(first, (names or {}).get(first, first), 1))
    if title is not None:
        figure.suptitle(title)
    return figure


def _points(history: Mapping[str, Sequence[float]], key: str) -> np.ndarray:
    """Return the finite (epoch, value) points of one series, (T, 2)."""
    values = np.asarray(history.get(key, []), dtype=float)
    epochs = np.asarray(history.get("epoch", np.arange(1, len(values) + 1)), dtype=float)
    if len(values) and len(values) != len(epochs):
        raise ValueError(
            f"history[{key!r}] has {len(values)} values for {len(epochs)} epochs, expected one for each."
        )
    return np.stack([epochs[: len(values)], values], axis=-1)[np.isfinite(values)]


def _panel(axes: Axes, name: str, series: Mapping[str, np.ndarray]) -> None:
    for key, points in series.items():
        valid = key.startswith("valid_")
        axes.plot(
            *points.T, color=VALID if valid else TRAIN, label="validation" if valid else "training",
            linewidth=1.6, marker="o" if len(points) <= 15 else "", markersize=4,
        )  # fmt: skip
    tidy(axes, title=name, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    epochs = np.concatenate([points[:, 0] for points in series.values()])
    if epochs.min() == epochs.max():
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    if name == "Active units":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(-0.3, 1.1 * max(points[:, 1].max() for points in series.values()) + 0.5)
        return
    low, high = _limits(list(series.values()))
    axes.set_ylim(low, high)
    outside = sum(
        int(((points[:, 1] < low) | (points[:, 1] > high)).sum()) for points in series.values()
    )
    note = f"{outside} points outside" if outside else None
    axes.legend(frameon=False, loc="best", title=note)


def _limits(series: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the y-limits: all values within Tukey's outer fences and every last value, plus 5 %."""
    values = np.concatenate([points[:, 1] for points in series])
    lower, upper = np.percentile(values, [25, 75])
    reach = 3 * (upper - lower)
    keep = values[(values >= lower - reach) & (values <= upper + reach)]
    keep = np.concatenate([keep, [points[-1, 1] for points in series]])
    margin = 0.05 * (keep.max() - keep.min()) or 0.05 * abs(keep.max()) or 1.0
    return float(keep.min() - margin), float(keep.max() + margin)
