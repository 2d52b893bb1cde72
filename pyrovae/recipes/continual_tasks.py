"""Streams of tasks: permuted images, split classes, and a regression set in parts."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pyrovae.data import DictDataset, Regression, load_digits, load_mnist
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.regression_choice import LAYOUTS, load_regression

PAIRS = 5
"""Number of tasks of the split problems: pairs of classes."""
Problem = Literal[
    "permuted-mnist", "split-mnist", "permuted-digits", "split-digits", "regression-stream"
]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A sequence of tasks: x `(N, D)` with y `(N,)` in 0..C-1 or y `(N, 1)`, built on demand."""

    name: str
    kind: Literal["classification", "regression"]
    num_tasks: int
    features: int
    classes: int
    train: Callable[[int], DictDataset]
    test: Callable[[int], DictDataset]
    heads: int = 1
    """One head for all tasks, or one for each."""
    y_scale: float = 1.0

    def head_of(self, task: int) -> int:
        return min(task, self.heads - 1)

    def tests(self, task: int) -> list[int]:
        """The tasks whose test sets are evaluated after `task`: all so far, or for regression the
        one test set that all parts share."""
        return list(range(task + 1)) if self.kind == "classification" else [task]


def load_stream(
    problem: Problem, *, tasks: int, dataset: str, sort_by: int | None, seed: int
) -> Stream:
    """A stream by its name. Raises Refusal for an invalid number of tasks."""
    if problem == "regression-stream":
        return _parts(_regression(dataset), tasks, sort_by, seed)
    kind, _, name = problem.partition("-")
    splits = load_mnist(valid_size=0) if name == "mnist" else load_digits(valid_size=0)
    train, test = (
        {"x": part.tensors["x"].flatten(1), "y": part.tensors["y"]}
        for part in (splits.train, splits.test)
    )
    return (
        _permuted(problem, train, test, tasks, seed)
        if kind == "permuted"
        else _split(problem, train, test, tasks)
    )


def _regression(name: str) -> Regression:
    if (data := load_regression(name)) is None:
        raise Refusal(
            f"--dataset {name} holds classes or images, but the regression stream takes the path of {LAYOUTS}, "
            "whose targets are numbers."
        )
    return data


def _permuted(
    name: str, train: dict[str, Tensor], test: dict[str, Tensor], tasks: int, seed: int
) -> Stream:
    """Ten classes in every task, with another permutation of the pixels."""
    features = train["x"].shape[1]
    orders = [
        torch.from_numpy(np.random.RandomState((seed, task)).permutation(features))
        for task in range(tasks)
    ]

    def shuffled(data: dict[str, Tensor], task: int) -> DictDataset:
        return DictDataset(x=data["x"][:, orders[task]], y=data["y"])

    return Stream(
        name,
        "classification",
        tasks,
        features,
        10,
        lambda task: shuffled(train, task),
        lambda task: shuffled(test, task),
    )


def _split(name: str, train: dict[str, Tensor], test: dict[str, Tensor], tasks: int) -> Stream:
    """0 or 1, then 2 or 3, ...: two classes and a head for each task."""
    tasks = min(tasks, PAIRS)

    def pair(data: dict[str, Tensor], task: int) -> DictDataset:
        rows = data["y"] // 2 == task
        return DictDataset(x=data["x"][rows], y=data["y"][rows] % 2)

    return Stream(
        name,
        "classification",
        tasks,
        train["x"].shape[1],
        2,
        lambda task: pair(train, task),
        lambda task: pair(test, task),
        heads=tasks,
    )


def _parts(data: Regression, tasks: int, sort_by: int | None, seed: int) -> Stream:
    """The training rows of the first split in `tasks` parts, shuffled or sorted by a feature,
    standardised by the first part."""
    rows, test = data.splits[0]
    if sort_by is not None and not 0 <= sort_by < data.x.shape[1]:
        raise Refusal(f"--sort-by {sort_by}: {data.name} has features 0..{data.x.shape[1] - 1}.")
    if len(rows) < 2 * tasks:
        raise Refusal(
            f"--tasks {tasks}: {data.name} has {len(rows)} rows to train on; expected at least two a task."
        )
    rows = rows[torch.from_numpy(np.random.RandomState(seed).permutation(len(rows)))]
    if sort_by is not None:
        rows = rows[data.x[rows, sort_by].argsort(stable=True)]
    parts = rows.tensor_split(tasks)
    first = dataclasses.replace(data, splits=[(parts[0], test)]).split(0)

    def part(indices: Tensor) -> DictDataset:
        return DictDataset(
            x=(data.x[indices] - first.x_mean) / first.x_scale,
            y=(data.y[indices] - first.y_mean) / first.y_scale,
        )

    return Stream(
        f"{data.name} in {tasks} parts",
        "regression",
        tasks,
        data.x.shape[1],
        0,
        lambda task: part(parts[task]),
        lambda task: part(test),
        y_scale=float(first.y_scale),
    )
