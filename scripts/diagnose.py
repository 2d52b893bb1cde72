"""Look for faults of a trained VAE or Bayesian neural network, each with the evidence and a remedy.

    python scripts/diagnose.py runs/DIR

The pair is examined on its training data, a Bayesian net's calibration on the test data; nothing in
the folder changes. Exit status 0, whatever is found.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, Seed
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_deep_vae import TrainedDeepVae
from pyrovae.recipes.trained_vae import TrainedVae


@dataclasses.dataclass(frozen=True)
class Examination:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py, train_deep_vae.py or train_bnn.py."""
    network: FromZero = 0
    """Of a Bayesian neural network with several splits or seeds: the one to examine."""
    max_data: Count = 512
    """At most so many of the training data, chosen at random."""
    num_draws: Count = 200
    """K, draws of posterior and prior; at least 50."""
    num_steps: FromZero = 100
    """Short training steps that show whether training had converged; the weights are put back. 0
    leaves these checks out."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)
        if self.num_draws < 50 or self.max_data < 2:
            raise Refusal(
                f"--num-draws {self.num_draws} and --max-data {self.max_data}: expected at least 50 draws and 2 data."
            )


def main(e: Examination) -> pv.Diagnosis:
    run = pv.load_run(e.folder, device=e.device)
    if e.network >= len(run.pairs):
        raise Refusal(f"--network {e.network}, but the run has {len(run.pairs)}, counted from 0.")
    is_vae = isinstance(run, (TrainedVae, TrainedDeepVae))
    found = pv.diagnose(
        *run.pairs[e.network],
        run.data("train", network=e.network),
        history=run.history,
        loss=run.loss if is_vae else None,
        held_out=None if is_vae else run.data("test", network=e.network),
        max_data=e.max_data,
        num_draws=e.num_draws,
        num_steps=e.num_steps,
        seed=e.seed,
    )
    say(found)
    return found


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Examination, __doc__))
