"""Model families side by side: draws, log p(x), and what each can do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pyrovae.plots.canvas import MUTED, TRAIN, VALID, Array, gap_of, mosaic, tidy, to_images

KINDS = {
    "exact": ("o", TRAIN),
    "bound": ("^", VALID),
    "importance": ("s", "#009e73"),
    "annealed": ("D", "#cc79a7"),
}
"""Marker and colour of each kind of estimate."""


class Entry(NamedTuple):
    """One row of `landscape`."""

    name: str
    samples: Array
    value: float
    se: float
    kind: str
    abilities: Mapping[str, bool]


def landscape(
    entries: Sequence[Entry], data: Array, *, unit: str, title: str | None = None
) -> Figure:
    """Draw a row a family: images drawn from it, its score with a bar of one standard error, and
    marks for what it can do; the first row shows data.

    Shapes: samples and data (n, C, H, W) in [0, 1]; as many columns of images as data, at most.
    kind: "exact", "bound", "importance" or "annealed", each with a marker of its own.
    Errors: ValueError without entries, for unknown kinds, and for entries that differ in their
        abilities.

    Example:
        >>> import torch
        >>> row = Entry("vae", torch.rand(6, 1, 8, 8), -17.2, 0.2, "importance", {"code": True})
        >>> len(landscape([row], torch.rand(6, 1, 8, 8), unit="nats").axes)
        4
    """
    if not entries:
        raise ValueError("there are no entries, expected at least one family.")
    if unknown := {entry.kind for entry in entries} - KINDS.keys():
        raise ValueError(f"the kinds {sorted(unknown)} are unknown, expected {', '.join(KINDS)}.")
    words = list(entries[0].abilities)
    if any(list(entry.abilities) != words for entry in entries):
        raise ValueError("entries differ in their abilities, expected the same words for all.")
    shown = to_images(data)
    rows, columns = len(entries) + 1, len(shown)
    figure = Figure(figsize=(12.0, 0.52 * rows + 1.4), layout="constrained")
    grid = figure.add_gridspec(rows, 3, width_ratios=[1.5, 1.3, 0.2 * len(words)])
    for index, images in enumerate([data, *(entry.samples for entry in entries)]):
        axes = figure.add_subplot(grid[index, 0])
        pixels = to_images(images)[:columns]
        axes.imshow(mosaic(pixels, columns, gap_of(pixels)), cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        name = "data" if index == 0 else entries[index - 1].name
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    scores = figure.add_subplot(grid[1:, 1])
    heights = range(len(entries))
    for kind, (marker, colour) in KINDS.items():
        chosen = [(height, one) for height, one in zip(heights, entries) if one.kind == kind]
        if chosen:
            scores.errorbar(
                [one.value for _, one in chosen],
                [height for height, _ in chosen],
                xerr=[one.se for _, one in chosen],
                fmt=marker,
                color=colour,
                markersize=5.5,
                elinewidth=1.2,
                capsize=2.5,
                label=kind,
            )
    for height, entry in zip(heights, entries):
        scores.annotate(
            f"{entry.value:.2f}",
            (entry.value, height),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color="#444444",
        )
    scores.set_ylim(len(entries) - 0.5, -0.5)
    scores.set_yticks([])
    scores.margins(x=0.12)
    scores.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    tidy(scores, title="", xlabel=unit, ylabel="")
    able = figure.add_subplot(grid[1:, 2])
    for column, word in enumerate(words):
        for height, entry in zip(heights, entries):
            has = entry.abilities[word]
            able.plot(
                column,
                height,
                marker="o",
                markersize=6,
                markerfacecolor=TRAIN if has else "white",
                markeredgecolor=TRAIN if has else MUTED,
            )
    able.set_xlim(-0.6, len(words) - 0.4)
    able.set_ylim(len(entries) - 0.5, -0.5)
    able.set_yticks([])
    able.set_xticks(range(len(words)), words, rotation=40, ha="left", fontsize=8)
    able.xaxis.tick_top()
    able.tick_params(length=0)
    able.spines[:].set_visible(False)
    figure.legend(
        *scores.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
