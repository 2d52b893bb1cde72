"""A long life in one process: many steps in one fit, and many compiled fits; memory and open files
are to stay flat."""

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

import pyrovae as pv
from pyrovae.data import Batches, DictDataset
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """What the process holds at one time."""

    done: int
    memory_mib: float
    open_files: int
    tensors: int
    modules: int

    @classmethod
    def take(cls, done: int) -> "Reading":
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            done,
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            len(os.listdir("/proc/self/fd")),
            sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects()),
            len(sys.modules),
        )

    def __str__(self) -> str:
        return (
            f"{self.done:>9,}: {self.memory_mib:7.1f} MiB resident, {self.open_files} open files, {self.tensors} "
            f"tensors, {self.modules} Python modules"
        )


def vae() -> nn.Module:
    """So small that nearly all of a step is the engine."""
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [4], 8)), "z"))
    return pv.ElboLoss(
        model, pv.Guide(z=pv.Node(NormalHead(MLP(8, [4], 4)), "x")), elbo=TraceMeanField_ELBO()
    )


def data(batches: int = 1000, batch_size: int = 8) -> Batches:
    return Batches(
        DictDataset(x=(torch.rand(batches * batch_size, 8) < 0.3).float()),
        batch_size,
        shuffle=True,
    )


def steps(
    total: int, *, compile: str, epoch: int = 1000, every: int = 10, say: Say = print
) -> list[Reading]:
    """One fit of `total` steps in epochs of `epoch`; a reading after each `every` of them."""
    readings: list[Reading] = []

    def look(run: object) -> None:
        if run.epoch % every == 0 or run.epoch == 1:
            readings.append(Reading.take(run.epoch * epoch))
            say(str(readings[-1]))

    start = time.perf_counter()
    pv.fit(vae(), data(epoch), epochs=total // epoch, compile=compile, hooks=[look])
    say(f"{total:,} steps, compile={compile!r}: {time.perf_counter() - start:.0f} s")
    return readings


def fits(total: int, *, every: int = 50, say: Say = print) -> list[Reading]:
    """`total` fits of new nets, each captured and compiled; a reading after each `every` of them."""
    readings, batches, start = [], data(batches=5), time.perf_counter()
    for index in range(1, total + 1):
        pv.fit(vae(), batches, epochs=2, compile="on")
        if index % every == 0 or index == 1:
            readings.append(Reading.take(index))
            say(str(readings[-1]))
    say(f"{total} compiled fits: {time.perf_counter() - start:.0f} s")
    return readings


def growth(readings: list[Reading]) -> float:
    """MiB that the second half of the readings took beyond the first: what is needed once is there
    by then."""
    half = len(readings) // 2
    return max(reading.memory_mib for reading in readings[half:]) - max(
        reading.memory_mib for reading in readings[:half]
    )
