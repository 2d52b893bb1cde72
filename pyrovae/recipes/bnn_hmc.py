"""Hamiltonian Monte Carlo for all networks of a task side by side."""

from collections.abc import Sequence

import torch.nn as nn

import pyrovae as pv
from pyrovae.bnn.samplers.hmc import Chains, hmc
from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches, StackedBatches
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.training.hooks import ProgressBar


def run_chains(
    loss: nn.Module,
    losses: Sequence[nn.Module],
    s: BnnSettings,
    task: Task,
    data: Batches | StackedBatches,
) -> Chains:
    """One chain for each network, started at its MAP estimate, on the full training set.

    loss: the stacked losses, or the one loss there is.
    """
    stacked = loss if isinstance(loss, pv.Stacked) else pv.Stacked(losses, shared=True)
    pv.fit(
        stacked,
        data,
        epochs=max(1, epochs_of(s, task) // 2),
        lr=s.run.lr,
        compile=s.run.compile,
        hooks=[ProgressBar("mode for hmc")],
    )
    thin = max(1, s.inference.hmc_samples // s.inference.draws)
    with progress_bar(
        total=s.inference.hmc_warmup + s.inference.draws * thin, desc="HMC", unit="path"
    ) as progress:
        return hmc(
            stacked,
            data.data.tensors,
            num_data=task.num_data,
            num_samples=s.inference.draws,
            thin=thin,
            warmup=s.inference.hmc_warmup,
            num_steps=s.inference.hmc_leapfrogs,
            step_size=1e-3,
            progress=lambda iteration: progress.update(),
        )


def gradient_steps(s: BnnSettings) -> int:
    """The leapfrog steps of one chain."""
    return (s.inference.hmc_warmup + s.inference.hmc_samples) * s.inference.hmc_leapfrogs
