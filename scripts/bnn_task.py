"""A data set as R problems of one size (splits times seeds), stacked."""
import dataclasses
import math
from pathlib import Path
from typing import Literal

import torch
from bnn_settings import BnnSettings
from data_choice import refuse_unknown
from run_folder import Refusal
from torch import Tensor

from pyrovae.data import (DictDataset, Regression, data_root, gap1d, load_diabetes, load_digits, load_fashion_mnist,
                          load_kmnist, load_mnist, load_npz_regression, load_path, load_uci, load_uci_folder)
from pyrovae.data.files import read_file
from pyrovae.digests import digest_of

UCI = ("bostonHousing", "concrete", "energy", "kin8nm", "naval-propulsion-plant", "power-plant",
       "protein-tertiary-structure", "wine-quality-red", "yacht")
"""The standard names, whether their files are here or not."""
PATHS = "the path of an .npz with x and y, of a folder of images or IDX files, or of a folder in the UCI layout"
IMAGES = {"digits": load_digits, "mnist": load_mnist, "fashion-mnist": load_fashion_mnist, "kmnist": load_kmnist}


@dataclasses.dataclass(frozen=True)
class Task:
    """Train, test and perhaps valid parts, `(R, N, D)` and `(R, N, 1)` or, for classes, x `(1, N, D)` and y `(1, N)`.

    Splits come R // seeds times, one after another; data that all networks share have R = 1 and serve any number.
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
        """Of all that is learned from and scored."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return digest_of({f"{part}/{name}": value for part, data in parts.items() if data is not None
                          for name, value in data.tensors.items()})

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
        """Networks come split by split, the seeds of one after another."""
        return network // seeds if self.num_splits > 1 else 0


def load_task(s: BnnSettings) -> Task:
    """Raises Refusal for a name that is no data set."""
    path, here = Path(s.dataset).expanduser(), sorted(path.parent.name for path in (data_root() / "UCI").glob("*/data"))
    known = ("diabetes", *IMAGES, "gap", *here)
    if s.dataset not in UCI:
        refuse_unknown("--dataset", s.dataset, dict.fromkeys((*known, *UCI)), PATHS)
    if s.dataset in IMAGES:
        return _images(s, IMAGES[s.dataset]())
    if s.dataset == "diabetes":
        return _regression(s, load_diabetes(s.splits or 20, s.seed))
    if s.dataset == "gap":
        return _regression(s, gap1d(seed=s.seed))
    if path.is_dir():
        if (path / "data.txt").exists() or (path / "data" / "data.txt").exists():
            return _regression(s, load_uci_folder(path if (path / "data.txt").exists() else path / "data"))
        return _images(s, load_path(path))
    if path.is_file():
        arrays, _ = read_file(path)
        if "y" not in arrays:
            raise Refusal(f"{path} holds {', '.join(sorted(arrays))} and no y; expected an .npz with x and y, whole numbers "
                          "for classes and floats otherwise: np.savez(path, x=x, y=y).")
        return _images(s, load_path(path)) if arrays["y"].dtype.kind in "iu" else _regression(s, load_npz_regression(
            path, s.splits or 20, s.seed))
    return _regression(s, load_uci(s.dataset))


def _regression(s: BnnSettings, data: Regression) -> Task:
    if s.splits is not None:
        data = dataclasses.replace(data, splits=data.splits[:s.splits])
    stacked = data.stacked(valid_fraction=s.valid_fraction, seed=s.seed)
    return Task(data.name, "regression", stacked.train, stacked.valid, stacked.test, stacked.train.tensors["y"].shape[-1],
                stacked.y_mean, stacked.y_scale, source=data.source,
                x_stats=(stacked.x_mean[0], stacked.x_scale[0]))


def _images(s: BnnSettings, splits: object) -> Task:
    parts = {"y": splits.train, "y_valid": splits.valid, "y_test": splits.test}
    if lacking := [name for name, part in parts.items() if part is not None and "y" not in part.tensors]:
        raise Refusal(f"{s.dataset} has no {', '.join(lacking)}; a classifier needs the classes of all its parts.")

    def part(data: DictDataset | None) -> DictDataset | None:
        return None if data is None else DictDataset(x=data.tensors["x"].flatten(1).unsqueeze(0),
                                                     y=data.tensors["y"].unsqueeze(0))

    train, valid = splits.train, splits.valid
    if not s.valid_fraction and valid is not None:
        train = DictDataset(**{name: torch.cat([value, valid.tensors[name]]) for name, value in train.tensors.items()})
        valid = None
    classes = int(max(data.tensors["y"].max() for data in (splits.train, splits.test))) + 1
    one = torch.ones(1, 1, 1)
    return Task(splits.name, "classification", part(train), part(valid), part(splits.test), classes, 0 * one, one,
                image_shape=tuple(splits.event_shape) if len(splits.event_shape) == 3 else None, source=splits.source)


def load_unknown(name: str, task: Task) -> Tensor:
    """Inputs of another data set (`--ood`), `(1, N, D)`, at the size of this one's images; noise for "noise"."""
    if name == "noise":
        return torch.rand(1, 1000, task.num_features, generator=torch.Generator().manual_seed(0))
    if name == "photographs":
        return _patches(task).flatten(1).unsqueeze(0)
    refuse_unknown("--ood", name, (*IMAGES, "noise", "photographs"), "a PATH")
    splits = IMAGES[name]() if name in IMAGES else load_path(Path(name))
    x = splits.test.tensors["x"]
    if task.image_shape is not None and tuple(x.shape[1:]) != task.image_shape:
        x = torch.nn.functional.interpolate(x[:, :1], size=task.image_shape[1:], mode="bilinear", antialias=True)
    x = x.flatten(1)
    if x.shape[1] != task.num_features:
        raise Refusal(f"--ood {name} has {x.shape[1]} features, {task.name} {task.num_features}.")
    return x.unsqueeze(0)


def _patches(task: Task) -> Tensor:
    """Grey squares, `(N, 1, H, W)`, of the two photographs that ship with scikit-learn."""
    from sklearn.datasets import load_sample_images

    if task.image_shape is None or task.image_shape[0] != 1:
        raise Refusal(f"--ood photographs is for grey images, and {task.name} holds {task.num_features} features.")
    height, width = task.image_shape[1:]
    parts = []
    for photograph in load_sample_images().images:
        grey = torch.tensor(photograph).float().mean(-1) / 255.0
        squares = grey.unfold(0, height, height).unfold(1, width, width)
        parts.append(squares.reshape(-1, 1, height, width))
    return torch.cat(parts)


def epochs_of(s: BnnSettings, task: Task) -> int:
    """As many whole epochs as make up the steps."""
    return max(1, math.ceil(s.steps / math.ceil(task.num_data / s.batch_size)))
