"""What a folder of results holds, without what may differ between two runs of the same command:
times, memory, dates."""

import csv
import hashlib
import json
import re
from pathlib import Path
from zipfile import BadZipFile

import h5py
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

VARIES = re.compile(
    r"second|memory|time|started|ended|session|host|pid|sha|digest|version|git|resume|out$|threads$|^files$",
    re.I,
)


def contents(folder: Path) -> dict[str, object]:
    """File name -> what it says; pictures and Markdown only by their names."""
    return {
        str(path.relative_to(folder)): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".lock" not in path.name and "checkpoint" not in path.name
    }


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Names of files that are missing in one of the two, or say something else."""
    return sorted(
        name for name in one.keys() | other.keys() if one.get(name, ()) != other.get(name, ())
    )


def _read(path: Path) -> object:
    try:
        return _parse(path)
    except (OSError, ValueError, EOFError, SafetensorError, BadZipFile) as error:
        return f"unreadable: {type(error).__name__}"


def _parse(path: Path) -> object:
    if path.suffix == ".safetensors":
        return {name: _hash(value) for name, value in load_file(path).items()}
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: _hash(file[name]) for name in file.files}
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with path.open() as file:
            return [_without_times(row) for row in csv.DictReader(file)]
    if path.suffix == ".nc":
        return _datasets(path)
    return path.suffix


def _datasets(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = _hash(item[()])

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(part) for key, part in value.items() if not VARIES.search(key)}
    if isinstance(value, list):
        return [_without_times(part) for part in value]
    return repr(value)  # NaN equals NaN


def _hash(array: np.ndarray) -> str:
    array = np.asarray(array)
    data = (
        repr(array.tolist()).encode()
        if array.dtype == object
        else np.ascontiguousarray(array).tobytes()
    )
    return f"{array.dtype} {array.shape} {hashlib.sha256(data).hexdigest()}"
