"""Markov chains for all networks of a task, each started at its MAP estimate, on the full training
set."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
import torch.nn as nn
from pyro.infer import NUTS
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.samplers import Chains, Gibbs, hmc, mcmc, noise_variance, random_walk
from pyrovae.bnn.samplers.mcmc import Kernel
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
        warmup, draws = s.inference.hmc_warmup, min(s.inference.draws, s.inference.hmc_samples)
        thin = max(1, s.inference.hmc_samples // draws)
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
                progress=lambda iteration: progress.update(),
            )

    def steps(self, s: BnnSettings) -> int:
        return s.inference.random_walk_steps * 3 // 2


@dataclasses.dataclass(frozen=True)
class PyroKernel:
    """One of Pyro's kernels, one network after another."""

    kernel: Callable[[BnnSettings], Kernel]

    def run(
        self, stacked: pv.Stacked, s: BnnSettings, task: Task, data: Mapping[str, Tensor]
    ) -> Chains:
        warmup, draws = s.inference.hmc_warmup, min(s.inference.draws, s.inference.hmc_samples)
        thin = max(1, s.inference.hmc_samples // draws)
        total = stacked.count * (warmup + draws * thin)
        with progress_bar(total=total, desc="chains", unit="path") as progress:
            chains = [
                self._one(stacked, index, data, s, draws * thin, progress.update)
                for index in range(stacked.count)
            ]
        return _side_by_side(chains, thin)

    def steps(self, s: BnnSettings) -> int:
        paths = s.inference.hmc_warmup + s.inference.hmc_samples
        return paths * (2**s.inference.nuts_depth - 1)

    def _one(
        self,
        stacked: pv.Stacked,
        index: int,
        data: Mapping[str, Tensor],
        s: BnnSettings,
        num_samples: int,
        update: Callable[[], object],
    ) -> Chains:
        own = stacked.member(index)
        return mcmc(
            cast(Callable, own.model),
            stacked.rows(data, index),
            self.kernel(s),
            num_samples=num_samples,
            warmup=s.inference.hmc_warmup,
            start=cast(PointEstimate, own.guide).values(),
            compile=s.run.compile,
            progress=lambda iteration: update(),
        )


def _side_by_side(chains: Sequence[Chains], thin: int) -> Chains:
    """Every `thin`-th draw of chains of one network each."""
    keep = slice(thin - 1, None, thin)
    return Chains(
        {
            name: torch.cat([one.draws[name][keep] for one in chains], 1)
            for name in chains[0].draws
        },
        torch.cat([one.accept[keep] for one in chains], 1),
        torch.cat([one.energy[keep] for one in chains], 1),
        torch.cat([one.divergent[keep] for one in chains], 1),
        torch.cat([one.step_size for one in chains]),
    )


def nuts(s: BnnSettings) -> Kernel:
    return lambda model: NUTS(model, max_tree_depth=s.inference.nuts_depth)


def gibbs(s: BnnSettings) -> Kernel:
    """Weights by NUTS, and the noise variance by its conditional."""
    return lambda model: Gibbs(model, nuts(s), variance=noise_variance())


def refuse_gibbs(s: BnnSettings, task: Task) -> None:
    """Raise Refusal unless the model has a variance whose conditional is known."""
    if task.kind != "regression" or s.model.noise != "shared":
        given = task.kind if task.kind != "regression" else f"--noise {s.model.noise}"
        raise Refusal(
            f"gibbs draws the noise variance of a regression with --noise shared, here {given}; choose nuts or hmc."
        )
