"""Run the experiment of a paper at a reduced scale, and print the results beside the published
ones.

    python scripts/reproduce.py iwae --scale 0.01        # 33 of 3280 epochs: both depths, k = 1,
    5, 50

The scale shortens training and its schedules; networks, batch sizes and objectives are those of
the paper, and the differences are printed with the table. Finished runs in --out are kept.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import command_line
import torch
import torch.nn as nn
import tyro
from progress import evidence_bar, progress_bar, say
from script_context import script_context

import pyrovae as pv
from pyrovae.data import Batches
from pyrovae.nets import GatedMLP
from pyrovae.recipes import bounds, nesting
from pyrovae.recipes.bounds import Count, OutFolder, Positive, Seed, Threads
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, read_arrays, write_arrays, write_result
from pyrovae.recipes.tables import markdown_table, write_markdown
from pyrovae.recipes.vae import make_loss, prepare, refuse_set, some_rows
from pyrovae.recipes.vae_pair import build, fit_constants
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.hooks import Checkpoint, HistoryFile, ProgressBar

PARTS = 10
"""Parts of an epoch; the learning rate may change, and a checkpoint is written, after each."""

IWAE = """Published: -log p(x) by 5000 samples after 3280 epochs (arXiv:1509.00519, table 1). Here, as in the authors'
code: eight stages of 3^i epochs with their rates, batches of 20, Glorot-uniform weights, the output bias at the mean
image, eps = 1e-4 (of sums over batches). Differences: rows in random order, a seed for each layer, Adam's second
moments start at 0, test images binarised once with another seed."""
VAMP = """Published: -log p(x) by 5000 samples after up to 2000 epochs (arXiv:1705.07120, table 1). As in the authors'
code: gated nets of 2 x 300, 40 latents, He's initialisation, gradients normalised tensor by tensor before Adam
(5e-4), batches of 100, KL warm-up over 100 epochs (scaled), 500 pseudo-inputs. Differences: no early stopping;
pseudo-inputs start at training data; neither they nor the scales of q are clipped."""
FLOW = """Published: -log p(x) by 1000 samples, static MNIST, a residual convolutional VAE of 40 latents with and
without a RealNVP prior of 20 to 50 steps, 3 runs. Here: the gated nets and the schedule of the VampPrior's code, and
8 coupling steps; only the gain of the prior is comparable, not the level."""


@dataclasses.dataclass(frozen=True)
class Reproduction:
    paper: Annotated[Literal["iwae", "vamp", "flow-prior"], tyro.conf.Positional]
    """iwae: Burda et al. 2016, one and two stochastic layers on dynamically binarised MNIST, k =
    1, 5, 50. vamp: Tomczak & Welling 2018, standard against VampPrior on the fixed binarised
    MNIST. flow-prior: the same nets with a RealNVP prior."""
    scale: Positive = 0.01
    """Fraction of the training of the paper."""
    out: OutFolder = Path("runs/reproduce")
    eval_data: Count = 2000
    """Maximum number of test images to evaluate, chosen at random."""
    eval_particles: Count = 5000
    dataset: str | None = None
    """A data set in place of that of the paper, for a trial."""
    only: tuple[str, ...] = ()
    """Names of the runs to do, e.g. "1 layer, k = 5"; all by default."""
    seed: Seed = 0
    device: str = "auto"
    threads: Threads | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture and compile the training step; auto: if more than four minutes remain after the
    first epoch."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of the table: settings, optimisation and the published result."""

    settings: Settings
    epochs: float
    rates: Callable[[float], float]
    """From the completed fraction of training to the learning rate."""
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    published: str
    warmup: float = 0.0
    """Epochs over which the weight of the KL rises from 0."""


