"""What the training loop asks of the processes that train together, one of them or many."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim import Optimizer


class Fabric(Protocol):
    """What leads several processes: `pyrovae.Ranks`, or a `lightning.fabric.Fabric`.

    It may have more of what `Processes` asks for: `reduce`, `all_reduce`, `synchronize` and
    `broadcast`.
    """

    def setup(self, module: nn.Module, optimizer: Optimizer, /) -> tuple[nn.Module, Optimizer]:
        """Those that are to be called in place of these."""

    def backward(self, value: Tensor, /) -> object:
        """The gradients of a loss, of all processes."""


class SingleProcess:
    """One that trains alone."""

    reduce: Callable[[list[Tensor]], object] | None = None
    """Makes captured gradients those of all processes, in place; None where nobody has to, or can."""
    scaled = False
    """Whether gradients are scaled by one who skips the step himself where they overflow."""

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """As a fabric does."""
        return module, optimizer

    def backward(self, value: Tensor) -> object:
        """As a fabric does."""
        return value.backward()

    def can_capture(self, clip_norm: float | None) -> bool:
        """Whether a captured step, which does its own backward pass, leaves nothing out."""
        return True

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        """The sum, or mean, over processes."""
        return value

    def union(self, items: Iterable[object]) -> list:
        """What any of the processes has, in one order on all."""
        return sorted(items)

    def synchronize(self, module: nn.Module) -> None:
        """Let buffers be the same in all processes."""

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Let tensors be everywhere what they are in the first process."""


class LedProcesses(SingleProcess):
    """Those that a fabric leads; what it does not have is left undone."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.reduce = getattr(fabric, "reduce", None)
        scaler = getattr(getattr(fabric, "_precision", None), "scaler", None)  # of Lightning's
        self.scaled = scaler is not None

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return self.fabric.setup(module, optimizer)

    def backward(self, value: Tensor) -> object:
        return self.fabric.backward(value)

    def can_capture(self, clip_norm: float | None) -> bool:
        return self.reduce is not None and clip_norm is None

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        if not hasattr(self.fabric, "all_reduce"):
            return value
        return self.fabric.all_reduce(value, reduce_op=reduce_op)

    def union(self, items: Iterable[object]) -> list:
        if not hasattr(self.fabric, "union"):
            return super().union(items)
        return self.fabric.union(items)

    def synchronize(self, module: nn.Module) -> None:
        if hasattr(self.fabric, "synchronize"):
            self.fabric.synchronize(module)

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        if hasattr(self.fabric, "broadcast"):
            with torch.no_grad():
                for value in tensors:
                    value.copy_(self.fabric.broadcast(value))
