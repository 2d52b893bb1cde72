"""How good are samples, with no need of a density? Fréchet and kernel distance, precision, recall, classes.

    python scripts/sample_quality.py runs/digits runs/landscape --out runs/sample_quality

Takes folders of train_vae.py and of landscape.py (all families), trains a classifier on the images
that the models were trained on, and compares samples with test images by its features. Models of
the same images share a classifier and a table. Training images as they are, blurred, and without a
class are scored beside them: they show what each score sees and where it misleads. Writes
sample_quality.json and sample_quality.md.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar

import command_line
import torch
import tyro
from progress import progress_bar, say
from script_context import script_context

from pyrovae.metrics import MeanError
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import OutFolder, Range, Seed, Threads
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_result
from pyrovae.recipes.sample_quality import SCORES, Net, controls, scores_of, train_classifier
from pyrovae.recipes.sample_sources import Source, sources_of
from pyrovae.recipes.tables import markdown_table, write_markdown

Samples = Annotated[int, Range(100)]
MISLEADING = """± is one standard error: over samples (precision), over test images (recall), by leaving out a
twentieth of both (the others); that of the training of model and classifier is not in it. Where each score misleads:

* Fréchet distance: sees means and covariances of features alone, and is above 0 for perfect samples, the more so the fewer:
  compare with the training data, at equal numbers. One fault cannot be told from another by it.
* Kernel distance: unbiased, so near 0 it may be negative; it weighs large features most, by their cubes.
* Precision: a few typical images score 1; data far from all others have large balls that forgive anything; and features
  that ignore a fault, such as blur or noise of single pixels, let it pass.
* Recall: samples that are spread widely have large balls, so noise beside good images costs nothing.
* Class coverage: sees nothing within a class, and takes the classifier at its word on images that are none.

Distances depend on the classifier: they compare within one table, and with no published FID or KID. No score sees
copies of training images: the training data are the best row. log p(x) sees both faults; see landscape.py.
"""


@dataclasses.dataclass(frozen=True)
class Quality:
    GROUPS: ClassVar[dict[str, str]] = {"folders": "run", "net": "classifier"}

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs of train_vae.py, and of landscape.py."""
    num: Samples = 1000
    """Samples of each model, at most."""
    max_data: Samples = 2000
    """Test images, at most; chosen at random."""
    out: OutFolder = Path("runs/sample_quality")
    """The folder to write to."""
    seed: Seed = 0
    """Of the samples of VAEs, and of the classifier."""
    threads: Threads | None = None
    """Of torch; by default as it is."""
    net: Net = dataclasses.field(default_factory=Net)

    def __post_init__(self) -> None:
        bounds.check(self)
        if not self.folders or len(set(self.folders)) < len(self.folders):
            raise Refusal("expected one or more different folders.")


def main(s: Quality) -> dict[str, dict]:
    if s.threads is not None:
        torch.set_num_threads(s.threads)
    groups: dict[str, list[Source]] = {}
    with owned(s.out):
        for folder in s.folders:
            for source in sources_of(folder, s.num, s.seed):
                groups.setdefault(source.key, []).append(source)
        tables = {}
        for sources in groups.values():
            title = sources[0].data
            while title in tables:
                title += ", other images"
            tables[title] = score(s, sources)
        return write(s, tables)


def score(s: Quality, sources: list[Source]) -> dict:
    """Scores of the controls and of every model of the same images."""
    images = sources[0].images.some(s.max_data, s.seed)
    torch.manual_seed(s.seed)
    classifier = train_classifier(images, s.net)
    compared = controls(images, min(s.num, *(len(one.samples) for one in sources)))
    num = len(next(iter(compared.values())))
    everything = compared | {one.name: one.samples[:num] for one in sources}
    bar = progress_bar(everything.items(), desc="scoring", unit="set")
    found = {
        name: scores_of(classifier, images, samples, neighbours=s.net.neighbours)
        for name, samples in bar
    }
    rows = {
        name: {key: {"value": one.mean, "se": one.se} for key, one in scores.items()}
        for name, scores in found.items()
    }
    return {"num_samples": num, "num_data": len(images.test), "scores": rows}


def write(s: Quality, tables: dict[str, dict]) -> dict[str, dict]:
    text = ""
    for title, table in tables.items():
        rows = [
            [
                name,
                *(_cell(key, MeanError(one["value"], one["se"], 0)) for key, one in row.items()),
            ]
            for name, row in table["scores"].items()
        ]
        text += (
            f"**{title}**: {table['num_samples']:,} samples of each against {table['num_data']:,} test images\n\n"
            f"{markdown_table(['samples of', *SCORES.values()], rows)}\n"
        )
    text += MISLEADING
    settings = dataclasses.asdict(s.net)
    write_result(s.out / "sample_quality.json", {"tables": tables, "classifier": settings})
    write_markdown(s.out / "sample_quality.md", text)
    say(f"{text}\nwritten to {s.out}: sample_quality.json, sample_quality.md")
    return tables


def _cell(key: str, found: MeanError) -> str:
    digits = 1 if key in ("frechet", "kernel") else 3
    return f"{found.mean:.{digits}f} ± {found.se:.{digits}f}"


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Quality, __doc__))
