"""Learn classes from few labels and many images without labels: M2 and M1+M2 beside the labels alone.

    python scripts/semi_supervised.py --dataset mnist --labels 100 600 1000 3000 --seeds 5

For each number of labels and each seed (which images have labels), trains a classifier on the labels
alone, M2 (Kingma et al. 2014) and M2 on the code of a VAE, and writes their test error with its
spread over seeds, beside the published one where there is one, as JSON, Markdown and a figure; and
images drawn for each class. Pixels are drawn once with their grey level as probability (digits:
> 1/2). Run again with the same command, it continues where it stopped; with other methods,
labels or seeds, it adds them.
"""

import dataclasses
import math
import statistics
from pathlib import Path
from typing import ClassVar

import command_line
import numpy as np
import torch
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context
from torch import Tensor

import pyrovae.plots as plots
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder, Seed, Threads
from pyrovae.recipes.data_choice import digest_of_parts, with_classes
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.landscape import data as images
from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_asked, read_arrays, write_arrays, write_result
from pyrovae.recipes.semi_supervised import METHODS, PUBLISHED, Labels, Method
from pyrovae.recipes.tables import markdown_table, write_markdown

ROWS = 8
"""Images drawn of each class."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    GROUPS: ClassVar[dict[str, str]] = {"dataset": "run", "method": "training"}

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, or the path of an .npz of images x with labels y."""
    labels: tuple[Count, ...] = (100,)
    """Numbers of labels."""
    methods: str = "supervised,m2,m1+m2"
    """Comma-separated: supervised, m2, m1+m2."""
    seeds: Count = 1
    """How many choices of the labelled images, each with nets of its own."""
    out: OutFolder = Path("runs/semi_supervised")
    """The folder to write to."""
    seed: Seed = 0
    """The first seed."""
    threads: Threads | None = None
    """Of torch; by default as it is."""
    method: Method = dataclasses.field(default_factory=Method)

    def __post_init__(self) -> None:
        bounds.check(self)
        self.names()

    def names(self) -> list[str]:
        return several("--methods", self.methods, METHODS)


@dataclasses.dataclass(frozen=True)
class Data:
    train: Tensor
    y: Tensor
    test: Tensor
    y_test: Tensor
    shape: tuple[int, ...]
    digest: str


def load(s: Comparison) -> Data:
    splits, _ = with_classes(s.dataset, images.load(s.dataset))
    binary = images.binary(splits, "threshold" if s.dataset == "digits" else "static", fixed=False)
    most = max(s.labels)
    if most > len(binary.train):
        raise Refusal(
            f"--labels {most}: {s.dataset} has {len(binary.train)} training images; expected at most as many."
        )
    return Data(
        binary.train,
        splits.train.tensors["y"],
        binary.test,
        splits.test.tensors["y"],
        binary.shape,
        digest_of_parts(splits.train, splits.valid, splits.test),
    )


Work = tuple[str, int, int]
"""A method, a number of labels and a seed."""


def held(s: Comparison, asked: dict) -> list[Work]:
    """What --out has already. Raises Refusal if that is of other settings."""
    works = []
    for path in (s.out / "results").glob("*.json"):
        find_asked(path, asked, s.out)
        name, count, seed = path.stem.rsplit("-", 2)
        works.append((name, int(count), int(seed)))
    return works


def one(s: Comparison, data: Data, work: Work, asked: dict) -> dict:
    """The result of a method: read if it was finished, else made anew."""
    name, count, seed = work
    path = s.out / "results" / f"{name}-{count}-{seed}.json"
    if (found := find_asked(path, asked, s.out)) is not None:
        return found
    torch.manual_seed(seed)
    labels = Labels.choose(data.train, data.y, count, seed)
    learned = METHODS[name](labels, s.method)
    arrays = path.with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, object] = {
        "asked": asked,
        "error": 100 * (1 - learned.accuracy(data.test, data.y_test)),
        "num_data": len(data.test),
    }
    if learned.draw is not None:
        classes = torch.eye(labels.classes).repeat(ROWS, 1)
        drawn = learned.draw(classes).reshape(-1, *data.shape)
        write_arrays(arrays, {"samples": drawn.numpy()})
        write_result(path, result, files=[arrays])
    else:
        write_result(path, result)
    return result


