"""Regression data with their splits, standardised on what is trained on."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.batches import DictDataset
from pyrovae.data.errors import DataError, whole_number
from pyrovae.data.row_splits import Indices, check_indices, check_matrix, moments


@dataclasses.dataclass(frozen=True)
class RegressionSplit:
    """One division of the rows (or R of them, stacked), in units in which the training part has
    mean 0 and variance 1.

    Shapes: x (N, D) and y (N, T) in each part; x_mean and x_scale (D,), y_mean and y_scale (T,).
    Of ``stacked``: x (R, N, D) and y (R, N, T), the rows of these datasets being whole splits; (R,
    1, D) and (R, 1, T).
    Units: standardised y = (original y - y_mean) / y_scale. The scale is the standard deviation
    (of the population, as numpy has it) over the training part without ``valid``; that of a
    constant column is 1.
    """

    train: DictDataset
    valid: DictDataset | None
    test: DictDataset
    x_mean: Tensor
    x_scale: Tensor
    y_mean: Tensor
    y_scale: Tensor

    def original_y(self, y: Tensor) -> Tensor:
        """Standardised targets or predictions (*S, N, T), or (*S, R, N, T) of stacked splits, in
        their own units.

        A standard deviation takes ``* y_scale`` alone.
        """
        return y * self.y_scale + self.y_mean

    @property
    def log_density_shift(self) -> Tensor:
        """What to add to log p(standardised y) for log p(y): -sum_t log y_scale_t, in nats per
        datum; () or (R, 1).

        Example:
            >>> from pyrovae.data import gap1d
            >>> split = gap1d().split(0)
            >>> y = split.test.tensors["y"]
            >>> own = torch.distributions.Normal(split.y_mean, split.y_scale).log_prob(split.original_y(y))
            >>> standard = torch.distributions.Normal(0.0, 1.0).log_prob(y)
            >>> torch.allclose(own.sum(-1), standard.sum(-1) + split.log_density_shift, atol=1e-5)
            True
        """
        return -self.y_scale.log().sum(-1)


@dataclasses.dataclass(frozen=True)
class Regression:
    """Features x and targets y in their own units, and the splits into train and test rows.

    Shapes: x (N, D); y (N, T); each split a pair of int64 (train_index, test_index), any part of
    the N rows.

    Raises:
        DataError: other shapes or dtypes, values that are not finite, no split, or one with an
            index out of range, twice, or in both parts.

    Example:
        >>> import torch
        >>> from pyrovae.data import Regression
        >>> x = torch.arange(10.0)[:, None]
        >>> line = Regression("line", x, 2 * x, [(torch.arange(8), torch.arange(8, 10))], source="y = 2x")
        >>> split = line.split(0)
        >>> split.train.tensors["y"].mean().abs() < 1e-6, split.original_y(split.test.tensors["y"]).flatten()
        (tensor(True), tensor([16., 18.]))
    """

    name: str
    x: Tensor
    y: Tensor
    splits: list[Indices]
    source: str

    def __post_init__(self) -> None:
        for key, value in (("x", self.x), ("y", self.y)):
            check_matrix(f"{key} of {self.name!r}", value)
        if len(self.x) != len(self.y):
            raise DataError(
                f"{self.name!r} has {len(self.x)} rows of x and {len(self.y)} of y; expected as many. "
                "Row i of each must belong to datum i."
            )
        if not self.splits:
            raise DataError(
                f"{self.name!r} has no split, expected at least one pair (train_index, test_index)."
            )
        for k, (train, test) in enumerate(self.splits):
            check_indices(
                train, test, len(self.x), f"train_index of split {k}", f"test_index of split {k}"
            )

    def split(self, k: int, *, valid_fraction: float = 0.0, seed: int = 0) -> RegressionSplit:
        """The k-th split, standardised on its training part.

        ``valid_fraction`` of the training rows, drawn by ``seed`` and rounded, become ``valid``
        (at least one); they are no part of the mean and scale.

        Raises:
            DataError: k out of range, or a fraction that leaves nothing to train on.

        Source: numpy's ``RandomState`` stream, frozen by NEP 19, so the rows are the same under
        every version.
        """
        if whole_number(k, "k", at_least=0) >= len(self.splits):
            raise DataError(
                f"{self.name!r} has splits 0..{len(self.splits) - 1} and no split {k}."
            )
        train, test = self.splits[k]
        if not 0 <= valid_fraction < 1:
            raise DataError(
                f"valid_fraction is {valid_fraction}, expected a share of the training part in [0, 1)."
            )
        size = max(1, round(valid_fraction * len(train))) if valid_fraction else 0
        if size >= len(train):
            raise DataError(
                f"holding out {size} of {len(train)} rows leaves none to train on. Lower valid_fraction."
            )
        order = (
            torch.from_numpy(np.random.RandomState(seed).permutation(len(train)))
            if size
            else torch.arange(len(train))
        )
        rows = {"train": train[order[size:]], "valid": train[order[:size]], "test": test}
        return self._standardised(rows)

    def whole(self) -> RegressionSplit:
        """All N rows, standardised on all of them: ``train`` and ``test`` are both the whole set, for
        a model to predict new rows with.

        Example:
            >>> from pyrovae.data import load_diabetes
            >>> len(load_diabetes().whole().train)
            442
        """
        rows = torch.arange(len(self.x))
        return self._standardised({"train": rows, "valid": rows[:0], "test": rows})

    def _standardised(self, rows: dict[str, Tensor]) -> RegressionSplit:
        values = {"x": self.x, "y": self.y}
        found = {key: moments(value[rows["train"]]) for key, value in values.items()}

        def part(name: str) -> DictDataset:
            return DictDataset(
                **{
                    key: ((value[rows[name]].double() - found[key][0]) / found[key][1]).to(
                        value.dtype
                    )
                    for key, value in values.items()
                }
            )

        numbers = {
            f"{key}_{kind}": number.to(values[key].dtype)
            for key, pair in found.items()
            for kind, number in zip(("mean", "scale"), pair)
        }
        return RegressionSplit(
            part("train"), part("valid") if len(rows["valid"]) else None, part("test"), **numbers
        )

    def stacked(self, *, valid_fraction: float = 0.0, seed: int = 0) -> RegressionSplit:
        """All R splits at once, each standardised by its own training part, for R networks that
        train side by side.

        Shapes: x (R, N, D), y (R, N, T) in each part; means and scales (R, 1, D) and (R, 1, T).

        Raises:
            DataError: splits of different sizes; what ``split`` refuses.

        Example:
            >>> from pyrovae.data import load_diabetes
            >>> load_diabetes(splits=3).stacked().train.tensors["x"].shape
            torch.Size([3, 398, 10])
        """
        sizes = sorted({(len(train), len(test)) for train, test in self.splits})
        if len(sizes) > 1:
            raise DataError(
                f"the splits of {self.name!r} have (train, test) sizes {sizes}; expected one pair of sizes for "
                "all. Go through them one by one with split(k)."
            )
        every = [
            self.split(k, valid_fraction=valid_fraction, seed=seed)
            for k in range(len(self.splits))
        ]

        def stack(sets: list[DictDataset]) -> DictDataset:
            parts = [data.tensors for data in sets]
            return DictDataset(
                **{key: torch.stack([tensors[key] for tensors in parts]) for key in ("x", "y")}
            )

        numbers = {
            name: torch.stack([vars(split)[name] for split in every]).unsqueeze(1)
            for name in ("x_mean", "x_scale", "y_mean", "y_scale")
        }
        valid = [split.valid for split in every if split.valid is not None]
        return RegressionSplit(
            stack([split.train for split in every]),
            stack(valid) if valid else None,
            stack([split.test for split in every]),
            **numbers,
        )
