"""Weights that change while training."""

from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.recording import refuse_number

Schedule = Callable[[], float | Tensor]


def weight_of(weight: float | Schedule) -> float | Tensor:
    """The number, or the present value of a schedule, which then counts a step."""
    if not callable(weight):
        return weight
    value = weight()
    refuse_number(value, weight)
    return value


class LinearWarmup(nn.Module):
    r"""A weight that goes from `start` to `stop` in equal steps over the first `num_steps`
    training steps.

    Each call in train mode counts one step; in eval mode the weight does not change. The count is
    a buffer, so a checkpoint resumes the schedule where it was. Returns a scalar tensor.

    Raises: ValueError for num_steps < 1.
    Source: KL warm-up, Bowman et al. 2016, arXiv:1511.06349, section 3.1; Sonderby et al. 2016,
    arXiv:1602.02282.

    Example:
        >>> warmup = LinearWarmup(num_steps=4)
        >>> [warmup().item() for _ in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    step: Tensor

    def __init__(self, num_steps: int, *, start: float = 0.0, stop: float = 1.0) -> None:
        super().__init__()
        if num_steps < 1:
            raise ValueError(
                f"num_steps={num_steps}, but a warm-up takes at least one step; for none, pass the number."
            )
        self.num_steps, self.start, self.stop = num_steps, start, stop
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        weight = self.value()
        if self.training:
            self.step += 1
        return weight

    def value(self) -> Tensor:
        """The weight of the next training step."""
        return self.start + (self.stop - self.start) * (self.step / self.num_steps).clamp(max=1.0)
