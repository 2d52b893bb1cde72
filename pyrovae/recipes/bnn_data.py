"""The data of the settings as a `Task`."""

import dataclasses
from typing import cast

import torch

from pyrovae.data import (
    DictDataset,
    Regression,
    RegressionSplit,
    Splits,
    load_digits,
    load_fashion_mnist,
    load_kmnist,
    load_mnist,
    load_path,
    split_valid,
)
from pyrovae.data.row_splits import moments
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.data_choice import with_classes
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.regression_choice import load_regression
from pyrovae.recipes.table_choice import TargetTable, find_table

PATHS = "the path of an .npz with x and y, of a folder of images or IDX files, or of a folder in the UCI layout"
IMAGES = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "kmnist": load_kmnist,
}


def load_task(s: BnnSettings) -> Task:
    """Load the data of the settings. Raises Refusal for an unknown data set, and for settings
    that do not apply to it."""
    table = find_table(s.data.dataset, s.data.target, s.data.task)
    if table is not None and not table.is_classes:
        return _named(_regression(s, table.regression(s.data.splits or 20, s.run.seed)), table)
    data = None
    if table is None:
        data = load_regression(
            s.data.dataset, splits=s.data.splits, seed=s.run.seed, others=IMAGES, paths=PATHS
        )
    if data is not None:
        return _regression(s, data)
    if s.data.splits is not None or s.model.noise != "shared":
        given = (
            f"--splits {s.data.splits}"
            if s.data.splits is not None
            else f"--noise {s.model.noise}"
        )
        raise Refusal(
            f"{given} is for regression, but the targets of {s.data.dataset} are classes; leave it out."
        )
    if table is not None:
        return _named(_table(s, table), table)
    return _classification(
        s, IMAGES[s.data.dataset]() if s.data.dataset in IMAGES else load_path(s.data.dataset)
    )


def _regression(s: BnnSettings, data: Regression) -> Task:
    return _standardised(data, data.stacked(valid_fraction=s.data.valid_fraction, seed=s.run.seed))


def whole(task: Task) -> Task:
    """A regression task with one split, which trains on all rows."""
    data = cast(Regression, task.regression)
    split = data.whole()

    def stack(part: DictDataset) -> DictDataset:
        return DictDataset(**{key: value[None] for key, value in part.tensors.items()})

    stacked = dataclasses.replace(
        split,
        train=stack(split.train),
        test=stack(split.test),
        x_mean=split.x_mean[None, None],
        x_scale=split.x_scale[None, None],
        y_mean=split.y_mean[None, None],
        y_scale=split.y_scale[None, None],
    )
    return _standardised(data, stacked)


def _standardised(data: Regression, split: RegressionSplit) -> Task:
    return Task(
        data.name,
        "regression",
        _single(split.train),
        None if split.valid is None else _single(split.valid),
        _single(split.test),
        data.y.shape[-1],
        split.y_mean,
        split.y_scale,
        source=data.source,
        x_mean=split.x_mean,
        x_scale=split.x_scale,
        regression=data,
    )


def _named(task: Task, table: TargetTable) -> Task:
    return dataclasses.replace(task, columns=table.columns, target=table.target)


def _table(s: BnnSettings, table: TargetTable) -> Task:
    """Classes by features that are standardised on what is trained on."""
    train, test = table.labelled()
    source = f"{table.path}, target {table.target!r}"
    splits = Splits(table.path.stem, train, None, test, levels=None, source=source)
    task = _classification(s, splits)
    mean, scale = moments(task.train.tensors["x"][0])

    def part(data: DictDataset) -> DictDataset:
        return _single(DictDataset(x=(data.tensors["x"] - mean) / scale, y=data.tensors["y"]))

    return dataclasses.replace(
        task,
        train=part(task.train),
        valid=None if task.valid is None else part(task.valid),
        test=part(task.test),
        x_mean=mean[None, None],
        x_scale=scale[None, None],
    )


def _classification(s: BnnSettings, splits: Splits) -> Task:
    train, valid = splits.train, splits.valid
    if valid is not None and set(train.tensors) == set(valid.tensors):
        train = DictDataset(
            **{
                name: torch.cat([value, valid.tensors[name]])
                for name, value in train.tensors.items()
            }
        )
        valid = None
    if s.data.valid_fraction:
        train, valid = split_valid(
            train, max(1, round(s.data.valid_fraction * len(train))), seed=s.run.seed
        )
    labels = train.tensors["y"].unique() if "y" in train.tensors else torch.empty(0)
    splits, classes = with_classes(
        s.data.dataset, dataclasses.replace(splits, train=train, valid=valid)
    )
    if classes < 2:
        raise Refusal(
            f"{s.data.dataset} holds data of one class only, so there is nothing to classify; expected two or more."
        )

    def part(data: DictDataset) -> DictDataset:
        x, y = data.tensors["x"], data.tensors["y"]
        return DictDataset(x=x.flatten(1).unsqueeze(0), y=y.unsqueeze(0))

    one = torch.ones(1, 1, 1)
    return Task(
        splits.name,
        "classification",
        part(splits.train),
        None if splits.valid is None else part(splits.valid),
        part(splits.test),
        classes,
        0 * one,
        one,
        image_shape=tuple(splits.event_shape) if len(splits.event_shape) == 3 else None,
        source=splits.source,
        levels=splits.levels,
        classes=tuple(labels.tolist()),
    )


def _single(data: DictDataset) -> DictDataset:
    """In torch's default precision, as the nets are; tables are read in float64."""
    return DictDataset(
        **{
            name: value.to(torch.get_default_dtype()) if value.is_floating_point() else value
            for name, value in data.tensors.items()
        }
    )
