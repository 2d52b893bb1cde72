"""Predict new data with a trained Bayesian neural network.

    python scripts/predict.py runs/DIR rows.csv --out predictions.csv

A table has the columns of the training data by name, in any order; further columns are kept. The
predictions stand beside them: mean, lower, upper, aleatoric, epistemic for regression (standard
deviations, and the interval of --level), or predicted, p_CLASS for each class, entropy (in nats).
Where the target is known, prints scores with standard errors over the rows.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
from pyrovae.metrics.summary import MeanError
from pyrovae.recipes import bounds
from pyrovae.recipes.bnn_settings import Probability
from pyrovae.recipes.bounds import Count, OutFile, Seed
from pyrovae.recipes.prediction_table import beside, columns_of, read_rows, scores_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_arrays
from pyrovae.recipes.tables import write_csv
from pyrovae.recipes.trained_bnn import TrainedBnn
from pyrovae.recipes.wording import share


@dataclasses.dataclass(frozen=True)
class Predicting:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_bnn.py."""
    data: Annotated[str, tyro.conf.Positional]
    """The path of a .csv, .tsv, .npy or .npz file (x, and y where it is known); for classifiers also
    a named set (digits, mnist, ...), an IDX file or a folder of images."""
    out: OutFile = Path("predictions.csv")
    """The .csv or .npz file to write."""
    level: Probability = 0.9
    """Probability of the interval from lower to upper."""
    num_samples: Count | None = None
    """Draws of the weights; by default as in the run."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(s: Predicting) -> Path:
    if s.out.suffix not in (".csv", ".npz"):
        raise Refusal(f"--out {s.out}: expected the name of a .csv or .npz file.")
    if s.out.exists() and s.out.resolve() == Path(s.data).expanduser().resolve():
        raise Refusal(f"--out {s.out} would overwrite the data; choose another file.")
    run = pv.load_run(s.folder, device=s.device)
    if not isinstance(run, TrainedBnn):
        raise Refusal(f"{s.folder} holds a VAE, which predicts no y; expected a Bayesian net.")
    rows = read_rows(s.data, run.layout)
    draws = {"num_samples": s.num_samples, "seed": s.seed}
    log_density = None if rows.y is None else run.log_predictive(rows.x, rows.y, **draws)
    found = run.predict(rows.x, level=s.level, **draws)
    columns = columns_of(found)
    if s.out.suffix == ".csv":
        write_csv(s.out, beside(rows.table, columns))
    else:
        write_arrays(s.out, {name: value.numpy() for name, value in columns.items()})
    if rows.y is not None and log_density is not None:
        scores = scores_of(found, rows.y, log_density)
        say(
            "; ".join(f"{name} {_with_error(name, each)}" for name, each in scores.items())
            + f"; N = {len(rows)}, ± one standard error over the rows"
        )
    say(f"{len(rows)} predictions of {run.path} written to {s.out}")
    return s.out


def _with_error(name: str, score: MeanError) -> str:
    if name.startswith(("accuracy", "coverage")) and score.mean in (0, 1):
        return share(score.mean, 0.0, of=f"{score.n}", spec=".4g")
    return f"{score.mean:.4g} ± {score.se:.2g}"


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Predicting, __doc__))
