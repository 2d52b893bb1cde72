"""Rows of a table: which are trained on, and whether their numbers can be."""

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.errors import DataError, whole_number

Indices = tuple[Tensor, Tensor]


def random_splits(rows: int, splits: int, seed: int) -> list[Indices]:
    """``splits`` random divisions of the rows into nine tenths to train on and one, rounded down,
    to test.

    Raises:
        DataError: fewer than 10 rows, or no split.

    Example:
        >>> [len(part) for part in random_splits(25, 1, seed=0)[0]]
        [23, 2]
    """
    if rows < 10:
        raise DataError(
            f"there are {rows} rows, expected at least 10 to hold out a tenth. The first axis counts them."
        )
    state = np.random.RandomState(seed)
    orders = [
        torch.from_numpy(state.permutation(rows))
        for _ in range(whole_number(splits, "splits", at_least=1))
    ]
    return [(order[rows // 10 :], order[: rows // 10]) for order in orders]


def check_matrix(name: str, value: Tensor) -> None:
    """Refuse what is not (rows, columns) of finite floats.

    Raises:
        DataError: as above.

    Example:
        >>> check_matrix("x", torch.zeros(3, 1))
    """
    if not value.is_floating_point() or value.dim() != 2 or value.numel() == 0:
        raise DataError(
            f"{name} is {value.dtype} of shape {tuple(value.shape)}, expected floats of shape (N, columns), none "
            "of them 0. Use .float(), and .unsqueeze(-1) on a vector."
        )
    if len(bad := (~value.isfinite()).nonzero()):
        raise DataError(
            f"{name} has {len(bad)} values that are NaN or infinite, the first in row {int(bad[0, 0])}, column "
            f"{int(bad[0, 1])}; expected finite numbers. Drop or impute those rows."
        )


def check_indices(
    train: Tensor, test: Tensor, size: int, train_name: str, test_name: str, *, of: str = "row"
) -> None:
    """Refuse indices that do not say which of ``size`` rows (or columns) belong to the one part
    and which to the other.

    Raises:
        DataError: as above; it names the part by ``train_name`` or ``test_name``.

    Example:
        >>> check_indices(torch.tensor([0, 1]), torch.tensor([2]), 3, "train", "test")
    """
    for name, index in ((train_name, train), (test_name, test)):
        if index.dim() != 1 or index.dtype != torch.long or not len(index):
            raise DataError(
                f"{name} is {index.dtype} of shape {tuple(index.shape)}, expected int64 {of} numbers, at least 1. "
                "Use .long(), or leave the split out."
            )
        if index.min() < 0 or index.max() >= size:
            raise DataError(
                f"{name} holds {int(index.min())}..{int(index.max())}, expected {of} numbers 0..{size - 1} as "
                f"there are {size} {of}s. Count them from 0."
            )
        values, counts = index.unique(return_counts=True)
        if counts.max() > 1:
            raise DataError(
                f"{name} holds {of} {int(values[counts.argmax()])} {int(counts.max())} times, expected each at "
                "most once. Delete the repetitions."
            )
    if len(both := train[torch.isin(train, test)]):
        raise DataError(
            f"{train_name} and {test_name} share {len(both)} {of}s, {of} {int(both[0])} among them; expected "
            "none. Take them out of one of the two."
        )


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column in float64; deviation 1 for a constant one.

    Example:
        >>> moments(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))[1].tolist()
        [1.0, 1.0]
    """
    values = values.double()
    constant = values.amax(0) == values.amin(0)
    return values.mean(0), values.std(0, correction=0).where(~constant, 1.0)
