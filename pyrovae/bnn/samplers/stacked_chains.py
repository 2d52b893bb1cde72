"""Markov chains on the weights of many small nets at once: what their samplers share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import pyro
import torch
from torch import Tensor

from pyrovae.bnn.guides.point_estimate import PointEstimate
from pyrovae.core.check import ANY_NUMBER, num_data_of
from pyrovae.core.param_store import local_param_scope
from pyrovae.losses.base import guide_of, unwrap
from pyrovae.losses.stacked import Stacked

Read = Callable[[torch.nn.Module], dict[str, Tensor]]
"""The values of a chain that are kept, from its loss."""


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

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.draws.items())
        return f"Chains({shapes}; {int(self.divergent.sum())} of {self.divergent.numel()} paths diverged)"

    def flat(self) -> dict[str, Tensor]:
        """The draws of all chains, `(S R, *shape)` by name, for `Empirical`."""
        return {name: value.flatten(0, 1) for name, value in self.draws.items()}

    def sample_stats(self) -> dict[str, Tensor]:
        """ArviZ's group `sample_stats`, `(S, R)` each."""
        return {"acceptance_rate": self.accept, "energy": self.energy, "diverging": self.divergent}


class Move(NamedTuple):
    """Of one iteration of all chains, `(R,)` each; the parameters have moved already."""

    accept: Tensor
    energy: Tensor
    divergent: Tensor


def point_of(loss: torch.nn.Module) -> dict[str, Tensor]:
    return cast(PointEstimate, guide_of(loss)).values()


class Adaptation(Protocol):
    """What adapts step sizes in the warm-up."""

    @property
    def value(self) -> Tensor:
        """The step sizes of the next iteration, `(R,)`."""

    def update(self, accept: Tensor, *, last: bool) -> None:
        """Take in the acceptance probabilities of an iteration; after the last one of the warm-up step
        sizes are fixed."""


def run_chains(
    loss: Stacked,
    move: Callable[[Tensor], Move],
    adapt: Adaptation,
    *,
    num_samples: int,
    warmup: int,
    thin: int,
    read: Read,
    progress: Callable[[int], object],
) -> Chains:
    """Iterate `move(step sizes)`, which moves the parameters of the stacked losses, and keep what
    `read` finds every `thin` iterations after `warmup`, in which step sizes adapt."""
    kept: list[tuple[dict[str, Tensor], Move]] = []
    with pyro.validation_enabled(False), local_param_scope():
        for iteration in range(warmup + num_samples * thin):
            moved = move(adapt.value)
            if iteration < warmup:
                adapt.update(moved.accept, last=iteration == warmup - 1)
            elif (iteration - warmup + 1) % thin == 0:
                values = {
                    name: value.detach().clone() for name, value in loss.values(read).items()
                }
                kept.append((values, moved))
            progress(iteration)
    draws = {name: torch.stack([values[name] for values, _ in kept]) for name in kept[0][0]}
    accept, energy, divergent = map(torch.stack, zip(*(moved for _, moved in kept)))
    return Chains(draws, accept, energy, divergent, adapt.value)


def check_numbers(*, warmup: int, **at_least_one: int) -> None:
    """Raise ValueError for numbers below 1, and for a warm-up below 0."""
    if min(at_least_one.values()) < 1 or warmup < 0:
        numbers = ", ".join(f"{name}={value}" for name, value in at_least_one.items())
        raise ValueError(
            f"{numbers}, warmup={warmup}, expected at least 1 of each, and a warm-up of at least 0."
        )


def check_energy(loss: Stacked, batch: Mapping[str, Tensor], num_data: int) -> None:
    """Raise ValueError unless N * loss is the energy of the chains, on all N data."""
    pair, size = unwrap(loss.template[0]), loss.size_of(batch)
    known = num_data_of(pair)
    if known == ANY_NUMBER:  # evaluations that the step counter does not count
        known = num_data
    if not known == num_data == size:
        raise ValueError(
            f"num_data={num_data}, the loss has num_data={known}, and each chain sees {size} data, but "
            "the energy is that of all N data: expected the same number thrice."
            + (
                ""
                if loss.shared
                else " Stacked(losses, shared=True) is for chains that share their data."
            )
        )
    guide = guide_of(pair)
    if not isinstance(guide, PointEstimate) or guide.jacobian:
        return
    if moved := [site.name for site in guide.sites if not site.is_real]:
        raise ValueError(
            f"the chains move the logarithms of sites {moved}, but the loss has the density of these sites "
            "themselves. Pass PointEstimate(net, jacobian=True)."
        )


class StepSize:
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


def acceptance(change: Tensor) -> Tensor:
    """min(1, exp(change)) of the log density ratio; 0 where it is not a number."""
    return torch.nan_to_num(change, nan=-torch.inf).clamp(max=0.0).exp()
