"""Hamiltonian Monte Carlo on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    StepSize,
    accept_or_stay,
    acceptance,
    check_energy,
    check_numbers,
    like,
    point_of,
    run_chains,
)
from pyrovae.core.types import sum_of
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
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""HMC of stacked chains with the energy U(w) = N * loss.

    loss: of `ElboLoss(model, PointEstimate(net), num_data=N)`. batch: all N data. Each member of
    `loss` is a chain, on data of its own or `shared`. A path takes between half and all of
    `num_steps` leapfrog steps; each chain has its step size, adapted over `warmup` iterations to
    accept a share `target` of the paths, then fixed. The members start where their parameters are
    and end at the last draw, so a second call goes on.
    Exact up to Monte Carlo error if it mixes: look at R-hat over members that share their data.

    progress: called after each iteration.
    Raises: ValueError for numbers below 1, for other data than the loss counts on, and for
    positive sites without their Jacobian.
    Source: Neal 2011, arXiv:1206.1901, section 3; adaptation: Hoffman & Gelman 2014,
    arXiv:1111.4246, algorithm 5.
    """
    check_numbers(
        num_data=num_data, num_samples=num_samples, num_steps=num_steps, thin=thin, warmup=warmup
    )
    check_energy(loss, batch, num_data)
    path = _Path(loss, dict(batch), num_data, num_steps)
    adapt = StepSize(path.parameters[0].new_full((loss.count,), step_size), target)
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

    def __init__(
        self, loss: Stacked, batch: dict[str, Tensor], num_data: int, num_steps: int
    ) -> None:
        self.loss, self.batch, self.num_data, self.num_steps = loss, batch, num_data, num_steps
        self.parameters = [parameter for parameter in loss.stacked if parameter.requires_grad]
        self.here: tuple[Tensor, list[Tensor]] | None = None

    def __call__(self, step: Tensor) -> Move:
        potential, gradient = self.here or self.energy()
        start = [parameter.detach().clone() for parameter in self.parameters]
        momentum = [torch.randn_like(parameter) for parameter in start]
        total = potential + _kinetic(momentum)
        new, new_gradient = self._leapfrog(momentum, gradient, step)
        change = total - new - _kinetic(momentum)
        accept = acceptance(change)
        taken = torch.rand_like(accept) < accept
        accept_or_stay(taken, self.parameters, start)
        self.here = (
            torch.where(taken, new, potential),
            [torch.where(like(taken, b), a, b) for a, b in zip(new_gradient, gradient)],
        )
        return Move(accept, total, ~(change > -DIVERGENT))

    def energy(self) -> tuple[Tensor, list[Tensor]]:
        potential = self.num_data * self.loss.losses(self.batch)
        return potential.detach(), list(torch.autograd.grad(potential.sum(), self.parameters))

    def _leapfrog(
        self, momentum: list[Tensor], gradient: list[Tensor], step: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Steps in place; the potential and its gradient at the end."""
        steps = [like(step, value) for value in momentum]
        for index in range(_length(self.num_steps)):
            with torch.no_grad():
                for value, push, size in zip(momentum, gradient, steps):
                    value.sub_((0.5 if index == 0 else 1.0) * size * push)
                for parameter, value, size in zip(self.parameters, momentum, steps):
                    parameter.add_(size * value)
            potential, gradient = self.energy()
        with torch.no_grad():
            for value, push, size in zip(momentum, gradient, steps):
                value.sub_(0.5 * size * push)
        return potential, gradient


def _kinetic(momentum: list[Tensor]) -> Tensor:
    return sum_of(0.5 * (value**2).reshape(len(value), -1).sum(1) for value in momentum)


def _length(num_steps: int) -> int:
    return int(torch.randint((num_steps + 1) // 2, num_steps + 1, ()))
