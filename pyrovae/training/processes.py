"""What the training loop asks of the processes that train together, be it one or many."""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim import Optimizer


class Fabric(Protocol):
    """The least that leads several processes, e.g. a `lightning.fabric.Fabric`; it may also have
    `all_reduce` and `broadcast`."""

    def setup(self, module: nn.Module, optimizer: Optimizer, /) -> tuple[nn.Module, Optimizer]:
        """The module and optimiser to call in place of these."""

    def backward(self, value: Tensor, /) -> object:
        """The gradients of a loss, averaged over processes."""


@runtime_checkable
class Processes(Protocol):
    """All that the training loop asks for: `pyrovae.Ranks`, or one of the classes below."""

    @property
    def reduce(self) -> Callable[[list[Tensor]], object] | None:
        """Averages captured gradients over processes, in place; None where there is nothing to do,
        or no way to do it."""

    @property
    def scaled(self) -> bool:
        """Whether gradients are scaled by an object that skips the step itself on overflow."""

    def setup(self, module: nn.Module, optimizer: Optimizer, /) -> tuple[nn.Module, Optimizer]:
        """The module and optimiser to call in place of these."""

    def backward(self, value: Tensor, /) -> object:
        """The gradients of a loss, averaged over processes."""

    def can_capture(self, clip_norm: float | None) -> bool:
        """Whether a captured step, which has its own backward pass, leaves nothing out."""

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        """The sum, or mean, over processes."""

    def mean(self, value: float) -> float:
        """The mean of a number over processes."""

    def union(self, items: Iterable[object]) -> list:
        """The items of all processes, sorted."""

    def synchronize(self, module: nn.Module) -> None:
        """Make buffers equal in all processes."""

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of the first process to all others, in place."""


class SingleProcess:
    """One process that trains alone."""

    reduce: Callable[[list[Tensor]], object] | None = None
    scaled = False

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return module, optimizer

    def backward(self, value: Tensor) -> object:
        return value.backward()

    def can_capture(self, clip_norm: float | None) -> bool:
        return True

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        return value

    def mean(self, value: float) -> float:
        return float(value)

    def union(self, items: Iterable[object]) -> list:
        return sorted(items)

    def synchronize(self, module: nn.Module) -> None:
        pass

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        pass


@runtime_checkable
class _AllReduces(Protocol):
    def all_reduce(self, value: Tensor, *, reduce_op: str) -> Tensor: ...


@runtime_checkable
class _Broadcasts(Protocol):
    def broadcast(self, value: Tensor, /) -> Tensor: ...


class FabricProcesses(SingleProcess):
    """Those that a `Fabric` leads; what it does not offer is left undone."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        # Lightning keeps its gradient scaler in a private attribute
        self.scaled = getattr(getattr(fabric, "_precision", None), "scaler", None) is not None

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return self.fabric.setup(module, optimizer)

    def backward(self, value: Tensor) -> object:
        return self.fabric.backward(value)

    def can_capture(self, clip_norm: float | None) -> bool:
        return False

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        if isinstance(self.fabric, _AllReduces):
            return self.fabric.all_reduce(value, reduce_op=reduce_op)
        return value

    def mean(self, value: float) -> float:
        return float(self.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="mean"))

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        if isinstance(self.fabric, _Broadcasts):
            with torch.no_grad():
                for value in tensors:
                    value.copy_(self.fabric.broadcast(value))


def processes_of(fabric: Fabric | Processes | None) -> Processes:
    """The processes that `fit(fabric=...)` names; one where it names none."""
    if fabric is None:
        return SingleProcess()
    return fabric if isinstance(fabric, Processes) else FabricProcesses(fabric)
