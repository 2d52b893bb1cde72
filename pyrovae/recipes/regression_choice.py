"""Regression data sets by name or path."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from pyrovae.data import (
    Regression,
    data_root,
    gap1d,
    load_diabetes,
    load_npz_regression,
    load_uci,
    load_uci_folder,
)
from pyrovae.data.user_files import read_file
from pyrovae.recipes.data_choice import refuse_unknown
from pyrovae.recipes.refusal import Refusal

UCI = (
    "bostonHousing",
    "concrete",
    "energy",
    "kin8nm",
    "naval-propulsion-plant",
    "power-plant",
    "protein-tertiary-structure",
    "wine-quality-red",
    "yacht",
)
"""The standard names, whether or not their files are present."""
LAYOUTS = "an .npz with x and y or of a folder in the UCI layout"


def known_sets() -> list[str]:
    """The available names: sets that need no file, and those under the data root."""
    return [
        "diabetes",
        "gap",
        *sorted(path.parent.name for path in (data_root() / "UCI").glob("*/data")),
    ]


def load_regression(
    name: str,
    *,
    splits: int | None = None,
    seed: int = 0,
    others: Iterable[str] = (),
    paths: str = f"the path of {LAYOUTS}",
) -> Regression | None:
    """A data set by name or path (with 20 splits if it defines none); None if its targets are
    classes or it holds images.

    others: names of classification sets. paths: a description of the accepted paths, for the
    error message.

    Raises:
        Refusal: an unknown name or path; more splits than the set has.
    """
    if name in others:
        return None
    if name not in UCI:
        refuse_unknown("--dataset", name, dict.fromkeys((*known_sets(), *others, *UCI)), paths)
    path = Path(name).expanduser()
    if name == "diabetes":
        return load_diabetes(splits or 20, seed)
    if name == "gap":
        return _few(gap1d(seed=seed), splits)
    if path.is_dir() and name not in known_sets():
        place = next(
            (place for place in (path, path / "data") if (place / "data.txt").exists()), None
        )
        return None if place is None else _few(load_uci_folder(place), splits)
    if path.is_file():
        arrays, _ = read_file(path)
        if "y" not in arrays:
            raise Refusal(
                f"{path} holds {', '.join(sorted(arrays))} and no y; expected an .npz with x and y, whole numbers "
                "for classes and floats otherwise: np.savez(path, x=x, y=y)."
            )
        return (
            None
            if arrays["y"].dtype.kind in "iub"
            else load_npz_regression(path, splits or 20, seed)
        )
    return _few(load_uci(name), splits)


def _few(data: Regression, splits: int | None) -> Regression:
    if splits is not None and splits > len(data.splits):
        raise Refusal(
            f"--splits {splits}: {data.name} has {len(data.splits)}; ask for at most that many."
        )
    return dataclasses.replace(data, splits=data.splits[:splits])
