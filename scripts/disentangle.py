"""Do single latent dims stand for single factors? VAE, beta-VAE, capacity, beta-TC-VAE and FactorVAE.

    python scripts/disentangle.py --seeds 5 --out runs/disentangle

Trains each method and seed on every image of a drawn set of sprites (shape, scale, x, y; rotation),
and writes MIG, SAP, ELBO, KL and total correlation with their spread over seeds as JSON, Markdown
and figures, and traversals of the first seed. Run again with the same command, it continues where
it stopped; with other methods or seeds, it adds them.
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import command_line
import torch
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context

import pyrovae.plots as plots
from pyrovae.core.digests import digest_of
from pyrovae.data import load_sprites
from pyrovae.data.sprites import FACTORS
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder, Seed, Threads
from pyrovae.recipes.disentanglement import METHODS, Images, Method, train
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.latent_figures import FARTHEST, STEPS
from pyrovae.recipes.name_list import several
from pyrovae.recipes.results import find_asked, read_arrays, write_arrays, write_result
from pyrovae.recipes.tables import markdown_table, write_markdown

SCORES = {
    "mig": "MIG",
    "sap": "SAP",
    "elbo": "ELBO, nats",
    "kl": "KL, nats",
    "total_correlation": "total correlation, nats",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    GROUPS: ClassVar[dict[str, str]] = {"size": "run", "method": "training"}

    size: Count = 16
    """Height and width of the images: even, 16 or more. There are 9 (size / 2)^2 for each rotation."""
    rotations: Count = 1
    """Rotations of each shape over a quarter turn."""
    methods: str = ",".join(METHODS)
    """Comma-separated names of methods."""
    seeds: Count = 3
    """How many nets of each method."""
    out: OutFolder = Path("runs/disentangle")
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


def held(s: Comparison, asked: dict) -> list[tuple[str, int]]:
    """Methods and seeds that --out has already. Raises Refusal if they are of other settings."""
    works = []
    for path in (s.out / "results").glob("*.json"):
        find_asked(path, asked, s.out)
        name, seed = path.stem.rsplit("-", 1)
        works.append((name, int(seed)))
    return works


def one(s: Comparison, data: Images, asked: dict, name: str, seed: int) -> dict:
    """The result of a method: read if it was finished, else made anew."""
    path = s.out / "results" / f"{name}-{seed}.json"
    if (found := find_asked(path, asked, s.out)) is not None:
        return found
    torch.manual_seed(seed)
    start = time.perf_counter()
    trained = train(name, data, s.method)
    seconds = time.perf_counter() - start
    images, dims = trained.traversals(data)
    information = trained.information(data)
    arrays = path.with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"traversals": images, "dims": dims, "information": information}
    write_arrays(arrays, {key: value.numpy() for key, value in values.items()})
    result: dict[str, object] = {"asked": asked, "seconds": seconds, **trained.scores(data)}
    write_result(path, result, files=[arrays])
    return result


def main(s: Comparison) -> dict[str, dict[str, float]]:
    if s.threads is not None:
        torch.set_num_threads(s.threads)
    data = Images.of(load_sprites(size=s.size, rotations=s.rotations))
    digest = digest_of({"x": data.x, "factors": data.factors})
    settings = dataclasses.asdict(s.method) | {"hidden": list(s.method.hidden)}
    asked = {"method": settings, "data": digest}
    results: dict[str, list[dict]] = {}
    with owned(s.out):
        works = {(name, s.seed + seed) for name in s.names() for seed in range(s.seeds)}
        names = list(METHODS)
        ordered = sorted(
            works.union(held(s, asked)), key=lambda work: (names.index(work[0]), work[1])
        )
        bar = progress_bar(ordered, desc="runs", unit="run")
        for name, seed in bar:
            bar.set_postfix_str(f"{name}, seed {seed}")
            results.setdefault(name, []).append(one(s, data, asked, name, seed))
        return write(s, data, results)


def write(
    s: Comparison, data: Images, results: Mapping[str, list[dict]]
) -> dict[str, dict[str, float]]:
    content, rows = {}, []
    for name, found in results.items():
        summary: dict[str, float] = {"seeds": len(found)}
        cells = []
        for key in SCORES:
            values = [one[key] for one in found]
            mean = statistics.fmean(values)
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            summary |= {key: mean, f"{key}_spread": spread}
            cells.append(f"{mean:.3f}" + (f" ± {spread:.3f}" if len(values) > 1 else ""))
        seconds = statistics.fmean(one["seconds"] for one in found)
        content[name] = {**summary, "seconds": seconds}
        rows.append([name, *cells, len(found), f"{seconds:.0f}"])
    about = {"size": s.size, "rotations": s.rotations, "seed": s.seed, "images": len(data.x)}
    method = dataclasses.asdict(s.method)
    write_result(s.out / "disentangle.json", {"methods": content, **about, "settings": method})
    text = markdown_table(["method", *SCORES.values(), "seeds", "seconds"], rows)
    text += (
        f"\nHidden layers of {', '.join(map(str, s.method.hidden))}, {s.method.epochs} epochs. "
        f"{len(data.x)} images of {s.size} x {s.size} pixels, all trained on and scored. ± is the standard deviation over "
        "seeds (nets). MIG and SAP are 1 where each factor has a dim of its own and 0 where no dim knows more than "
        "another; the factor shape, which has no order, can add at most 1 - 1/3 to the mean of SAP.\n"
    )
    write_markdown(s.out / "disentangle.md", text)
    plots.save(figures(s, content), s.out)
    say(f"{text}\nwritten to {s.out}: disentangle.json, disentangle.md, figures")
    return content


def figures(s: Comparison, content: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    found = {}
    for key in ("mig", "sap"):
        values = [one[key] for one in content.values()]
        spreads = [one[f"{key}_spread"] for one in content.values()]
        unit = f"{SCORES[key]}, mean and standard deviation over seeds"
        found[key] = plots.scores(list(content), values, spreads, unit=unit)
    factors = FACTORS if s.rotations > 1 else FACTORS[:-1]
    for name in content:
        path = s.out / "results" / f"{name}-{s.seed}.npz"
        if not path.exists():
            continue
        arrays = read_arrays(path)
        known = ", ".join(
            f"{dim} {factors[row.argmax()]} ({row.max():.1f})"
            for dim in arrays["dims"]
            for row in [arrays["information"][dim]]
        )
        found[f"traversals_{name.replace('-', '_')}"] = plots.image_grid(
            arrays["traversals"],
            columns=STEPS,
            title=f"{name}: a dim a row, from -{FARTHEST} to {FARTHEST}\nbest known factor (nats): {known}",
        )
    return found


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Comparison, __doc__))
