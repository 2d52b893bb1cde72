"""Score data by how unusual they are to a trained VAE, and how well the scores tell two sets apart.

    python scripts/score.py runs/DIR DATA [--against OTHER] --out scores

    python scripts/score.py runs/DIR DATA --against-class 9

DATA and OTHER are named sets (their test parts), or files or folders of rows as the run's own.
Writes scores.csv, a row a datum (log p(x) with its Monte Carlo error, and every score, larger for
unusual data), scores.json with their means and, against another set, the AUROC and AUPR of each,
and histograms.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import torch
import tyro
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches, DictDataset
from pyrovae.evidence.result import standard_error
from pyrovae.recipes import bounds
from pyrovae.recipes.anomaly import (
    EXPLAINED,
    Detection,
    Scores,
    anomaly_scores,
    conclusion,
    detection,
)
from pyrovae.recipes.bounds import Count, FromZero, OutFolder, Seed
from pyrovae.recipes.new_data import NewData, Split, read_data, split_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_result
from pyrovae.recipes.tables import markdown_table, write_csv
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae import some_rows
from pyrovae.recipes.wording import share


@dataclasses.dataclass(frozen=True)
class Scoring:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py."""
    data: Annotated[str, tyro.conf.Positional]
    """Usual data: a named set (digits, mnist, fashion-mnist, kmnist, binarized-mnist), or the path
    of an .npy, .npz, .csv or IDX file, or of a folder of images."""
    against: str | None = None
    """Another set, to be told from the first."""
    against_class: int | None = None
    """A class of DATA, by its label, to be told from the data of the other classes."""
    split: Split | None = None
    """Of named sets: the part to score, by default test."""
    out: OutFolder = Path("scores")
    """The folder to write to."""
    num_particles: Count = 500
    """K of log p(x)."""
    regret_steps: FromZero = 50
    """Gradient steps by which q(z | x) is refined for the likelihood regret; 0 leaves it out."""
    max_data: Count = 500
    """At most so many data of each set, chosen at random."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(s: Scoring) -> Path:
    run = pv.load_run(s.folder, device=s.device)
    if not isinstance(run, TrainedVae):
        raise Refusal(
            f"{s.folder} holds no run of train_vae.py; --ood of train_bnn.py scores other data for Bayesian nets."
        )
    if run.settings.model.guide == "point":
        raise Refusal(f"{s.folder} holds an autoencoder, which has no log p(x) to score data by.")
    usual_set, *other_sets = sets = _read(s, run)
    batches = {data.name: _batch(s, run, data) for data in sets}
    usual = _mean_log_px(s, run)
    scores = {}
    for name, batch in batches.items():
        with progress_bar(
            total=len(batch["x"]) * s.num_particles, desc=name, unit=" particles", unit_scale=True
        ) as bar:
            scores[name] = anomaly_scores(
                run,
                batch,
                usual=usual,
                num_particles=s.num_particles,
                regret_steps=s.regret_steps,
                seed=s.seed,
                progress=bar.update,
            )
    s.out.mkdir(parents=True, exist_ok=True)
    write_csv(s.out / "scores.csv", [row for name in scores for row in _rows(name, scores[name])])
    result: dict[str, object] = {
        "run": str(run.path),
        "unit": "nats",
        "num_particles": s.num_particles,
        "train_log_px": usual,
        "sets": {name: _summary(found) for name, found in scores.items()},
    }
    for name, found in scores.items():
        say(
            f"{name}: log p(x) {found.log_px.mean():.3f} +- {standard_error(found.log_px):.3f} nats (N = "
            f"{len(found.log_px)}, K = {s.num_particles}; k-hat > 0.7 for {int(found.untrusted.sum())})"
        )
    if other_sets:
        detected, lines = _compare(scores[usual_set.name], scores[other_sets[0].name])
        result |= {
            "detection": {name: dataclasses.asdict(one) for name, one in detected.items()},
            "conclusion": lines,
        }
        say("\n" + _table(detected) + "\n" + "\n".join(lines))
    write_result(s.out / "scores.json", result, files=[s.out / "scores.csv"])
    plots.save({"scores": _histograms(scores)}, s.out)
    say(f"written to {s.out}: scores.csv, scores.json, scores.png")
    return s.out


def _read(s: Scoring, run: TrainedVae) -> list[NewData]:
    """DATA and, if there is one, the other set, named as the user calls them."""
    if s.against is not None and s.against_class is not None:
        raise Refusal("--against and --against-class each give another set; give one.")
    if s.against == s.data:
        raise Refusal("--against names the same set as DATA, so there is nothing to tell apart.")
    given = [s.data] if s.against is None else [s.data, s.against]
    split = split_of(s.split, *given)
    data = dataclasses.replace(read_data(s.data, split=split, columns=run.columns), name=s.data)
    if s.against is not None:
        other = read_data(s.against, split=split, option="--against", columns=run.columns)
        return [data, dataclasses.replace(other, name=s.against)]
    if s.against_class is None:
        return [data]
    own = None if data.y is None else data.y == s.against_class
    if own is None or not own.any() or own.all():
        what = "has no labels" if own is None else f"has it in {own.sum()} of {len(own)} data"
        raise Refusal(
            f"--against-class {s.against_class}: {s.data} {what}; expected some data of the class and some others."
        )
    return [
        dataclasses.replace(data.rows(rows), name=f"{s.data}, {name} {s.against_class}")
        for rows, name in ((~own, "without"), (own, "class"))
    ]


def _batch(s: Scoring, run: TrainedVae, data: NewData) -> dict[str, Tensor]:
    data = data.sample(s.max_data, s.seed)
    c = data.y if run.settings.data.condition == "label" else data.c
    return run.batch(data.x, c=c, seed=s.seed)


def _mean_log_px(s: Scoring, run: TrainedVae) -> float:
    """Of training data as the run saw them."""
    train = run.data("train")
    rows = some_rows(train, s.max_data, s.seed)
    fixed = Batches(DictDataset(**rows.take(len(rows.data))), 500)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        return pv.log_evidence(run.model, run.guide, fixed, num_particles=s.num_particles).mean


def _rows(name: str, scores: Scores) -> list[dict[str, object]]:
    columns = {
        "log_px": scores.log_px,
        "log_px_se": scores.log_px_se,
        "untrusted": scores.untrusted.int(),
    }
    columns |= {f"score_{score}": values for score, values in scores.values.items()}
    return [
        {
            "set": name,
            "row": index,
            **{key: values[index].item() for key, values in columns.items()},
        }
        for index in range(len(scores.log_px))
    ]


def _summary(scores: Scores) -> dict[str, object]:
    return {
        "num_data": len(scores.log_px),
        "log_px": scores.log_px.mean().item(),
        "log_px_se": standard_error(scores.log_px),
        "untrusted": int(scores.untrusted.sum()),
        **{
            f"score_{name}": {"mean": values.mean().item(), "se": standard_error(values)}
            for name, values in scores.values.items()
        },
    }


def _compare(usual: Scores, other: Scores) -> tuple[dict[str, Detection], list[str]]:
    detected = {
        name: detection(values, other.values[name]) for name, values in usual.values.items()
    }
    means = float(usual.log_px.mean()), float(other.log_px.mean())
    return detected, conclusion(detected, means)


def _table(detected: dict[str, Detection]) -> str:
    rows = [
        (
            name,
            share(one.auroc, one.auroc_se, of="pairs"),
            share(one.aupr, one.aupr_se, of="pairs"),
            EXPLAINED[name],
        )
        for name, one in detected.items()
    ]
    return markdown_table(("score", "AUROC", "AUPR", "what it measures"), rows)


def _histograms(scores: dict[str, Scores]) -> Figure:
    names = list(scores)
    pairs = {
        score: {Path(name).name: scores[name].values[score] for name in names}
        for score in scores[names[0]].values
    }
    return plots.score_histograms(pairs)


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Scoring, __doc__))
