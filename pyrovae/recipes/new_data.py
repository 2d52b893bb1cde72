"""Data that a trained model has not seen, as a user has them: a named set, arrays, images, a table."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pyrovae.data import (
    Splits,
    load_binarized_mnist,
    load_digits,
    load_fashion_mnist,
    load_kmnist,
    load_mnist,
)
from pyrovae.data.arrays import convert_y
from pyrovae.data.csv_table import is_csv, read_csv, read_text_table
from pyrovae.data.idx import read_idx_folder
from pyrovae.data.image_folder import read_image_folder
from pyrovae.data.user_files import read_file
from pyrovae.recipes.condition_columns import ConditionColumns
from pyrovae.recipes.data_choice import refuse_unknown
from pyrovae.recipes.refusal import Refusal

Split = Literal["train", "valid", "test"]
NAMED: dict[str, Callable[[], Splits]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "kmnist": load_kmnist,
    "binarized-mnist": load_binarized_mnist,
}


@dataclasses.dataclass(frozen=True)
class NewData:
    """Rows as they are stored. x: `(N, ...)`; y: class labels `(N,)`; c: conditions `(N, C)`, both
    where there are any; columns: the names of x in a table."""

    name: str
    x: np.ndarray
    y: np.ndarray | None = None
    c: np.ndarray | None = None
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: np.ndarray | slice) -> "NewData":
        """Some of the rows."""

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[index]

        return dataclasses.replace(self, x=self.x[index], y=some(self.y), c=some(self.c))

    def sample(self, count: int | None, seed: int) -> "NewData":
        """At most `count` rows, chosen at random by a seed of their own."""
        if count is None or count >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.rows(order[:count].numpy())


def split_of(asked: Split | None, *names: str) -> Split:
    """The part of named sets that is read, by default test.

    Raises: Refusal for one that is asked for where no set is named.
    """
    if asked is not None and not any(name in NAMED for name in names):
        raise Refusal(
            f"--split {asked} is for named sets ({', '.join(NAMED)}); all rows of {names[0]} are read, leave it out."
        )
    return asked or "test"


def read_data(
    name: str,
    *,
    split: Split = "test",
    option: str = "DATA",
    columns: ConditionColumns | None = None,
) -> NewData:
    """A named set (its `split`), or all rows of an .npy, .npz (x; y and c where they are there),
    IDX or CSV file, or of a folder of images. columns: of a table that holds conditions too.

    Raises: Refusal for a name that leads nowhere; DataError for files that cannot be read.
    """
    refuse_unknown(
        option,
        name,
        NAMED,
        "the path of an .npy, .npz, .csv or IDX file, or of a folder of images",
    )
    if name in NAMED:
        splits = NAMED[name]()
        part = {"train": splits.train, "valid": splits.valid, "test": splits.test}[split]
        if part is None:
            raise Refusal(f"{option} {name} has no {split} split.")
        tensors = part.tensors
        return NewData(
            splits.name, tensors["x"].numpy(), tensors["y"].numpy() if "y" in tensors else None
        )
    path = Path(name).expanduser()
    if is_csv(path) and columns is not None:
        arrays = columns.read(read_text_table(path))
        return NewData(path.stem, arrays["x"], c=arrays["c"], columns=columns.x)
    if is_csv(path):
        table = read_csv(path)
        return NewData(path.stem, table.values, columns=table.names)
    arrays, _ = (
        (read_idx_folder(path) or read_image_folder(path)) if path.is_dir() else read_file(path)
    )
    x, y, c = arrays["x"], arrays.get("y"), arrays.get("c")
    if x.ndim < 2:
        raise Refusal(f"{path} holds x of shape {x.shape}, expected rows, (N, ...).")
    labels = None if y is None else convert_y(y, len(x), "y").numpy()
    return NewData(path.stem, x, labels, c)
