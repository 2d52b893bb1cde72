"""A user's own data: an array file or a folder of images."""

import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pyrovae.data.arrays import PIXELS, convert_c, convert_x, convert_y, refuse_small_range
from pyrovae.data.batches import DictDataset
from pyrovae.data.csv_table import is_csv, read_csv
from pyrovae.data.errors import DataError
from pyrovae.data.holdout import hold_out, split_valid
from pyrovae.data.idx import is_idx, read_idx, read_idx_folder
from pyrovae.data.image_folder import SUFFIXES, read_image_folder
from pyrovae.data.sizes import check_numpy, refuse_special
from pyrovae.data.splits import Splits

MIN_ROWS = 10
_log = logging.getLogger(__name__)
_KEYS = {"x": "y", "x_valid": "y_valid", "x_test": "y_test"}
_CONDITIONS = {"x": "c", "x_valid": "c_valid", "x_test": "c_test"}
_EXPECTED = "an .npy, .npz, .csv or .tsv file, an IDX file (MNIST's format, also .gz) or a folder of images"
_TEXT = (".txt", ".dat")


def load_path(path: str | os.PathLike, *, valid_size: int | None = None) -> Splits:
    """Your data from ``.npy`` (x), ``.npz`` (x; optional y, c, and all with _valid, _test),
    ``.csv`` or ``.tsv`` (all columns are x; see ``csv_table.read_csv``), IDX or a folder of images.

    IDX is MNIST's format, plain or ``.gz``: one file of images, or a folder with files named as
    MNIST's, which may add labels and a test set. Labels may be given for some parts only. Without
    x_test a tenth of the rows, drawn at random but always the same, is the test set; without
    x_valid ``valid_size`` more rows are held out of what is left (None: min(1000, a tenth); 0:
    none). See ``arrays.convert_x`` for how dtypes and layouts are read and ``image_folder`` for
    folders; ``source`` says what was done. Pickled objects are never loaded.

    Shapes: x (N, D), or (N, C, H, W) with C in {1, 3}; y (N,); c (N, C), what each
    datum is given.
    Units: images in [0, 1]; float vectors keep their own.

    Raises:
        DataError: a path that does not exist or cannot be read, arrays that do not fit together,
            fewer than 10 rows, or values whose meaning is unclear (NaN, images outside [0, 1],
            images of 0-255 stored as floats, uint8 up to 63 only).

    Example:
        >>> import tempfile, numpy as np
        >>> from pyrovae.data import load_path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/waves.npy", np.sin(np.arange(300.0)).reshape(100, 3))
        ...     waves = load_path(f"{folder}/waves.npy")
        >>> len(waves.train), len(waves.valid), len(waves.test)
        (81, 9, 10)
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist (looked from {Path.cwd()}). Give {_EXPECTED}.")
    arrays, note = (
        (read_idx_folder(path) or read_image_folder(path)) if path.is_dir() else read_file(path)
    )
    return splits_of(path, arrays, note, valid_size=valid_size)


def splits_of(
    path: Path, arrays: dict[str, np.ndarray], note: str, *, valid_size: int | None
) -> Splits:
    """The arrays of a file (x; optional y, c, and all with _valid, _test) as ``load_path`` gives
    them; note: what else its ``source`` says."""
    _check_names(arrays, path)
    try:
        raw = {name: arrays[name] for name in _KEYS if name in arrays}
        if not path.is_dir():
            refuse_small_range(raw)
        xs, levels, how = convert_x(raw)
        parts = {
            name: DictDataset(
                x=x,
                **(
                    {"y": convert_y(arrays[_KEYS[name]], len(x), _KEYS[name])}
                    if _KEYS[name] in arrays
                    else {}
                ),
                **(
                    {"c": convert_c(arrays[_CONDITIONS[name]], len(x), _CONDITIONS[name])}
                    if _CONDITIONS[name] in arrays
                    else {}
                ),
            )
            for name, x in xs.items()
        }
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if how == PIXELS and parts["x"].tensors["x"].dim() == 2:
        _log.info(
            "%s: rows of uint8 up to %d are read as pixels, x / 255; of ages, counts or other measurements store "
            "x.astype(np.float32).",
            path,
            max(arrays[name].max() for name in xs),
        )
    if (rows := len(parts["x"])) < MIN_ROWS:
        raise DataError(
            f"{path}: x has {rows} row{'s' * (rows != 1)}, expected at least {MIN_ROWS}. The first axis must "
            "count the data."
        )
    if "x_valid" in parts and valid_size is not None:
        raise DataError(
            f"{path} brings its own x_valid, so valid_size={valid_size} has no meaning. "
            "Leave one of them out."
        )
    train, test = parts["x"], parts.get("x_test")
    if test is None:
        train, test = hold_out(train, max(1, rows // 10), seed=1)
    train, valid = (
        (train, parts["x_valid"]) if "x_valid" in parts else split_valid(train, valid_size)
    )
    return Splits(
        path.stem,
        train,
        valid,
        test,
        levels=levels,
        source=f"{path}: {note + ', ' if note else ''}{how}",
    )


def read_file(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of an .npy, .npz, .csv, .tsv or IDX file, and a note."""
    suffix = path.suffix.lower()
    refuse_special(path)
    if is_csv(path):
        table = read_csv(path)
        return {"x": table.values}, f"{len(table.names)} columns"
    if suffix in _TEXT:
        raise DataError(
            f"{path} is a table in text without a format, which is not read; expected {_EXPECTED}. Give the columns "
            "names in a first line, separate them by commas and call it .csv, or turn it into an .npz in one line of "
            f"Python, x the features and y what is to be predicted, where there is one: import numpy as np; "
            f"t = np.loadtxt({path.name!r}, skiprows=1); np.savez({path.stem + '.npz'!r}, "
            "x=t[:, :-1], y=t[:, -1])  (skiprows=1 skips a line of names; take x=t where all columns are data)"
        )
    try:
        if suffix not in (".npy", ".npz"):
            if is_idx(path):
                return {"x": read_idx(path)}, f"IDX file {path.name}"
            way_out = (
                "Give the folder it lies in."
                if suffix in SUFFIXES
                else "Save arrays with np.savez(path, x=...)."
            )
            raise DataError(
                f"{path} ends in {path.suffix!r} and is no IDX file; expected {_EXPECTED}. {way_out}"
            )
        with open(path, "rb") as file:
            return _read_open(file, path)
    except DataError:
        raise
    except (
        Exception
    ) as error:  # a damaged header can raise nearly anything inside numpy and zipfile
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds an object array (rows of different lengths?), which only pickle can read "
                "and is never loaded. Make it one rectangular array of numbers."
            ) from error
        seen = (
            "it does not start like one"
            if "pickled" in str(error)
            else f"{type(error).__name__}: {error}"
        )
        kind = "a numpy file" if suffix in (".npy", ".npz") else "an IDX file"
        raise DataError(
            f"{path} cannot be read as {kind} ({seen}). It is damaged or something else: write it "
            "again with np.save or np.savez."
        ) from error


def _read_open(file: BinaryIO, path: Path) -> tuple[dict[str, np.ndarray], str]:
    known = [*_KEYS, *_KEYS.values(), *_CONDITIONS.values()]
    if file.read(6).startswith((b"PK\3\4", np.lib.format.MAGIC_PREFIX)):
        check_numpy(file, path, known)
    file.seek(0)
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"x": loaded}, ""
    if "x" not in loaded:
        raise DataError(
            f"{path} holds {sorted(loaded)} and no 'x'. Save it with np.savez(path, x=..., y=...); "
            f"the names that are read are {', '.join(known)}."
        )
    ignored = sorted(set(loaded) - set(known))
    arrays = {name: loaded[name] for name in known if name in loaded}
    return arrays, f"ignored {', '.join(ignored)}" if ignored else ""


def _check_names(arrays: dict[str, np.ndarray], path: Path) -> None:
    for x, y in (*_KEYS.items(), *_CONDITIONS.items()):
        if y in arrays and x not in arrays:
            raise DataError(f"{path} holds {y} without {x}. Add {x}, or leave {y} out.")
