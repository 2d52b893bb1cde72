"""Holding out rows at random, in the same way every time."""

import numpy as np
import torch

from pyrovae.data.batches import DictDataset
from pyrovae.data.errors import DataError, whole_number


def split_valid(
    data: DictDataset,
    valid_size: int | None = None,
    *,
    seed: int = 0,
) -> tuple[DictDataset, DictDataset | None]:
    """Hold out ``valid_size`` rows at random: (the others, those held out).

    None holds out min(1000, N / 10) rows, at least one; 0 holds out nothing and gives None. Both
    parts come out in random order, so that data sorted by class do not stay so; the permutation
    depends on N and ``seed`` only.

    Raises:
        DataError: ``valid_size`` is not a whole number, or leaves no row to train on.

    Source: numpy's ``RandomState`` stream, frozen by NEP 19, so the split is the same under every
    version.

    Example:
        >>> import torch
        >>> from pyrovae.data import DictDataset, split_valid
        >>> [len(part) for part in split_valid(DictDataset(x=torch.rand(50, 2)))]
        [45, 5]
    """
    if valid_size is None:
        valid_size = max(1, min(1000, len(data) // 10))
    size = whole_number(valid_size, "valid_size", at_least=0)
    return hold_out(data, size, seed=seed) if size else (data, None)


def hold_out(data: DictDataset, size: int, *, seed: int) -> tuple[DictDataset, DictDataset]:
    """`split_valid` for a size above 0."""
    if size >= len(data):
        raise DataError(
            f"holding out {size} of {len(data)} rows leaves none to train on. Hold out fewer."
        )
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(data)))
    return DictDataset(**data[order[size:]]), DictDataset(**data[order[:size]])
