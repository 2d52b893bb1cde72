"""Optimisers, learning-rate schedules, and the epochs whose weights are kept."""

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from pyrovae.bnn.samplers import SGHMC, SGLD, cyclical
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
Schedule = Callable[[torch.optim.Optimizer], LRScheduler]


@dataclasses.dataclass(frozen=True)
class Optimization:
    """An optimiser and its learning-rate schedule."""

    optimizer: Callable[[BnnSettings, Task], Optimizer]
    schedule: Callable[[int], Schedule]
    """From the number of epochs to the schedule."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """The epochs whose weights are kept as draws."""

    epochs: Callable[[BnnSettings, int], Callable[[int], bool]]
    """From the settings and the number of epochs to the test of one epoch."""
    least: Callable[[BnnSettings], int]
    """The minimum number of draws."""
    remedy: str = ""
    """An alternative to more steps if there are fewer."""


def _adam(s: BnnSettings, task: Task) -> Optimizer:
    return functools.partial(torch.optim.Adam, lr=s.run.lr)


def _langevin(kind: type[SGLD] | type[SGHMC], factor: float) -> Callable:
    def optimizer(s: BnnSettings, task: Task) -> Optimizer:
        lr = s.inference.sampler_lr or (0.01 if task.kind == "regression" else 0.3)
        return functools.partial(kind, lr=factor * lr, num_data=task.num_data)

    return optimizer


def _cosine(epochs: int) -> Schedule:
    return lambda optimizer: CosineAnnealingLR(optimizer, epochs)


def _cycles(epochs: int) -> Schedule:
    return cyclical(_cycle(epochs), lowest=0.05)


def _swag_rates(epochs: int) -> Schedule:
    """A cosine to the mode, then a constant rate around it."""

    def rate(epoch: int) -> float:
        done = min(1.0, epoch / (0.75 * epochs))
        return max(0.1, 0.5 * (math.cos(math.pi * done) + 1.0))

    return lambda optimizer: LambdaLR(optimizer, rate)


def _cycle(epochs: int) -> int:
    return max(1, epochs // 5)


def _ends_of_cycles(s: BnnSettings, epochs: int) -> Callable[[int], bool]:
    """The second half of each cycle but the first, evenly thinned to about `draws` epochs."""
    length = _cycle(epochs)
    late = [
        epoch
        for epoch in range(1, epochs + 1)
        if epoch > length and (epoch - 1) % length >= 0.5 * length
    ]
    return set(late[:: max(1, len(late) // s.inference.draws)]).__contains__


def _plateau(s: BnnSettings, epochs: int) -> Callable[[int], bool]:
    """The epochs at SWAG's constant rate, evenly thinned."""
    start, count = math.ceil(0.75 * epochs), max(s.inference.swag_rank + 1, s.inference.draws)
    every = max(1, (epochs - start) // count)
    return lambda epoch: epoch > start and (epoch - start) % every == 0


ADAM = Optimization(_adam, _cosine)
SWAG = Optimization(_adam, _swag_rates)
LANGEVIN = Optimization(_langevin(SGLD, 1.0), _cycles)
LANGEVIN_WITH_MOMENTUM = Optimization(_langevin(SGHMC, 0.1), _cycles)

ENDS_OF_CYCLES = Kept(_ends_of_cycles, least=lambda s: 2)
PLATEAU = Kept(_plateau, least=lambda s: s.inference.swag_rank + 1, remedy=" or lower --swag-rank")
