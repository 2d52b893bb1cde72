"""Several processes that train one model, started by torchrun on the cores or GPUs of one or
more hosts."""

import dataclasses
import datetime
import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as distributed
import torch.nn as nn
from torch import Tensor

from pyrovae.training.shard import Batches, Shard

TIMEOUT = 600.0
"""Seconds that a process waits for the others by default."""


class Ranks:
    r"""The processes that `torchrun` started, for `fit(fabric=Ranks())`: data-parallel training.

    Each process builds the same loss, takes an equal part of every batch (`shard`) and has its own
    random streams. Gradients and the history are averaged over processes, so they are those of one
    process on the whole batch, and all processes keep the same weights. Let process 0 alone write
    files, `hooks=[...] if ranks.first else []`; weights that its hooks restore at the end, e.g.
    the best ones, are copied to all. A checkpoint of N processes resumes on M, with other random
    numbers.

    timeout: seconds that a process waits for the others, e.g. for their gradients, before it ends
        with an error; by default the environment's `PYROVAE_TIMEOUT`, or 600. It must exceed the
        longest time in which one process works alone, e.g. compiles or writes a checkpoint. If a
        process ends, torchrun ends the others within seconds; if one hangs, they end after
        `timeout`.

    Outside torchrun, and with `alone=True`, it is one process. On CUDA each has the GPU of its
    LOCAL_RANK (`device`).

    Example:
        >>> ranks = Ranks()
        >>> ranks.first, ranks.size, ranks.share(["a", "b"])
        (True, 1, ['a', 'b'])
    """

    scaled = False

    def __init__(self, *, alone: bool = False, timeout: float | None = None) -> None:
        timeout = float(os.environ.get("PYROVAE_TIMEOUT", TIMEOUT)) if timeout is None else timeout
        if not timeout > 0:
            raise ValueError(
                f"timeout={timeout}, expected a positive number of seconds (or PYROVAE_TIMEOUT)."
            )
        started = not alone and "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1
        self.device = (
            torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
        if started and not distributed.is_initialized():
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            distributed.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                timeout=datetime.timedelta(seconds=timeout),
            )
        self.rank, self.size = 0, 1
        if distributed.is_initialized() and not alone:
            self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.parameters: list[Tensor] = []

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def setup(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Begin with the weights of process 0, and give each process a random stream of its own."""
        self.parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        seed = torch.randint(2**62, (1,)).to(self.device)
        if self.size > 1:
            for tensor in (*self.parameters, *module.buffers(), seed):
                distributed.broadcast(tensor.data, 0)
            torch.manual_seed(int(seed) + self.rank)
        return module, optimizer

    def backward(self, value: Tensor) -> None:
        """Gradients averaged over processes, for every parameter that any process trains:
        batches may differ in kind."""
        value.backward()
        if self.size > 1:
            trained = [parameter for parameter in self.parameters if parameter.requires_grad]
            own = [parameter.grad is not None for parameter in trained]
            for parameter in trained:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
            counts = self._average(gradients, own)
            if not all(own):  # the host waits for the counts of other processes only in this case
                for parameter, count in zip(trained, counts.tolist()):
                    if not count:
                        parameter.grad = None

    def reduce(self, gradients: Sequence[Tensor]) -> None:
        """Average the gradients over processes in place, in one message together with flags that
        say which process has which gradient; return their sums."""
        if self.size > 1:
            self._average(gradients, [True] * len(gradients))

    def _average(self, gradients: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        """In one message, with how many processes have each of them."""
        sizes = [gradient.numel() for gradient in gradients]
        flags = torch.tensor(own, dtype=gradients[0].dtype).to(gradients[0].device)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), flags])
        distributed.all_reduce(flat)
        means, counts = flat[: sum(sizes)] / self.size, flat[sum(sizes) :]
        for gradient, mean in zip(gradients, means.split(sizes)):
            gradient.copy_(mean.view_as(gradient))
        return counts

    def can_capture(self, clip_norm: float | None) -> bool:
        """Gradients are averaged after a captured step, but it would clip each process's own."""
        return clip_norm is None

    def union(self, items: Iterable[object]) -> list:
        """The items of all processes, sorted and without duplicates."""
        found: list = [list(items)]
        if self.size > 1:
            found = [None] * self.size
            distributed.all_gather_object(found, list(items))
        return sorted({item for part in found for item in part})

    def all_reduce(self, value: Tensor, reduce_op: str = "sum") -> Tensor:
        """The sum, or mean, over processes."""
        if self.size > 1:
            value = value.to(self.device, copy=True)
            distributed.all_reduce(value)
        return value / self.size if reduce_op == "mean" else value

    def mean(self, value: float) -> float:
        """The mean of a number over processes."""
        return float(self.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="mean"))

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of process 0 to all others, in place."""
        with torch.no_grad():
            for value in tensors:
                value.copy_(self.broadcast(value))

    def broadcast(self, value: Tensor, src: int = 0) -> Tensor:
        """The tensor of process `src`, on all processes."""
        if self.size > 1:
            value = value.detach().to(self.device, copy=True).contiguous()
            distributed.broadcast(value, src)
        return value

    def shard(self, batches: Batches) -> "Shard":
        """This process's part of each batch of `pyrovae.data.Batches`."""
        part = Shard(batches, rank=self.rank, size=self.size)
        seed = self.all_reduce(torch.randint(2**31, (1,)) * float(self.first))
        part.generator.manual_seed(int(seed))
        return part

    def share(self, items: Sequence) -> list:
        """This process's part of a list of jobs or of the rows of a tensor."""
        return list(items[self.rank :: self.size])

    def synchronize(self, module: nn.Module) -> None:
        """Running averages become those over processes, other buffers those of process 0."""
        for buffer in module.buffers() if self.size > 1 else ():
            if buffer.is_floating_point():
                buffer.copy_(self.all_reduce(buffer, reduce_op="mean"))
            else:
                distributed.broadcast(buffer, 0)

    def gather(self, result: object) -> object:
        """Concatenate the results of all processes, each on its `share` of the rows, in the
        original order: tensors, or dataclasses of tensors.

        An `Evidence` of each process's data becomes that of all data, on every process.
        """
        if dataclasses.is_dataclass(result) and not isinstance(result, type):
            # a field by its name: a dataclass with slots has no `vars`
            fields = {
                field.name: getattr(result, field.name) for field in dataclasses.fields(result)
            }
            return dataclasses.replace(
                result,
                **{
                    name: self.gather(value)
                    for name, value in fields.items()
                    if isinstance(value, Tensor)
                },
            )
        if not isinstance(result, Tensor):
            raise TypeError(
                f"gather puts together tensors, and dataclasses of them, but got a {type(result).__name__}."
            )
        if self.size == 1:
            return result
        parts = [result] * self.size  # placeholders, filled by all_gather
        distributed.all_gather_object(parts, result.cpu())
        whole = torch.empty((sum(map(len, parts)), *result.shape[1:]), dtype=result.dtype)
        for rank, part in enumerate(parts):
            whole[rank :: self.size] = part
        return whole

    def close(self) -> None:
        """End the program, in all processes together."""
        if self.size > 1:
            self.wait()
            distributed.destroy_process_group()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()
