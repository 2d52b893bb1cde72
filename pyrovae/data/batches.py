"""In-memory data sets whose rows and minibatches are dicts of tensors."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pyrovae.data.errors import DataError, whole_number

Batch = dict[str, Tensor]


class DictDataset(torch.utils.data.Dataset):
    """Named tensors that share their leading size N; an index picks the same rows of each.

    The names are those of the model's sites, so that a row or a batch can be passed on as keyword
    arguments.

    Shapes: each tensor (N, *event); ``d[int]`` -> event, ``d[slice]`` and ``d[LongTensor (B,)]``
    -> (B, *event).

    Raises:
        DataError: no tensors, no rows, something that is not a tensor, different N, or different
        devices.

    Example:
        >>> import torch
        >>> from pyrovae.data import DictDataset
        >>> d = DictDataset(x=torch.rand(10, 4), y=torch.arange(10))
        >>> len(d), d[2:5]["x"].shape, int(d[7]["y"])
        (10, torch.Size([3, 4]), 7)
    """

    def __init__(self, /, **tensors: Tensor) -> None:
        if not tensors:
            raise DataError(
                "a DictDataset needs at least one named tensor and got none. Write DictDataset(x=...)."
            )
        for name, value in tensors.items():
            if not isinstance(value, Tensor):
                raise DataError(
                    f"{name!r} is a {type(value).__name__}, expected a tensor. Use torch.as_tensor({name})."
                )
            if value.dim() == 0:
                raise DataError(
                    f"{name!r} is a single number, expected rows: shape (N, ...). Use {name}.unsqueeze(0)."
                )
        sizes = {name: len(value) for name, value in tensors.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"the tensors have different numbers of rows, {sizes}; expected one N for all. "
                "Row i of each must belong to datum i."
            )
        if 0 in sizes.values():
            raise DataError(
                f"the data set is empty: {_shapes(tensors)}; expected at least one row. "
                "Leave it out instead."
            )
        devices = {str(value.device) for value in tensors.values()}
        if len(devices) > 1:
            raise DataError(
                f"the tensors lie on different devices, {sorted(devices)}; expected one. Move them first."
            )
        self.tensors = dict(tensors)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        return {name: value[index] for name, value in self.tensors.items()}

    def __repr__(self) -> str:
        return f"DictDataset({_shapes(self.tensors)})"


class Batches:
    """Minibatches of a ``DictDataset``, as an iterable that can be gone through any number of
    times.

    A batch is always a copy, taken by one ``index_select`` per tensor; the last one is smaller
    when B does not divide N. Shuffling draws one permutation an epoch from torch's global CPU
    generator, so restoring that generator's state restores the order. ``transform`` maps a batch
    to a batch each time it is visited (``pyrovae.data.dynamic`` is one).
    This is not a ``DataLoader``: there are no workers and nothing is collated, as everything is in
    memory already.

    Shapes: yields ``{name: (B, *event)}``.

    Raises:
        DataError: ``data`` is not a DictDataset, or ``batch_size`` is not a whole number from 1
        up.

    Example:
        >>> import torch
        >>> from pyrovae.data import Batches, DictDataset
        >>> batches = Batches(DictDataset(x=torch.rand(10, 4)), 4)
        >>> [len(batch["x"]) for batch in batches], len(batches)
        ([4, 4, 2], 3)
    """

    def __init__(
        self,
        data: DictDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        transform: Callable[[Batch], Batch] | None = None,
    ) -> None:
        if not isinstance(data, DictDataset):
            raise DataError(
                f"data is a {type(data).__name__}, expected a DictDataset. Use DictDataset(x=...)."
            )
        self.data = data
        self.batch_size = whole_number(batch_size, "batch_size", at_least=1)
        self.shuffle = shuffle
        self.transform = transform

    def __len__(self) -> int:
        return math.ceil(len(self.data) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        size = len(self.data)
        order = torch.randperm(size) if self.shuffle else torch.arange(size)
        for rows in order.to(self._device).split(self.batch_size):
            yield self._read(rows)

    def take(self, n: int) -> Batch:
        """First n rows in the stored order, passed through ``transform`` so that they look like a
        batch.

        Files sorted by class give rows of one class; the loaders of this package permute what they
        know to be sorted.

        Raises:
            DataError: n is not a whole number in 1..N.

        Example:
            >>> import torch
            >>> from pyrovae.data import Batches, DictDataset
            >>> Batches(DictDataset(x=torch.rand(10, 4)), 4).take(3)["x"].shape
            torch.Size([3, 4])
        """
        if whole_number(n, "n", at_least=1) > len(self.data):
            raise DataError(
                f"take({n}) of a data set with {len(self.data)} rows. Ask for at most {len(self.data)}."
            )
        return self._read(torch.arange(n, device=self._device))

    def to(self, device: torch.device | str) -> "Batches":
        """Same batches with the data on ``device``; the order is still drawn on the CPU.

        Example:
            >>> import torch
            >>> from pyrovae.data import Batches, DictDataset
            >>> Batches(DictDataset(x=torch.rand(10, 4)), 4).to("cpu").take(1)["x"].device
            device(type='cpu')
        """
        moved = DictDataset(
            **{name: value.to(device) for name, value in self.data.tensors.items()}
        )
        return Batches(moved, self.batch_size, shuffle=self.shuffle, transform=self.transform)

    def __repr__(self) -> str:
        return f"Batches({self.data}, batch_size={self.batch_size}, shuffle={self.shuffle})"

    @property
    def _device(self) -> torch.device:
        return next(iter(self.data.tensors.values())).device

    def _read(self, rows: Tensor) -> Batch:
        batch = {name: value.index_select(0, rows) for name, value in self.data.tensors.items()}
        return batch if self.transform is None else self.transform(batch)


def _shapes(tensors: Batch) -> str:
    return ", ".join(f"{name}={tuple(value.shape)}" for name, value in tensors.items())
