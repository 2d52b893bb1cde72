"""A table (.csv or .tsv) with a column to predict, as a regression or classification set."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pyrovae.data import DictDataset, Regression
from pyrovae.data.csv_table import CsvTable, is_csv, read_csv
from pyrovae.data.holdout import hold_out
from pyrovae.data.row_splits import random_splits
from pyrovae.recipes.data_choice import did_you_mean, refuse_unknown
from pyrovae.recipes.refusal import Refusal

Kind = Literal["auto", "regression", "classification"]
MOST_CLASSES = 20
"""Whole numbers with more distinct values than this are numbers, not classes."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TargetTable:
    """Features x `(N, D)` and a target y `(N,)`, float64, in their own units; `is_classes`: whether
    the targets are labels."""

    path: Path
    columns: tuple[str, ...]
    target: str
    x: Tensor
    y: Tensor
    is_classes: bool

    def regression(self, splits: int, seed: int) -> Regression:
        """Random 90/10 splits by `seed`, in float64."""
        return Regression(
            self.path.stem,
            self.x,
            self.y[:, None],
            random_splits(len(self.x), splits, seed),
            source=f"{self.path}, target {self.target!r}; {splits} random 90/10 splits, seed {seed}",
        )

    def labelled(self) -> tuple[DictDataset, DictDataset]:
        """Rows to train on and a tenth to test, always the same, y with the labels of the table."""
        return hold_out(DictDataset(x=self.x, y=self.y.long()), max(1, len(self.x) // 10), seed=1)


def find_table(dataset: str, target: str | None, task: Kind) -> TargetTable | None:
    """The table of --dataset with its --target; None for other data.

    Raises:
        Refusal: a target or task for other data, a table without them, a column that is not there
            or is constant, targets that are no class labels.
        DataError: a file that is no table of numbers.
    """
    path = Path(dataset).expanduser()
    if not is_csv(path):
        if target is not None or task != "auto":
            given = f"--target {target}" if target is not None else f"--task {task}"
            raise Refusal(
                f"{given} is for tables, but {dataset} is no .csv or .tsv file; leave it out."
            )
        return None
    refuse_unknown("--dataset", dataset, (), "the path of a .csv or .tsv file")
    table = read_csv(path)
    if target is None:
        raise Refusal(
            f"{path} is a table; name the column to predict: --target NAME, one of {_some(table.names)}."
        )
    if target not in table.names:
        raise Refusal(
            f"--target {target}: {path} has no such column.{did_you_mean(target, table.names)} Its columns are "
            f"{_some(table.names)}."
        )
    return _target_table(table, target, task)


def _target_table(table: CsvTable, target: str, task: Kind) -> TargetTable:
    columns, y = table.without([target]), table.columns([target])[:, 0]
    if not columns:
        raise Refusal(f"{table.path} has no column besides the target {target!r} to predict from.")
    values = np.unique(y)
    if len(values) == 1:
        raise Refusal(
            f"--target {target}: the column is {values[0]:g} in all {len(y)} rows of {table.path}, so there is "
            "nothing to predict."
        )
    whole = bool((values == np.round(values)).all())
    kind = task
    if kind == "auto":
        kind = "classification" if whole and len(values) <= MOST_CLASSES else "regression"
        what = f"{'whole numbers, ' if whole else ''}{len(values)} distinct values"
        _log.info("target %r (%s): %s; --task says otherwise", target, what, kind)
    if kind == "classification" and not whole:
        raise Refusal(
            f"--task classification: column {target!r} of {table.path} holds {values[values != np.round(values)][0]:g}; "
            "expected whole numbers as class labels."
        )
    x = torch.from_numpy(table.columns(columns))
    is_classes = kind == "classification"
    return TargetTable(table.path, columns, target, x, torch.from_numpy(y), is_classes)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
