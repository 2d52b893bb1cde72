"""Train all networks of a task with one method, and rebuild them from files."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pyro
import torch
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.guides import MCDropout, MeanField, PointEstimate
from pyrovae.bnn.samplers import Chains, Collect
from pyrovae.data import Batches, DictDataset, StackedBatches
from pyrovae.recipes.bnn_chains import load_chains, save_chains
from pyrovae.recipes.bnn_method import Method, stack
from pyrovae.recipes.bnn_posteriors import Fitted, Pair
from pyrovae.recipes.bnn_samplers import at_modes
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.training.history import History
from pyrovae.training.hooks import Begins, ProgressBar
from pyrovae.training.run import Run

Hooks = Sequence[Callable[[Any], object]]


class StopAfter:
    """A hook that ends training after the epoch in which `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, time.perf_counter()

    def __call__(self, run: Run) -> None:
        run.stop = run.stop or time.perf_counter() - self.start > self.seconds


@dataclasses.dataclass
class Trained:
    """The pair of each problem, and facts about training."""

    pairs: list[Pair]
    num_samples: int
    history: History | None
    seconds: float
    steps: int
    loss: nn.Module
    chains: Chains | None = None
    num_chains: int = 1
    """Markov chains of each problem."""


def train(
    method: Method,
    s: BnnSettings,
    task: Task,
    *,
    hooks: Hooks = (),
    seconds: float | None = None,
    device: torch.device = torch.device("cpu"),
    resume: Path | None = None,
    draws: Path | None = None,
    chains_file: Path | None = None,
) -> Trained:
    """Train all networks of the task (splits times seeds times members) side by side.

    seconds: a limit on the training time, checked after each epoch. draws: a folder where kept
    draws are written, for resuming. chains_file: where finished Markov chains are written;
    `resume` reads them.
    """
    pyro.set_rng_seed(s.run.seed)
    losses = method.build_losses(s, task)
    first = {name: value[0, : s.run.batch_size] for name, value in task.train.tensors.items()}
    pv.check(losses[0].model, losses[0].guide, first, num_data=task.num_data)
    loss = stack(losses, task).to(device)
    data = _batches(task, s, len(losses), device)
    epochs = epochs_of(s, task)
    method.refuse(s, task)
    collect = _collect(method, loss, s, epochs, draws)
    start = time.perf_counter()
    hooks = [
        *([collect] if collect is not None else []),
        *method.hooks(s, task),
        *hooks,
        *([StopAfter(seconds)] if seconds else []),
        ProgressBar(method.name),
    ]
    history = chains = None
    if method.chains is not None:
        for hook in hooks:
            if isinstance(hook, Begins):
                hook.begin(cast(Any, None))  # `fit`, which has a run, is not called
        if resume is not None:
            chains = load_chains(loss, resume)
        else:
            stacked = at_modes(loss, losses, s, task, data)
            chains = method.chains.run(stacked, s, task, data.data.tensors)
            if chains_file is not None:
                save_chains(chains, loss, chains_file)
    else:
        local = s.inference.local_reparameterization and isinstance(
            losses[0].guide, (MeanField, MCDropout)
        )
        history = pv.fit(
            method.objective(loss, s),
            data,
            epochs=epochs,
            optimizer=method.optimization.optimizer(s, task),
            schedule=method.optimization.schedule(epochs),
            hooks=hooks,
            compile=s.run.compile,
            context=pv.LocalReparameterization if local else nullcontext,
            resume=resume,
        )
    kept = collect.draws() if collect is not None else {}
    fitted = Fitted(loss, s, task, method.members(s), kept, chains)
    pairs = [
        method.posterior.pair(fitted, index) for index in range(task.num_splits * s.run.seeds)
    ]
    return Trained(
        pairs,
        method.posterior.num_samples(fitted),
        history,
        time.perf_counter() - start,
        len(history or ()) * len(data) if method.chains is None else method.chains.steps(s),
        loss,
        chains,
        method.num_chains(s),
    )


def untrained(method: Method, s: BnnSettings, task: Task) -> nn.Module:
    """The loss of all networks as `train` builds it, to load weights into."""
    return stack(method.build_losses(s, task), task)


def stored_guides(method: Method, pairs: Sequence[Pair]) -> nn.ModuleList | None:
    """The guides to store in a file of their own; None if the loss has their state."""
    return nn.ModuleList(guide for _, guide in pairs) if method.posterior.stored else None


def rebuild_pairs(
    method: Method, s: BnnSettings, task: Task, loss: nn.Module, num_draws: int
) -> list[Pair]:
    """The pairs of a trained loss, as in `Trained.pairs`; the state of `stored_guides` is still to
    be loaded.

    num_draws: the size of an empirical posterior.
    """
    fitted = Fitted(loss, s, task, method.members(s))
    return [
        method.posterior.rebuild(fitted, index, num_draws)
        for index in range(task.num_splits * s.run.seeds)
    ]


def _batches(
    task: Task, s: BnnSettings, networks: int, device: torch.device
) -> Batches | StackedBatches:
    """Batches shared by all networks if there is one split, else stacked over the networks."""
    tensors = {name: value.to(device) for name, value in task.train.tensors.items()}
    if task.num_splits == 1:
        shared = DictDataset(**{name: value[0] for name, value in tensors.items()})
        return Batches(shared, s.run.batch_size, shuffle=True)
    repeat = networks // task.num_splits
    return StackedBatches(
        DictDataset(
            **{name: value.repeat_interleave(repeat, 0) for name, value in tensors.items()}
        ),
        s.run.batch_size,
    )


def _collect(
    method: Method, loss: nn.Module, s: BnnSettings, epochs: int, folder: Path | None
) -> Collect | None:
    if method.kept is None:
        return None
    return Collect(lambda: _read(loss), when=method.keeps(s, epochs), folder=folder)


def _read(loss: nn.Module) -> Mapping[str, Tensor]:
    """The unconstrained weights of all networks, `(R, *shape)`."""
    if isinstance(loss, pv.Stacked):
        return loss.values(lambda member: _state(member).unconstrained())
    return {name: value.unsqueeze(0) for name, value in _state(loss).unconstrained().items()}


def _state(loss: nn.Module) -> PointEstimate:
    return cast(PointEstimate, loss.guide)
