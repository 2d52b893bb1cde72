"""A data set as R stacked problems of equal size: splits times seeds."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pyrovae.core.digests import digest_of
from pyrovae.data import (
    DictDataset,
    Regression,
    Splits,
    load_digits,
    load_fashion_mnist,
    load_kmnist,
    load_mnist,
    load_path,
    split_valid,
)
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.data_choice import refuse_unknown, with_classes
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.regression_choice import load_regression

PATHS = "the path of an .npz with x and y, of a folder of images or IDX files, or of a folder in the UCI layout"
IMAGES = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "kmnist": load_kmnist,
}


@dataclasses.dataclass(frozen=True)
class Task:
    """Training, test and optional validation data: x `(R, N, D)` and y `(R, N, 1)` for
    regression, x `(1, N, D)` and y `(1, N)` for classification.

    R is the number of splits; all networks share the data if R = 1.
    """

    name: str
    kind: Literal["regression", "classification"]
    train: DictDataset
    valid: DictDataset | None
    test: DictDataset
    outputs: int
    y_mean: Tensor
    y_scale: Tensor
    image_shape: tuple[int, ...] | None = None
    source: str = ""
    x_stats: tuple[Tensor, Tensor] | None = None
    """Mean and scale of the features of the first split."""

    def digest(self) -> str:
        """Digest of the training, validation and test data."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return digest_of(
            {
                f"{part}/{name}": value
                for part, data in parts.items()
                if data is not None
                for name, value in data.tensors.items()
            }
        )

    @property
    def num_data(self) -> int:
        return self.train.tensors["x"].shape[1]

    @property
    def num_features(self) -> int:
        return self.train.tensors["x"].shape[2]

    @property
    def num_splits(self) -> int:
        return self.train.tensors["x"].shape[0]

    def split_of(self, network: int, seeds: int) -> int:
        """Networks are ordered by split, then by seed."""
        return network // seeds if self.num_splits > 1 else 0


def load_task(s: BnnSettings) -> Task:
    """Load the data of the settings. Raises Refusal for an unknown data set, and for settings
    that do not apply to it."""
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
    return _images(
        s, IMAGES[s.data.dataset]() if s.data.dataset in IMAGES else load_path(s.data.dataset)
    )


def _regression(s: BnnSettings, data: Regression) -> Task:
    stacked = data.stacked(valid_fraction=s.data.valid_fraction, seed=s.run.seed)
    return Task(
        data.name,
        "regression",
        stacked.train,
        stacked.valid,
        stacked.test,
        stacked.train.tensors["y"].shape[-1],
        stacked.y_mean,
        stacked.y_scale,
        source=data.source,
        x_stats=(stacked.x_mean[0], stacked.x_scale[0]),
    )


def _images(s: BnnSettings, splits: Splits) -> Task:
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
    )


def load_unknown(name: str, task: Task) -> Tensor:
    """Out-of-distribution inputs (`--ood`), `(1, N, D)`, resized to the images of the task.

    Raises:
        Refusal: a regression task, an unknown data set, or one with another number of features.
    """
    if task.kind == "regression":
        raise Refusal(f"--ood scores classifiers, but the targets of {task.name} are numbers.")
    if name == "noise":
        return torch.rand(1, 1000, task.num_features, generator=torch.Generator().manual_seed(0))
    if name == "photographs":
        return _patches(task).flatten(1).unsqueeze(0)
    refuse_unknown("--ood", name, (*IMAGES, "noise", "photographs"), "a PATH")
    splits = IMAGES[name]() if name in IMAGES else load_path(Path(name))
    x = splits.test.tensors["x"]
    if task.image_shape is not None and x.dim() == 4 and tuple(x.shape[1:]) != task.image_shape:
        x = torch.nn.functional.interpolate(
            x[:, :1], size=task.image_shape[1:], mode="bilinear", antialias=True
        )
    x = x.flatten(1)
    if x.shape[1] != task.num_features:
        raise Refusal(f"--ood {name} has {x.shape[1]} features, {task.name} {task.num_features}.")
    return x.unsqueeze(0)


def _patches(task: Task) -> Tensor:
    """Grey patches, `(N, 1, H, W)`, of the two photographs that ship with scikit-learn."""
    from sklearn.datasets import load_sample_images

    if task.image_shape is None or task.image_shape[0] != 1:
        raise Refusal(
            f"--ood photographs is for grey images, and {task.name} holds {task.num_features} features."
        )
    height, width = task.image_shape[1:]
    parts = []
    for photograph in load_sample_images().images:
        grey = torch.tensor(photograph).float().mean(-1) / 255.0
        squares = grey.unfold(0, height, height).unfold(1, width, width)
        parts.append(squares.reshape(-1, 1, height, width))
    return torch.cat(parts)


def epochs_of(s: BnnSettings, task: Task) -> int:
    """The number of epochs that `steps` amounts to, rounded up."""
    return max(1, math.ceil(s.run.steps / math.ceil(task.num_data / s.run.batch_size)))
