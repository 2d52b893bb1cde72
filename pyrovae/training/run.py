"""The state of a training run."""

from dataclasses import dataclass, field

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyrovae.training.history import History


@dataclass
class Run:
    """The state of a training run, passed to every hook after each epoch."""

    loss: nn.Module
    parameters: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler | None
    epochs: int
    history: History
    generators: list[torch.Generator] = field(default_factory=list)
    stop: bool = False
    """A hook sets this to end the run after the current epoch."""
    compiled: bool = False
    """Whether the steps are captured and compiled."""

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        return self.stop or self.epoch >= self.epochs
