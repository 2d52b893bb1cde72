"""Train a small VAE on the digits and measure the variance of five estimators of the gradient of
the guide during training.

For the ELBO with one sample: the score function, the reparameterised gradient and "sticking the
landing"; for the importance-weighted bound with K = 10: the plain and the doubly reparameterised
gradient. All are measured at the same weights on the same batch. Writes
gradient_variance.csv and gradient_variance.png, in less than a minute.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import pyro
import torch
from progress import progress_bar, say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import load_digits
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.posteriors import NonReparameterized
from pyrovae.priors import StandardNormal
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, OutFolder, Positive, Range, Seed, Some, Threads
from pyrovae.recipes.tables import write_csv
from pyrovae.training.hooks import ProgressBar
from pyrovae.training.run import Run

X = 64


@dataclasses.dataclass(frozen=True)
class Study:
    epochs: Annotated[tuple[FromZero, ...], Some()] = (0, 1, 3, 10, 30, 100)
    """Epochs after which the gradients are measured; training ends after the last one."""
    latent_dim: Count = 10
    hidden: tuple[Count, ...] = (100,)
    particles: Count = 10
    """K of the importance-weighted bound."""
    draws: Annotated[int, Range(2)] = 200
    """Number of gradients of each estimator at each of the epochs."""
    batch_size: Count = 100
    lr: Positive = 2e-3
    seed: Seed = 0
    threads: Threads = 1
    out: OutFolder = Path("runs/gradient-variance")

    def __post_init__(self) -> None:
        bounds.check(self)


def estimators(
    model: pv.Model, encoder: NormalHead, particles: int
) -> dict[str, dict[str, torch.nn.Module]]:
    """Objective -> estimator -> loss, all on the same weights."""
    guide, scored = (pv.Guide(z=pv.Node(q, "x")) for q in (encoder, NonReparameterized(encoder)))
    return {
        "ELBO, one draw": {
            "score function": pv.ElboLoss(model, scored),
            "reparameterised": pv.ElboLoss(model, guide),
            "sticking the landing": pv.IwaeLoss(
                model, guide, num_particles=1, gradient="stl", alpha=1.0
            ),
        },
        f"IWAE bound, K = {particles}": {
            "plain": pv.IwaeLoss(model, guide, num_particles=particles),
            "doubly reparameterised": pv.IwaeLoss(
                model, guide, num_particles=particles, gradient="dreg"
            ),
        },
    }


def measure(
    loss: torch.nn.Module, batch: dict[str, torch.Tensor], draws: int
) -> tuple[float, float]:
    """|E g|^2, corrected for the variance of the sample mean, and E |g - E g|^2 of the gradient g
    of the guide."""
    moments = [
        parts
        for name, parts in gradient_moments(loss, batch, draws).items()
        if name.startswith("guide.")
    ]
    variance = sum(part.sum().item() for _, part in moments)
    return sum(mean.square().sum().item() for mean, _ in moments) - variance / draws, variance


def study(s: Study) -> list[dict[str, object]]:
    torch.set_num_threads(s.threads)
    pyro.set_rng_seed(s.seed)
    train, _, test = load_digits().batches("threshold", batch_size=s.batch_size, flatten=True)
    encoder = NormalHead(MLP(X, s.hidden, 2 * s.latent_dim, torch.nn.Tanh))
    model = pv.Model(
        z=StandardNormal(s.latent_dim),
        x=pv.Node(BernoulliHead(MLP(s.latent_dim, s.hidden, X, torch.nn.Tanh)), "z"),
    )
    panels, batch, rows = estimators(model, encoder, s.particles), test.take(s.batch_size), []
    bar = progress_bar(total=len(s.epochs) * sum(map(len, panels.values())), desc="gradients")

    def look(epoch: int) -> None:
        for objective, losses in panels.items():
            for name, loss in losses.items():
                signal, variance = measure(loss, batch, s.draws)
                rows.append(
                    {
                        "epoch": epoch,
                        "objective": objective,
                        "estimator": name,
                        "squared_mean": signal,
                        "variance": variance,
                        "draws": s.draws,
                        "batch_size": s.batch_size,
                    }
                )
                bar.update()

    def after_epoch(run: Run) -> None:
        if run.epoch in s.epochs:
            look(run.epoch)

    if 0 in s.epochs:
        look(0)
    if max(s.epochs):
        pv.fit(
            panels["ELBO, one draw"]["reparameterised"],
            train,
            epochs=max(s.epochs),
            lr=s.lr,
            hooks=[after_epoch, ProgressBar()],
        )
    bar.close()
    return rows


def main(s: Study) -> None:
    rows = study(s)
    write_csv(s.out / "gradient_variance.csv", rows)
    panels: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        panels.setdefault(row["objective"], {}).setdefault(row["estimator"], []).append(
            row["variance"]
        )
    epochs = sorted(set(s.epochs))
    plots.save({"gradient_variance": plots.gradient_variance(epochs, panels)}, s.out)
    for objective, series in panels.items():
        say(
            f"{objective}: total variance of the guide's gradient on {s.batch_size} digits after epochs "
            f"{', '.join(map(str, epochs))}"
        )
        for name, values in series.items():
            say(f"  {name:24s}" + "".join(f"{value:12.4g}" for value in values))
    say(f"written to {s.out}")


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Study, __doc__))
