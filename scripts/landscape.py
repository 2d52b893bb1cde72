"""Train every model family on one data set, and put their log p(x) side by side.

    python scripts/landscape.py --dataset digits --out runs/landscape

    python scripts/landscape.py --families vae,iwae,autoregressive,rbm --out runs/some

Two tables: bits, in nats (independent pixels, mixtures, a Boltzmann machine, autoregressive nets,
VAEs, discrete latents, VQ-VAE, GANs), and dequantised grey levels, in bits per dimension (PCA,
factor analysis, a Gaussian mixture, flows, VAEs, diffusion). Each number says whether it is exact,
a bound, importance-sampled or annealed. Writes landscape.json, landscape.md and a sheet of figures;
run again with the same command, it continues with the families that are missing.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar

import command_line
import torch
import tyro
from progress import progress_bar, say
from script_context import script_context

import pyrovae.plots as plots
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import OutFolder, Seed, Threads
from pyrovae.recipes.data_choice import digest_of_parts
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.landscape import data as landscape_data
from pyrovae.recipes.landscape.families import FAMILIES
from pyrovae.recipes.landscape.family import Budget, Images, Table
from pyrovae.recipes.landscape.report import (
    chosen,
    figures,
    find,
    fit_or_find,
    markdown,
    settings_of,
)
from pyrovae.recipes.name_list import several
from pyrovae.recipes.results import write_result
from pyrovae.recipes.tables import write_markdown

NAMES = (
    "Comma-separated names of families, or all; those that --out already has join the tables. They are: "
    f"{', '.join(FAMILIES)}."
)


@dataclasses.dataclass(frozen=True)
class Landscape:
    GROUPS: ClassVar[dict[str, str]] = {"dataset": "run", "budget": "budget"}

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, binarized-mnist, or the path of images."""
    binarize: landscape_data.Binarize | None = None
    """How grey pixels become bits: drawn once with their grey level as probability (static), or > 1/2
    (threshold); by default threshold for the digits, else static."""
    families: Annotated[str, tyro.conf.arg(help=NAMES)] = "all"
    out: OutFolder = Path("runs/landscape")
    """The folder to write to."""
    seed: Seed = 0
    threads: Threads | None = None
    """Of torch; by default as it is."""
    budget: Budget = dataclasses.field(default_factory=Budget)

    def __post_init__(self) -> None:
        bounds.check(self)
        self.names()

    def usual(self) -> landscape_data.Binarize:
        return self.binarize or ("threshold" if self.dataset == "digits" else "static")

    def names(self) -> list[str]:
        if self.families == "all":
            return list(FAMILIES)
        return several("--families", self.families, FAMILIES)


def main(s: Landscape) -> dict[str, dict]:
    if s.threads is not None:
        torch.set_num_threads(s.threads)
    splits = landscape_data.load(s.dataset)
    digest = digest_of_parts(splits.train, splits.valid, splits.test)
    asked = settings_of(s.budget, digest, s.seed, s.usual())
    folder, results = s.out / "families", {}
    named = chosen([name for name in FAMILIES if name in s.names()])
    held = [one for one in FAMILIES.values() if find(one, folder, asked)]
    families = [one for one in FAMILIES.values() if one in named or one in held]
    tables = {family.table for family in families}
    data: dict[Table, Images] = {}
    if "binary" in tables:
        data["binary"] = landscape_data.binary(splits, s.usual())
    if "real" in tables:
        data["real"] = landscape_data.real(splits)
    with owned(s.out):
        bar = progress_bar(families, desc="landscape", unit="family")
        for family in bar:
            bar.set_postfix_str(family.name)
            torch.manual_seed(s.seed)
            images = data[family.table].scored_on(s.budget.eval_data, s.seed)
            results[family.name] = fit_or_find(family, images, s.budget, folder, asked)
        write(s, results, folder, data)
    return results


def write(s: Landscape, results: dict[str, dict], folder: Path, data: dict[Table, Images]) -> None:
    keys = ("log_px", "se", "kind", "parameters", "seconds", "num_data", "bits_per_dim", "bits_se")
    content = {
        table: {
            name: {key: one[key] for key in keys if key in one}
            for name, one in results.items()
            if one["table"] == table
        }
        for table in data
    }
    about = {"dataset": s.dataset, "binarize": s.usual(), "seed": s.seed}
    budget = dataclasses.asdict(s.budget)
    write_result(s.out / "landscape.json", {**content, **about, "budget": budget})
    text = markdown(results, folder) + budget_in_words(s)
    write_markdown(s.out / "landscape.md", text)
    plots.save(figures(results, folder, data), s.out)
    say(f"{text}\nwritten to {s.out}: landscape.json, landscape.md, {_and(data)}")


def _and(tables: Iterable[str]) -> str:
    return ", ".join(f"landscape_{table}.png" for table in tables)


def budget_in_words(s: Landscape) -> str:
    budget = s.budget
    return (
        f"{s.dataset}, bits by {s.usual()}, seed {s.seed}. "
        f"± is one standard error over test data. Budget of each family: hidden layers of "
        f"{', '.join(map(str, budget.hidden))}, {budget.latent_size} real latents, {budget.components} components; at most "
        f"{budget.epochs} passes through the training data in batches of {budget.batch_size}, ended by {budget.patience} "
        f"without a better validation bound. Importance sampling: K = {budget.num_particles}; annealing: {budget.chains} "
        f"chains, {budget.temperatures} steps. Bounds and sampled values lie below log p(x) in expectation, except the "
        "RBM's, which lies above.\n"
    )


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Landscape, __doc__))
