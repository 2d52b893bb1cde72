"""Hamiltonian Monte Carlo on the weights of many small nets at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import pyro
import torch
from torch import Tensor

from pyrovae.bnn.guides.point_estimate import PointEstimate
from pyrovae.core.check import ANY_NUMBER, num_data_of
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.types import sum_of
from pyrovae.losses.base import guide_of, unwrap
from pyrovae.losses.stacked import Stacked

DIVERGENT = 1000.0
"""Nats of energy gained on a path beyond which its integration has failed (as in Stan)."""


@dataclass(frozen=True)
class Chains:
    """Draws of R chains after warm-up, with their diagnostics."""

    draws: dict[str, Tensor]
    """`(S, R, *shape)` by name."""
    accept: Tensor
    """Acceptance probability, `(S, R)`."""
    energy: Tensor
    """Potential plus kinetic energy at the start of each path, nats, `(S, R)`."""
    divergent: Tensor
    """Whether a path diverged, `(S, R)`."""
    step_size: Tensor
    """Step sizes, `(R,)`."""

    def sample_stats(self) -> dict[str, Tensor]:
        """ArviZ's group `sample_stats`, `(S, R)` each."""
        return {"acceptance_rate": self.accept, "energy": self.energy, "diverging": self.divergent}


def _point_of(loss: torch.nn.Module) -> dict[str, Tensor]:
    return cast(PointEstimate, guide_of(loss)).values()


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
    read: Callable[[torch.nn.Module], dict[str, Tensor]] = _point_of,
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
    if min(num_data, num_samples, num_steps, thin) < 1 or warmup < 0:
        raise ValueError(
            f"num_data={num_data}, num_samples={num_samples}, num_steps={num_steps}, thin={thin}, "
            f"warmup={warmup}, expected at least 1 of each, and a warm-up of at least 0."
        )
    _check_energy(loss, num_data, loss.size_of(batch))
    parameters = [parameter for parameter in loss.stacked if parameter.requires_grad]

    def energy() -> tuple[Tensor, list[Tensor]]:
        potential = num_data * loss.losses(dict(batch))
        return potential.detach(), list(torch.autograd.grad(potential.sum(), parameters))

    adapt = _StepSize(parameters[0].new_full((loss.count,), step_size), target)
    kept: list[tuple] = []
    with pyro.validation_enabled(False), local_param_scope():
        potential, gradient = energy()
        for iteration in range(warmup + num_samples * thin):
            start = [parameter.detach().clone() for parameter in parameters]
            momentum = [torch.randn_like(parameter) for parameter in start]
            total = potential + _kinetic(momentum)
            new, new_gradient = _path(
                parameters, momentum, gradient, adapt.value, _length(num_steps), energy
            )
            change = total - new - _kinetic(momentum)
            accept = torch.nan_to_num(change, nan=-torch.inf).clamp(max=0.0).exp()
            taken = torch.rand_like(accept) < accept
            with torch.no_grad():
                for parameter, old in zip(parameters, start):
                    parameter.copy_(torch.where(_like(taken, old), parameter, old))
            gradient = [torch.where(_like(taken, b), a, b) for a, b in zip(new_gradient, gradient)]
            potential = torch.where(taken, new, potential)
            if iteration < warmup:
                adapt.update(accept, last=iteration == warmup - 1)
            elif (iteration - warmup + 1) % thin == 0:
                values = {
                    name: value.detach().clone() for name, value in loss.values(read).items()
                }
                kept.append((values, accept, total, ~(change > -DIVERGENT)))
            progress(iteration)
    draws = {name: torch.stack([values[name] for values, *_ in kept]) for name in kept[0][0]}
    accepted, energies, divergent = (
        torch.stack([entry[index] for entry in kept]) for index in (1, 2, 3)
    )
    return Chains(draws, accepted, energies, divergent, adapt.value)


def _check_energy(loss: Stacked, num_data: int, size: int) -> None:
    pair = unwrap(loss.template[0])
    known = num_data_of(pair)
    if known == ANY_NUMBER:  # evaluations that the step counter does not count
        known = num_data
    if not known == num_data == size:
        raise ValueError(
            f"num_data={num_data}, the loss has num_data={known}, and each chain sees {size} data, but "
            "the energy is that of all N data: expected the same number thrice."
        )
    guide = guide_of(pair)
    if not isinstance(guide, PointEstimate) or guide.jacobian:
        return
    if moved := [site.name for site in guide.sites if not site.is_real]:
        raise ValueError(
            f"the chains move the logarithms of sites {moved}, but the loss has the density of these sites "
            "themselves. Pass PointEstimate(net, jacobian=True)."
        )


def _path(
    parameters: list[Tensor],
    momentum: list[Tensor],
    gradient: list[Tensor],
    step: Tensor,
    length: int,
    energy: Callable[[], tuple[Tensor, list[Tensor]]],
) -> tuple[Tensor, list[Tensor]]:
    """Leapfrog steps in place; the potential and its gradient at the end."""
    steps = [_like(step, value) for value in momentum]
    for index in range(length):
        with torch.no_grad():
            for value, push, size in zip(momentum, gradient, steps):
                value.sub_((0.5 if index == 0 else 1.0) * size * push)
            for parameter, value, size in zip(parameters, momentum, steps):
                parameter.add_(size * value)
        potential, gradient = energy()
    with torch.no_grad():
        for value, push, size in zip(momentum, gradient, steps):
            value.sub_(0.5 * size * push)
    return potential, gradient


class _StepSize:
    """Dual averaging of log step sizes, one for each chain (Hoffman & Gelman 2014)."""

    def __init__(self, value: Tensor, target: float) -> None:
        self.value, self.target = value, target
        self.anchor, self.count, self.error, self.average = (
            (10.0 * value).log(),
            0,
            torch.zeros_like(value),
            value.log(),
        )

    def update(self, accept: Tensor, *, last: bool) -> None:
        self.count += 1
        self.error += (self.target - accept - self.error) / (self.count + 10.0)
        log_step = self.anchor - self.count**0.5 / 0.05 * self.error
        weight = self.count**-0.75
        self.average = weight * log_step + (1.0 - weight) * self.average
        self.value = (self.average if last else log_step).exp()


def _kinetic(momentum: list[Tensor]) -> Tensor:
    return sum_of(0.5 * (value**2).reshape(len(value), -1).sum(1) for value in momentum)


def _like(value: Tensor, other: Tensor) -> Tensor:
    return value.reshape(-1, *(1,) * (other.dim() - 1))


def _length(num_steps: int) -> int:
    return int(torch.randint((num_steps + 1) // 2, num_steps + 1, ()))