def main(s: Comparison) -> dict[str, dict[str, dict[str, float]]]:
    if s.threads is not None:
        torch.set_num_threads(s.threads)
    data = load(s)
    asked = {
        "method": dataclasses.asdict(s.method) | {"hidden": list(s.method.hidden)},
        "data": data.digest,
    }
    seeds = range(s.seed, s.seed + s.seeds)
    errors: dict[tuple[str, int], list[float]] = {}
    with owned(s.out):
        works = {(name, count, k) for name in s.names() for count in s.labels for k in seeds}
        ordered = sorted(works.union(held(s, asked)), key=place)
        for work in progress_bar(ordered, desc="runs", unit="run"):
            errors.setdefault(work[:2], []).append(one(s, data, work, asked)["error"])
        return write(s, data, errors)


def place(work: Work) -> tuple[int, int, int]:
    """By the number of labels, the method and the seed."""
    name, count, seed = work
    return count, list(METHODS).index(name), seed


def write(
    s: Comparison, data: Data, errors: dict[tuple[str, int], list[float]]
) -> dict[str, dict[str, dict[str, float]]]:
    content: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for (name, count), values in errors.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        mean = statistics.fmean(values)
        content.setdefault(name, {})[str(count)] = {
            "error": mean,
            "spread": spread,
            "seeds": len(values),
            "num_data": len(data.test),
        }
        theirs = PUBLISHED[name].get(count) if s.dataset == "mnist" else None
        rows.append(
            [
                name,
                count,
                in_words(mean, spread),
                len(values),
                "" if theirs is None else in_words(*theirs),
            ]
        )
    write_result(
        s.out / "semi_supervised.json",
        {**content, "dataset": s.dataset, "unit": "test error, per cent"},
    )
    text = markdown_table(
        ["method", "labels", "test error, %", "seeds", "Kingma et al. 2014"], rows
    )
    text += (
        "\n± is the standard deviation over seeds: choices of the labelled images, and nets. "
        f"{s.dataset}, hidden layers of {', '.join(map(str, s.method.hidden))}, {s.method.latent_size} latents, "
        f"{s.method.epochs} epochs, weight {s.method.classifier_weight:g} of the labels.\n"
    )
    write_markdown(s.out / "semi_supervised.md", text)
    plots.save(figures(s, data, content), s.out)
    say(f"{text}\nwritten to {s.out}: semi_supervised.json, semi_supervised.md, figures")
    return content


def in_words(mean: float, spread: float) -> str:
    """A mean with its spread, where that is known."""
    return f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} ± {spread:.2f}"


def figures(
    s: Comparison, data: Data, content: dict[str, dict[str, dict[str, float]]]
) -> dict[str, Figure]:
    lines = {}
    for name, found in content.items():
        counts = [int(count) for count in found]
        lines[name] = plots.Line(
            np.array(counts),
            np.array([one["error"] for one in found.values()]),
            np.array([one["spread"] for one in found.values()]),
        )
        if s.dataset == "mnist":
            theirs = [
                (count, *PUBLISHED[name][count]) for count in counts if count in PUBLISHED[name]
            ]
            if theirs:
                lines[f"{name}, published"] = plots.Line(
                    *(np.array(part) for part in zip(*theirs))
                )
    found = {"errors": plots.comparison(lines, "labels", "test error (per cent)", xlog=True)}
    fewest = min(s.labels)
    for name in content:
        arrays = s.out / "results" / f"{name}-{fewest}-{s.seed}.npz"
        if arrays.exists():
            samples = read_arrays(arrays)["samples"]
            found[f"samples_{name.replace('+', '_')}"] = plots.image_grid(
                samples,
                columns=len(samples) // ROWS,
                title=f"{name}: a class a column, {fewest} labels",
            )
    return found


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Comparison, __doc__))
