"""Batches of several kinds in turn."""

from collections.abc import Iterator

from torch import Tensor

from pyrovae.data.batches import Batches


class Interleaved:
    """The batches of `main`, with one of `other` after every `every` of them; `other` starts again
    when it is used up.

    For losses that take batches of two kinds, such as data with labels among data without: a step
    sees one kind. An epoch is a pass through `main`.

    Raises:
        ValueError: ``every`` below 1.

    Example:
        >>> import torch
        >>> from pyrovae.data import Batches, DictDataset
        >>> plain = Batches(DictDataset(x=torch.rand(6, 2)), 2)
        >>> labelled = Batches(DictDataset(x=torch.rand(2, 2), y=torch.arange(2)), 2)
        >>> [sorted(batch) for batch in Interleaved(plain, labelled, every=2)]
        [['x'], ['x'], ['x', 'y'], ['x']]
    """

    def __init__(self, main: Batches, other: Batches, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every={every}, expected at least 1.")
        self.main, self.other, self.every = main, other, every

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        other = iter(self.other)
        for index, batch in enumerate(self.main, start=1):
            yield batch
            if index % self.every == 0:
                item = next(other, None)
                if item is None:
                    other = iter(self.other)
                    item = next(other)
                yield item

    def __len__(self) -> int:
        return len(self.main) + len(self.main) // self.every
