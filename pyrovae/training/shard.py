"""A process's part of each batch, in distributed training."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor


class Rows(Protocol):
    """A data set in memory, such as `pyrovae.data.DictDataset`."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """By name, `(N, *event)`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> dict[str, Tensor]: ...


class Batches(Protocol):
    """What can be divided among processes: `pyrovae.data.Batches`."""

    @property
    def data(self) -> Rows:
        """All rows of the data set."""

    @property
    def batch_size(self) -> int:
        """Rows in one batch, summed over processes."""

    @property
    def shuffle(self) -> bool:
        """Whether the order changes from pass to pass."""

    @property
    def transform(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """A function applied to each batch."""

    def __len__(self) -> int: ...


class Shard:
    """One process's part of each batch; the order is the same in every process if their generators
    have one seed. Checkpoints keep the generator.

    Where the number of processes does not divide the last batch, a few rows are left out, other
    rows in each epoch.
    """

    def __init__(self, batches: Batches, *, rank: int, size: int) -> None:
        if batches.batch_size % size:
            raise ValueError(
                f"batches of {batches.batch_size} data for {size} processes, which must have equal "
                f"parts; take a multiple of {size}."
            )
        self.batches, self.rank, self.size, self.shuffle = batches, rank, size, batches.shuffle
        self.generator = torch.Generator()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        num = len(self.batches.data)
        order = (
            torch.randperm(num, generator=self.generator) if self.shuffle else torch.arange(num)
        )
        device = next(iter(self.batches.data.tensors.values())).device
        for rows in order.split(self.batches.batch_size):
            whole = len(rows) // self.size * self.size
            own = rows[:whole][self.rank :: self.size].to(device)
            if len(own):
                batch = self.batches.data[own]
                yield batch if self.batches.transform is None else self.batches.transform(batch)
