"""Minibatches for models that are trained side by side, each on data of its own."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pyrovae.data.batches import DictDataset
from pyrovae.data.errors import DataError, whole_number


class StackedBatches:
    """Minibatches of R data sets of one size, for ``pyrovae.Stacked``.

    ``data`` holds (R, N, *event): row r is the r-th data set, as ``Regression.stacked`` gives
    them. Each epoch shuffles each of them for itself by torch's global generator; the last batch
    is smaller where B does not divide N.

    Shapes: yields ``{name: (R, B, *event)}``.

    Raises:
        DataError: tensors without two leading dims in common, or ``batch_size`` below 1.

    Example:
        >>> import torch
        >>> from pyrovae.data import DictDataset
        >>> batches = StackedBatches(DictDataset(x=torch.rand(3, 10, 4), y=torch.rand(3, 10, 1)), 4)
        >>> [tuple(batch["x"].shape) for batch in batches]
        [(3, 4, 4), (3, 4, 4), (3, 2, 4)]
    """

    def __init__(self, data: DictDataset, batch_size: int) -> None:
        shapes = {tuple(value.shape[:2]) for value in data.tensors.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise DataError(
                f"the data have leading shapes {sorted(shapes)}, expected one (R, N): R data sets of N rows."
            )
        self.data = data
        self.batch_size = whole_number(batch_size, "batch_size", at_least=1)

    def __len__(self) -> int:
        return -(-self._size[1] // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        count, size = self._size
        device = next(iter(self.data.tensors.values())).device
        order = torch.rand(count, size).argsort(1).to(device)
        rows = torch.arange(count, device=device).unsqueeze(1)
        for start in range(0, size, self.batch_size):
            index = order[:, start : start + self.batch_size]
            yield {name: value[rows, index] for name, value in self.data.tensors.items()}

    @property
    def _size(self) -> tuple[int, int]:
        count, size = next(iter(self.data.tensors.values())).shape[:2]
        return count, size
