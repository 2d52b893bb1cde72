"""Hamiltonian Monte Carlo on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.replayed import Replayed, elsewhere
from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    StepSize,
    acceptance,
    check_numbers,
    point_of,
    run_chains,
)
from pyrovae.bnn.samplers.stacked_energy import StackedEnergy
from pyrovae.capture.auto import Compile
from pyrovae.core.types import Batch
from pyrovae.losses.stacked import Stacked

DIVERGENT = 1000.0
"""Nats of energy gained on a path beyond which its integration has failed (as in Stan)."""


def hmc(
    loss: Stacked,
    batch: Mapping[str, Tensor],
    *,
    num_data: int,
    num_samples: int,
    warmup: int,
    num_steps: int = 20,
    step_size: float = 1e-3,
    target: float = 0.8,
    thin: int = 1,
    read: Read = point_of,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""HMC of stacked chains with the energy U(w) = N * loss.

    loss: of `ElboLoss(model, PointEstimate(net), num_data=N)`. batch: all N data. Each member of
    `loss` is a chain, on data of its own or `shared`. A path takes between half and all of
    `num_steps` leapfrog steps; each chain has its step size, adapted over `warmup` iterations to
    accept a share `target` of the paths, then fixed. The members start where their parameters are
    and end at the last draw, so a second call goes on; parameters without a prior keep their values.
    Exact up to Monte Carlo error if it mixes: look at R-hat over members that share their data.

    compile: "on" captures and compiles a leapfrog step at once, "auto" after some seconds, "off"
        never.
    progress: called after each iteration.

    Raises: ValueError for numbers below 1, for other data than the loss counts on, for positive
    sites without their Jacobian, and for an energy that is random (dropout) or changes buffers
    (BatchNorm); TypeError for what is no `Stacked`; PairError for targets that would be broadcast.
    Source: Neal 2011, arXiv:1206.1901, section 3; adaptation: Hoffman & Gelman 2014,
    arXiv:1111.4246, algorithm 5.
    """
    check_numbers(
        num_data=num_data, num_samples=num_samples, num_steps=num_steps, thin=thin, warmup=warmup
    )
    path = _Path(StackedEnergy(loss, batch, num_data), num_steps, compile)
    adapt = StepSize(path.q.new_full((loss.count,), step_size), target)
    return run_chains(
        loss,
        path,
        adapt,
        num_samples=num_samples,
        warmup=warmup,
        thin=thin,
        read=read,
        progress=progress,
    )


class _Path:
    """A leapfrog path of each chain, accepted or not."""

    def __init__(self, energy: StackedEnergy, num_steps: int, compile: Compile) -> None:
        self.energy, self.num_steps = energy, num_steps
        self.q = energy.position()
        self.here: tuple[Tensor, Tensor] | None = None
        self.step = Replayed(
            leapfrog(energy.value_and_gradient), [energy.loss], compile=compile, probe=elsewhere
        )

    @torch.no_grad()
    def __call__(self, step: Tensor) -> Move:
        potential, gradient = self.here or self.energy.value_and_gradient(self.q)
        q, p, size = self.q, torch.randn_like(self.q), step[:, None]
        total = potential + 0.5 * p.square().sum(1)
        p = p - 0.5 * size * gradient
        for _ in range(_length(self.num_steps)):
            q, p, new, push = self.step({"q": q, "p": p, "step": size})
        p = p + 0.5 * size * push
        change = total - new - 0.5 * p.square().sum(1)
        accept = acceptance(change)
        taken = torch.rand_like(accept) < accept
        self.q = torch.where(taken[:, None], q, self.q)
        self.here = (
            torch.where(taken, new, potential),
            torch.where(taken[:, None], push, gradient),
        )
        self.energy.put(self.q)
        return Move(accept, total, ~(change > -DIVERGENT))


def leapfrog(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Callable[[Batch], list[Tensor]]:
    """A drift and a full kick of all chains; a path starts, and is to end, by half a kick.

    Shapes: q and p `(C, D)`, step `(D,)` or `(C, 1)` -> q, p, U `(C,)` and its gradient `(C, D)`.
    """

    def step(batch: Batch) -> list[Tensor]:
        q = batch["q"] + batch["step"] * batch["p"]
        energy, gradient = value_and_gradient(q)
        return [q, batch["p"] - batch["step"] * gradient, energy, gradient]

    return step


def _length(num_steps: int) -> int:
    return int(torch.randint((num_steps + 1) // 2, num_steps + 1, ()))
