"""Adaptation of step sizes and of the variances of all numbers, chain by chain."""

from typing import Protocol

import torch
from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import StepSize

SHORTEST = 20
"""Iterations below which variances stay at 1."""


class Adapted(Protocol):
    """A sampler whose chains have a variance for each number."""

    q: Tensor
    variance: Tensor

    def reasonable_step(self) -> Tensor:
        """Step sizes `(R,)` under the present variances."""


class Warmup:
    """Step sizes of each chain by dual averaging, which begins anew whenever the variances are set: to
    those of the draws in one of the `windows`.

    pooled: the chains are of one posterior, and have the mean of their variances.

    Source: Stan's adaptation (Carpenter et al. 2017, J. Stat. Softw. 76(1)), with a longer last part
    of short warm-ups; the variance of n draws is shrunk towards 1e-3 by 5 / (n + 5).
    """

    def __init__(
        self,
        sampler: Adapted,
        warmup: int,
        step_size: float | None,
        target: float,
        *,
        pooled: bool = False,
    ) -> None:
        self.sampler, self.target, self.pooled = sampler, target, pooled
        self.begin, self.ends = windows(warmup)
        self.iteration = 0
        self.seen = _Moments()
        first = None if step_size is None else torch.full_like(sampler.q[:, 0], step_size)
        self.step_size = self._begin(first)

    @property
    def value(self) -> Tensor:
        """The step sizes of the next iteration, `(R,)`."""
        return self.step_size.value

    def update(self, accept: Tensor, *, last: bool) -> None:
        self.step_size.update(accept, last=last)
        self.iteration += 1
        if self.begin < self.iteration <= max(self.ends, default=0):
            self.seen.add(self.sampler.q)
        if self.iteration in self.ends:
            variance = self.seen.variance(self.pooled).expand_as(self.sampler.q)
            self.sampler.variance = variance.contiguous()  # as the compiled steps expect
            self.seen = _Moments()
            self.step_size = self._begin(None)

    def _begin(self, step: Tensor | None) -> StepSize:
        if step is None:
            step = self.sampler.reasonable_step()
        return StepSize(step, self.target)


def windows(warmup: int) -> tuple[int, list[int]]:
    """After how many iterations the first window begins, and those at the end of each: the step size
    adapts alone in the first and last ones, and a window is twice as long as the one before.

    Example:
        >>> windows(300), windows(1000), windows(100), windows(10)
        ((75, [100, 150, 250]), (75, [100, 150, 250, 450, 950]), (15, [80]), (0, []))
    """
    if warmup < SHORTEST:
        return 0, []
    begin, tail, size = 75, 50, 25
    if begin + size + tail > warmup:
        begin, tail = int(0.15 * warmup), min(20, warmup // 3)
        size = warmup - begin - tail
    end, ends = begin, []
    while end < warmup - tail:
        end += size
        size *= 2
        if end + size > warmup - tail:
            end = warmup - tail
        ends.append(end)
    return begin, ends


class _Moments:
    """Running moments of draws (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, draw: Tensor) -> None:
        self.count += 1
        shift = draw - self.mean
        self.mean = self.mean + shift / self.count
        self.squares = self.squares + shift * (draw - self.mean)

    def variance(self, pooled: bool) -> Tensor:
        """That of the draws of each chain, or the mean over chains, shrunk.

        Not about a common mean: a chain that is stuck elsewhere would widen it for all.
        """
        spread, count = torch.as_tensor(self.squares) / max(1, self.count - 1), self.count
        if pooled:
            spread, count = spread.mean(0), count * len(spread)
        return (count * spread + 5.0 * 1e-3) / (count + 5.0)
