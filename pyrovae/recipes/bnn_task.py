"""A data set as R stacked problems of equal size: splits times seeds."""

import dataclasses
import math
from typing import Literal

from torch import Tensor

from pyrovae.data import DictDataset, Regression
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.data_choice import digest_of_parts


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
    x_mean: Tensor | None = None
    x_scale: Tensor | None = None
    """Of the features of each split, `(R, 1, D)`; None where x is in its own units."""
    columns: tuple[str, ...] = ()
    target: str | None = None
    """Names of the features and of the target of a table."""
    levels: int | None = None
    """Grey levels of pixels, whose x is in [0, 1]; None for other numbers."""
    classes: tuple[int, ...] = ()
    """The labels as the data have them, by the number of the class."""
    regression: Regression | None = None
    """The rows of a regression set in their own units."""

    def digest(self) -> str:
        """Digest of the training, validation and test data."""
        return digest_of_parts(self.train, self.valid, self.test)

    @property
    def num_data(self) -> int:
        return self.train.tensors["x"].shape[1]

    @property
    def num_features(self) -> int:
        return self.train.tensors["x"].shape[2]

    @property
    def num_splits(self) -> int:
        return self.train.tensors["x"].shape[0]

    def facts(self) -> dict[str, object]:
        """What run.json says about the data, and what a loaded run needs to predict new ones."""

        def plain(value: Tensor | None) -> object:
            return None if value is None else value.tolist()

        return {
            "name": self.name,
            "source": self.source,
            "num_train": self.num_data,
            "num_splits": self.num_splits,
            "kind": self.kind,
            "num_features": self.num_features,
            "outputs": self.outputs,
            "image_shape": self.image_shape,
            "levels": self.levels,
            "columns": self.columns,
            "target": self.target,
            "classes": self.classes,
            "x_mean": plain(self.x_mean),
            "x_scale": plain(self.x_scale),
            "y_mean": plain(self.y_mean),
            "y_scale": plain(self.y_scale),
            "sha256": self.digest(),
        }

    def split_of(self, network: int, seeds: int) -> int:
        """Networks are ordered by split, then by seed."""
        return network // seeds if self.num_splits > 1 else 0


def epochs_of(s: BnnSettings, task: Task) -> int:
    """The number of epochs that `steps` amounts to, rounded up."""
    return max(1, math.ceil(s.run.steps / math.ceil(task.num_data / s.run.batch_size)))
