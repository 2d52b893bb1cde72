"""Markov chains for all networks of a task, each started at its MAP estimate, on the full training
set."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.samplers import Chains, hmc, noise_variance, random_walk, stacked_nuts
from pyrovae.bnn.samplers.gibbs import Draw
from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches, StackedBatches
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.training.hooks import ProgressBar


class Sampler(Protocol):
    """How a method runs its chains."""

    def run(
        self, stacked: pv.Stacked, s: BnnSettings, task: Task, data: Mapping[str, Tensor]
    ) -> Chains:
        """One chain for each network, from where its parameters are. data: all of each network."""

    def steps(self, s: BnnSettings) -> int:
        """Steps of one chain: evaluations of the density or of its gradient, at most."""


def at_modes(
    loss: nn.Module,
    losses: Sequence[nn.Module],
    s: BnnSettings,
    task: Task,
    data: Batches | StackedBatches,
) -> pv.Stacked:
    """The stacked losses at their MAP estimates."""
    stacked = loss if isinstance(loss, pv.Stacked) else pv.Stacked(losses, shared=True)
    pv.fit(
        stacked,
        data,
        epochs=max(1, epochs_of(s, task) // 2),
        lr=s.run.lr,
        compile=s.run.compile,
        hooks=[ProgressBar("start of chains")],
    )
    return stacked


@dataclasses.dataclass(frozen=True)
class Hamiltonian:
    """HMC of all networks side by side."""

    def run(
        self, stacked: pv.Stacked, s: BnnSettings, task: Task, data: Mapping[str, Tensor]
    ) -> Chains:
        warmup, draws, thin = _paths(s)
        with progress_bar(total=warmup + draws * thin, desc="HMC", unit="path") as progress:
            return hmc(
                stacked,
                data,
                num_data=task.num_data,
                num_samples=draws,
                thin=thin,
                warmup=warmup,
                num_steps=s.inference.hmc_leapfrogs,
                step_size=1e-3,
                compile=s.run.compile,
                progress=lambda iteration: progress.update(),
            )

    def steps(self, s: BnnSettings) -> int:
        return (s.inference.hmc_warmup + s.inference.hmc_samples) * s.inference.hmc_leapfrogs


@dataclasses.dataclass(frozen=True)
class RandomWalk:
    """Random-walk Metropolis of all networks side by side."""

    def run(
        self, stacked: pv.Stacked, s: BnnSettings, task: Task, data: Mapping[str, Tensor]
    ) -> Chains:
        draws, steps = s.inference.draws, s.inference.random_walk_steps
        thin = max(1, steps // draws)
        total = steps // 2 + draws * thin
        with progress_bar(total=total, desc="random walk", unit="step") as progress:
            return random_walk(
                stacked,
                data,
                num_data=task.num_data,
                num_samples=draws,
                thin=thin,
                warmup=steps // 2,
                compile=s.run.compile,
                progress=lambda iteration: progress.update(),
            )

    def steps(self, s: BnnSettings) -> int:
        return s.inference.random_walk_steps * 3 // 2


@dataclasses.dataclass(frozen=True)
class NoUTurn:
    """NUTS of all networks side by side."""

    draws: Mapping[str, Draw] = dataclasses.field(default_factory=dict)
    """Sites that are drawn from their conditionals between paths."""

    def run(
        self, stacked: pv.Stacked, s: BnnSettings, task: Task, data: Mapping[str, Tensor]
    ) -> Chains:
        warmup, draws, thin = _paths(s)
        with progress_bar(total=warmup + draws * thin, desc="NUTS", unit="path") as progress:
            return stacked_nuts(
                stacked,
                data,
                num_data=task.num_data,
                num_samples=draws,
                thin=thin,
                warmup=warmup,
                max_depth=s.inference.nuts_depth,
                draws=self.draws,
                compile=s.run.compile,
                progress=lambda iteration: progress.update(),
            )

    def steps(self, s: BnnSettings) -> int:
        paths = s.inference.hmc_warmup + s.inference.hmc_samples
        return paths * (2**s.inference.nuts_depth - 1)


NUTS = NoUTurn()
GIBBS = NoUTurn({"variance": noise_variance()})
"""Weights by NUTS, and the noise variance by its conditional."""


def _paths(s: BnnSettings) -> tuple[int, int, int]:
    """Paths of the warm-up, draws that are kept of each chain, and the paths between two of them."""
    draws = min(s.inference.draws, s.inference.hmc_samples)
    return s.inference.hmc_warmup, draws, max(1, s.inference.hmc_samples // draws)


def chains_of(s: BnnSettings) -> int:
    return s.inference.chains


def refuse_gibbs(s: BnnSettings, task: Task) -> None:
    """Raise Refusal unless the model has a variance whose conditional is known."""
    if task.kind != "regression" or s.model.noise != "shared":
        given = task.kind if task.kind != "regression" else f"--noise {s.model.noise}"
        raise Refusal(
            f"gibbs draws the noise variance of a regression with --noise shared, here {given}; choose nuts or hmc."
        )
