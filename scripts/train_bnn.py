"""Train a Bayesian neural network with one method, save it, score it and plot its predictions.

    python scripts/train_bnn.py --dataset diabetes --method bbb --out runs/bbb

    python scripts/train_bnn.py --dataset rows.csv --target price

writes run.json (settings, versions, metrics), history.csv, weights.safetensors, an ArviZ file,
figures and, for regression, predictor/: one network trained on all rows, for predict.py.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import command_line
import torch
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.recipes import bounds
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_figures import bands, figures, refuse_bands
from pyrovae.recipes.bnn_methods import EXPLAINED, METHODS, RULES
from pyrovae.recipes.bnn_predictor import train_predictor
from pyrovae.recipes.bnn_report import markdown, to_arviz
from pyrovae.recipes.bnn_scores import score
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import epochs_of
from pyrovae.recipes.bnn_train import stored_guides, train
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.bounds import OutFolder
from pyrovae.recipes.machine import choose_device, peak_memory_mib
from pyrovae.recipes.run_folder import Folder, OnceAccepted
from pyrovae.recipes.setting_rules import Rule
from pyrovae.recipes.wording import counted
from pyrovae.training.hooks import Checkpoint, HistoryFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    GROUPS: ClassVar[dict[str, str]] = {"method": "method", "ood": "data", "bands": "run"}
    RULES: ClassVar[dict[str, Rule]] = RULES

    method: Annotated[Literal[tuple(METHODS)], tyro.conf.arg(help=EXPLAINED)] = "bbb"
    settings: BnnSettings
    ood: str | None = None
    """Out-of-distribution data for a classifier: digits, mnist, fashion-mnist, kmnist, noise,
    photographs (patches of the two that ship with scikit-learn), or a PATH."""
    bands: bool = False
    """Also train the method on toy data, a synthetic 1-D set with a gap, and plot its predictive
    bands (regression only)."""
    predictor: bool = True
    """Of a regression set, also train one network on all rows, to predict new ones with."""
    out: OutFolder | None = None
    """Folder of the run; by default a new one under runs/."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""

    def __post_init__(self) -> None:
        bounds.check(self)

    @property
    def seed(self) -> int:
        return self.settings.run.seed


POINT = "Point estimate of w: the KL is -log p(w) and the ELBO log p(y, w), each per datum"


def main(t: Training) -> Path:
    default = (
        f"runs/{Path(t.settings.data.dataset).stem}-{t.method}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    with Folder.for_run(t, "train_bnn.py", default) as folder:
        return _main(t, folder)


def _main(t: Training, folder: Folder) -> Path:
    s, method, start = t.settings, METHODS[t.method], time.perf_counter()
    device, task = choose_device(s.run.device), load_task(s)
    torch.set_num_threads(s.run.threads or 1)
    unknown = load_unknown(t.ood, task) if t.ood else None
    refuse_bands(t.bands, task)
    facts = task.facts()
    if t.resume:
        folder.refuse_other_data(str(facts["sha256"]))
    networks = counted(task.num_splits * s.run.seeds, "network")
    say(
        f"{task.name}: {task.num_data} training data of {task.num_features} features, "
        f"{networks}, {counted(epochs_of(s, task), 'epoch')} on {device}; writing to {folder.path}"
    )
    earlier = folder.read().get("train_seconds", 0.0) if t.resume else 0.0
    trained = train(
        method,
        s,
        task,
        device=device,
        resume=folder.resumed_from(t.resume),
        draws=folder.path / "draws",
        chains_file=folder.checkpoint,
        hooks=(
            OnceAccepted(lambda: folder.begin(t, device=device, data=facts)),
            Checkpoint(folder.checkpoint),
            HistoryFile(folder.history),
        ),
    )
    pv.save_weights(trained.loss, folder.weights)
    if (guides := stored_guides(method, trained.pairs)) is not None:
        pv.save_weights(guides, folder.posterior)
    history = trained.history
    seconds = earlier + trained.seconds if history is None else sum(history["seconds"])
    trained = dataclasses.replace(trained, seconds=seconds)  # those of earlier sessions too
    scores = score(trained, s, task, unknown)
    folder.record(
        metrics=scores.summary(),
        train_seconds=trained.seconds,
        steps=trained.steps,
        num_samples=trained.num_samples,
        wall_seconds=time.perf_counter() - start,
    )
    to_arviz(trained, task, folder.path / "arviz.nc")
    if t.predictor and task.kind == "regression":
        say(f"{task.name}: one more network on all rows, to predict new ones with")
        train_predictor(method, s, task, folder.path, device=device, resume=t.resume)
    say(
        f"trained {trained.steps} steps in {trained.seconds:.0f} s; {counted(trained.num_samples, 'weight sample')} "
        f"in a prediction; mean ± standard error over "
        f"splits and seeds\n\n{markdown({t.method: scores.summary()})}\n"
        f"peak memory: {peak_memory_mib() or float('nan'):.0f} MiB"
    )
    drawn = figures({t.method: scores}, task)
    if t.bands and not (folder.figures / "bands.png").exists():
        drawn["bands"] = bands([method], s)
    if trained.history is not None:
        drawn["history"] = plots.curves(
            trained.history.columns(), title=POINT if method.is_point else None
        )
    plots.save(drawn, folder.figures)
    pictures = ", ".join(sorted(path.name for path in folder.figures.glob("*.png")))
    say(f"pictures: {pictures} in {folder.figures}")
    return folder.path


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Training, __doc__))
    sys.exit(0)
