"""Hamiltonian Monte Carlo for all chains and data at once, along a path between two densities."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function from latent values `(C, B, D)` to two log-densities, `(C, B)` each."""
Weights = tuple[float, float]
"""Weights of the two terms: their weighted sum is the log-density."""
JITTER = 0.2
"""Relative range of random step sizes: trajectories of one fixed length can be periodic."""


@dataclass(frozen=True)
class Points:
    """Positions of the chains, `(C, B, D)`, both terms there, `(2, C, B)`, and their gradients,
    `(2, C, B, D)`."""

    place: Tensor
    terms: Tensor
    gradients: Tensor

    @classmethod
    def at(cls, place: Tensor, terms: Terms) -> "Points":
        with torch.enable_grad():
            place = place.detach().requires_grad_()
            values = terms(place)
            gradients = [_gradient(value, place) for value in values]
        return cls(
            place.detach(),
            torch.stack([value.detach() for value in values]),
            torch.stack(gradients),
        )

    def log_density(self, weights: Weights) -> Tensor:
        return weights[0] * self.terms[0] + weights[1] * self.terms[1]

    def slope(self, weights: Weights) -> Tensor:
        return weights[0] * self.gradients[0] + weights[1] * self.gradients[1]

    def or_else(self, other: "Points", chosen: Tensor) -> "Points":
        """These points where `chosen`, `(C, B)`, and the others elsewhere."""
        rows = chosen.unsqueeze(-1)
        return Points(
            torch.where(rows, self.place, other.place),
            torch.where(chosen, self.terms, other.terms),
            torch.where(rows, self.gradients, other.gradients),
        )


@runtime_checkable
class OwnGradients(Protocol):
    """Terms with a faster way to compute their gradients."""

    def at(self, place: Tensor) -> Points:
        """Both terms and their gradients."""


def points_at(place: Tensor, terms: Terms) -> Points:
    """By `at(place)` where the terms have one."""
    return terms.at(place) if isinstance(terms, OwnGradients) else Points.at(place, terms)


def _gradient(value: Tensor, place: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(place)
    (gradient,) = torch.autograd.grad(value.sum(), place, retain_graph=True, allow_unused=True)
    return torch.zeros_like(place) if gradient is None else gradient


def move(
    points: Points, terms: Terms, weights: Weights, step: Tensor, num_leapfrog: int
) -> tuple[Points, Tensor]:
    """Move by one trajectory, which leaves the density invariant for any `step` `(B,)`; return
    the new points and the acceptance probabilities, `(C, B)`. A trajectory that meets a value
    that is not finite is rejected.

    A trajectory that meets a value that is not finite is rejected. Acceptance probabilities: `(C,
    B)`.
    """
    step = (step * (1 + JITTER * (2 * torch.rand_like(points.terms[0]) - 1))).unsqueeze(-1)
    momentum = torch.randn_like(points.place)
    before = points.log_density(weights) - momentum.square().sum(-1) / 2
    now, sound = points, torch.ones_like(before, dtype=torch.bool)
    momentum = momentum + step / 2 * points.slope(weights)
    for index in range(num_leapfrog):
        place = now.place + step * momentum
        finite = torch.isfinite(place).all(-1, keepdim=True)
        sound = sound & finite.squeeze(-1)
        now = points_at(torch.where(finite, place, points.place), terms)
        momentum = momentum + (step if index < num_leapfrog - 1 else step / 2) * now.slope(weights)
    gain = now.log_density(weights) - momentum.square().sum(-1) / 2 - before
    probability = torch.where(sound & ~gain.isnan(), gain.clamp(max=0).exp(), 0)
    return now.or_else(points, torch.rand_like(probability) < probability), probability


def tuned_steps(
    points: Points,
    terms: Terms,
    temperatures: Iterable[Weights],
    num_leapfrog: int,
    *,
    target: float = 0.65,
    first: float = 0.5,
    rate: float = 0.2,
) -> Tensor:
    """Step sizes, `(len(temperatures), B)`, at which each datum's chains accept about `target` of
    their trajectories.

    The chains visit the temperatures in turn; the logarithm of the step falls by what acceptance
    lacks, times `rate`.
    """
    log_step = torch.full_like(points.terms[0, 0], first).log()
    steps = []
    for weights in temperatures:
        steps.append(log_step.exp())
        points, probability = move(points, terms, weights, steps[-1], num_leapfrog)
        log_step = log_step + rate * (probability.mean(0) - target)
    return torch.stack(steps)