def iwae(scale: float) -> tuple[dict[str, Recipe], str]:
    """Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, table 1, with the schedule of the
    authors' code."""
    published = {
        (1, 1): "86.76",
        (1, 5): "85.54",
        (1, 50): "84.78",
        (2, 1): "85.33",
        (2, 5): "83.89",
        (2, 50): "82.90",
    }

    def rates(done: float) -> float:
        stage = next(i for i in range(1, 9) if done * (3**8 - 1) / 2 < (3**i - 1) / 2 or i == 8)
        return 1e-4 * round(10 ** (1 - (stage - 1) / 7), 1)

    recipes = {}
    for (layers, k), figure in published.items():
        settings = nesting.build(
            Settings,
            dict(
                dataset="mnist",
                latent_dim=(50,) if layers == 1 else (100, 50),
                hidden=(200, 200),
                upper_hidden=(100, 100),
                activation="tanh",
                objective="iwae",
                particles=k,
                batch_size=20,
                valid_size=400,
            ),
        )
        recipes[f"{layers} layer{'s' if layers > 1 else ''}, k = {k}"] = Recipe(
            settings,
            3280 * scale,
            rates,
            lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4 / 20),
            figure,
        )
    return recipes, IWAE


def vamp(scale: float) -> tuple[dict[str, Recipe], str]:
    """Tomczak & Welling 2018, arXiv:1705.07120, table 1 (static MNIST, L = 1), with the schedule
    of the authors' code."""
    return _vamp_nets(scale, {"standard": "88.56", "vamp": "85.57"}), VAMP


def flow_prior(scale: float) -> tuple[dict[str, Recipe], str]:
    """Xu et al. 2019, "On the necessity and effectiveness of learning the prior of VAE"
    (arXiv:1905.13452)."""
    return _vamp_nets(scale, {"standard": "82.95", "flow": "79.99"}), FLOW


def _vamp_nets(scale: float, published: dict[str, str]) -> dict[str, Recipe]:
    settings = nesting.build(
        Settings,
        dict(
            dataset="binarized-mnist",
            latent_dim=(40,),
            hidden=(300, 300),
            net="gated",
            batch_size=100,
            prior_transforms=8,
        ),
    )
    return {
        f"{prior} prior": Recipe(
            nesting.replace(settings, prior=prior),
            2000 * scale,
            lambda done: 5e-4,
            normalized_adam,
            figure,
            warmup=100 * scale,
        )
        for prior, figure in published.items()
    }


def normalized_adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam on each tensor's gradient divided by its norm."""
    optimizer = torch.optim.Adam(parameters, lr=5e-4)

    def normalize(*_: object) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= parameter.grad.norm() + 1e-12

    optimizer.register_step_pre_hook(normalize)
    return optimizer


class Pieces:
    """Batches in parts of an epoch: `fit` treats each pass as an epoch, and the next pass
    continues with the remaining rows."""

    def __init__(self, batches: Batches, steps: int) -> None:
        self.batches, self.steps = batches, steps
        self.source: Iterator | None = None

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(self.steps):
            batch = next(self.source, None) if self.source else None
            if batch is None:
                self.source = iter(self.batches)
                batch = next(self.source)
            yield batch


def run(name: str, recipe: Recipe, ours: Reproduction, device: torch.device) -> dict[str, object]:
    """Train and evaluate one recipe, or read its result from an earlier call."""
    folder = ours.out / f"{ours.paper}-{ours.scale:g}" / name.replace(" ", "").replace(",", "-")
    result = folder / "result.json"
    if (found := find_result(result)) is not None:
        return found
    s = nesting.replace(
        recipe.settings, seed=ours.seed, dataset=ours.dataset or recipe.settings.data.dataset
    )
    torch.manual_seed(s.run.seed)
    data = prepare(s)
    model, guide = build(s, data.shape, data.splits.levels)
    for part in (*model.modules(), *guide.modules()):
        if isinstance(part, GatedMLP):  # as in the VampPrior's code
            for layer in part.layers:
                nn.init.kaiming_normal_(layer.weight)
    x = data.splits.train.tensors["x"]
    fit_constants(model, guide, x, s)
    steps = math.ceil(len(data.train) / PARTS)
    pieces = max(1, round(recipe.epochs * len(data.train) / steps))
    loss = make_loss(
        model,
        guide,
        nesting.replace(s, objective="iwae" if s.objective.objective == "iwae" else "elbo"),
        1,
    )
    if recipe.warmup:
        loss = pv.ElboLoss(
            model, guide, beta=pv.LinearWarmup(max(1, round(recipe.warmup * len(data.train))))
        )
    loss.to(device)
    optimizer = recipe.optimizer(list(loss.parameters()))
    base = optimizer.param_groups[0]["lr"]
    checkpoint = folder / "checkpoint.safetensors"
    start = time.perf_counter()
    history = pv.fit(
        loss,
        Pieces(data.train.to(device), steps),
        epochs=pieces,
        optimizer=optimizer,
        schedule=lambda o: torch.optim.lr_scheduler.LambdaLR(
            o, lambda i: recipe.rates(i / pieces) / base
        ),
        hooks=[Checkpoint(checkpoint), HistoryFile(folder / "history.csv"), ProgressBar(name)],
        compile=ours.compile,
        resume=checkpoint if checkpoint.exists() else None,
    )
    pv.save_weights(loss, folder / "weights.safetensors")
    torch.manual_seed(s.run.seed)
    scored = some_rows(data.test, ours.eval_data, s.run.seed)
    with evidence_bar(scored, ours.eval_particles, desc=f"{name}: log p(x)") as bar:
        evidence = pv.log_evidence(
            model, guide, scored, num_particles=ours.eval_particles, progress=bar.update
        )
    units = pv.evaluate(loss, [{"x": data.train.take(500)["x"]}])["active_units"]
    write_arrays(
        folder / "evidence.npz", {"log_px": evidence.log_px.numpy(), "khat": evidence.khat.numpy()}
    )
    theirs = recipe.settings.data.dataset
    published = recipe.published + (f" ({theirs})" if s.data.dataset != theirs else "")
    row = {
        "run": name,
        "log_px": evidence.mean,
        "se": evidence.mean_se,
        "untrusted": int(evidence.untrusted.sum()),
        "num_data": len(evidence.log_px),
        "num_particles": ours.eval_particles,
        "active_units": units,
        "epochs": pieces * steps / len(data.train),
        "train_seconds": sum(history["seconds"]),
        "seconds": time.perf_counter() - start,
        "published": published,
        "folder": str(folder),
    }
    write_result(result, row, files=[folder / "evidence.npz"])
    return row


def table(rows: list[dict[str, object]], conditions: str, scale: float) -> str:
    """Our results beside the published ones, and the gain of each run over the one above it."""
    head = ["run", "ours, -log p(x)", "better than the row above", "active units", "k-hat > 0.7"]
    head += ["epochs", "training", "published"]
    lines = []
    scores = [read_arrays(Path(row["folder"]) / "evidence.npz")["log_px"] for row in rows]
    nets = [
        row["run"].split(",")[0] if "," in row["run"] else "" for row in rows
    ]  # runs of equal depth are comparable
    for i, row in enumerate(rows):
        gain = ""
        if i and nets[i] == nets[i - 1] and len(scores[i]) == len(scores[i - 1]):
            difference = scores[i] - scores[i - 1]
            gain = (
                f"{difference.mean():.3f} +- {difference.std(ddof=1) / len(difference) ** 0.5:.3f}"
            )
        lines.append(
            [
                row["run"],
                f"{-row['log_px']:.2f} +- {row['se']:.2f}",
                gain,
                row["active_units"],
                f"{row['untrusted']} of {row['num_data']}",
                f"{row['epochs']:.1f}",
                f"{row['train_seconds']:.0f} s",
                row["published"],
            ]
        )
    seen = f"K = {rows[0]['num_particles']}, N = {rows[0]['num_data']}"
    return markdown_table(head, lines) + (
        f"\nScale {scale:g}, {seen}; +- is one standard error over test data, in the third "
        f"column of paired differences. {conditions}\n"
    )


def main(ours: Reproduction) -> None:
    device = choose_device(ours.device)
    if ours.threads:
        torch.set_num_threads(ours.threads)
    if ours.dataset is not None:
        refuse_set(ours.dataset)
    recipes, conditions = {"iwae": iwae, "vamp": vamp, "flow-prior": flow_prior}[ours.paper](
        ours.scale
    )
    if unknown := sorted(set(ours.only) - set(recipes)):
        raise Refusal(f"--only names {unknown}, expected some of {', '.join(map(repr, recipes))}.")
    recipes = {
        name: recipe for name, recipe in recipes.items() if not ours.only or name in ours.only
    }
    out = ours.out / f"{ours.paper}-{ours.scale:g}"
    with owned(out):
        rows = [
            run(name, recipe, ours, device)
            for name, recipe in progress_bar(recipes.items(), desc=ours.paper, unit="run")
        ]
        text = table(rows, conditions, ours.scale)
        write_markdown(out / "table.md", text)
    say(text)


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Reproduction, __doc__))
