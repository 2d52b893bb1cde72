"""Validation of --dataset: unknown names, data that the likelihood cannot score, labels."""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from pyrovae.core.digests import digest_of
from pyrovae.data import DictDataset, Splits
from pyrovae.data.sizes import refuse_special
from pyrovae.recipes.bounds import shown
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_settings import Settings

COUNTS = ("poisson", "negative-binomial")
ON_THE_UNIT_INTERVAL = {
    "bernoulli": "0 and 1",
    "autoregressive-bernoulli": "0 and 1",
    "continuous-bernoulli": "numbers from 0 to 1",
    "beta": "numbers between 0 and 1",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" with the names most similar to `word`; empty if there are none."""
    spelt = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), spelt, n=2)
    near += [
        name
        for name in spelt
        if len(word) > 2 and name.startswith(word.lower()) and name not in near
    ]
    return f" Did you mean {' or '.join(spelt[name] for name in near)}?" if near else ""


def refuse_unknown(option: str, name: str, known: Iterable[str], paths: str) -> None:
    """Raise Refusal for a name that is neither a `known` data set nor an existing path; `paths`
    describes the accepted paths."""
    path, known = Path(name).expanduser(), list(known)
    if name in known:
        return
    if path.exists():
        if (path / "run.json").exists():
            raise Refusal(f"{option} {shown(name)} is the folder of a run; expected {paths}.")
        return refuse_special(path)
    name = shown(name)
    if os.sep in name or path.suffix:
        beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        where = "" if path.parent.is_dir() else f", and there is no folder {path.parent}"
        raise Refusal(
            f"{option} {name}: there is no such file (relative to {Path.cwd()}){where}."
            + did_you_mean(path.name, [other.name for other in beside])
        )
    raise Refusal(
        f"{option} {name} is neither a data set nor a file.{did_you_mean(name, known)} Expected {', '.join(known)}, or "
        f"{paths}."
    )


def refuse_unfit(s: Settings, splits: Splits) -> None:
    """Raise Refusal for data outside the support of --likelihood, and suggest another one."""
    x = [
        part.tensors["x"] for part in (splits.train, splits.valid, splits.test) if part is not None
    ]
    name, likelihood = s.data.dataset, s.model.likelihood
    low, high = min(float(part.min()) for part in x), max(float(part.max()) for part in x)
    table = len(splits.event_shape) == 1
    whole = low >= 0 and all(bool((part == part.round()).all()) for part in x)
    instead = (
        "For a table of measurements use --likelihood normal-learned (or student-t, where there are outliers), with "
        "columns of mean 0 and standard deviation 1"
        + ("; for counts --likelihood poisson" if whole else "")
    )
    if whole and table and high <= 255:
        instead += "; if these are pixels, store x / 255"
    if likelihood in ON_THE_UNIT_INTERVAL and not 0 <= low <= high <= 1:
        raise Refusal(
            f"{name} holds {'rows of ' if table else ''}numbers from {low:.4g} to {high:.4g}, but "
            f"--likelihood {likelihood} scores {ON_THE_UNIT_INTERVAL[likelihood]}. {instead}."
        )
    if likelihood in ("categorical", "logistic-mixture") and splits.levels is None:
        raise Refusal(
            f"{name} holds real numbers from {low:.4g} to {high:.4g}, but --likelihood {likelihood} scores "
            f"the grey levels of pixels stored as uint8. {instead}."
        )
    if likelihood in COUNTS and not whole and splits.levels is None:
        raise Refusal(
            f"{name} holds numbers from {low:.4g} to {high:.4g} that are not counts, but --likelihood "
            f"{likelihood} scores 0, 1, 2, .... {instead}."
        )


def with_classes(name: str, splits: Splits) -> tuple[Splits, int]:
    """The splits with labels y in 0..C-1, in the order of the training labels, and C.

    Raises:
        Refusal: a split without labels, or with a class that is absent from the training data.
    """
    named = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    parts = {part: data for part, data in named.items() if data is not None}
    names = {"train": "y", "valid": "y_valid", "test": "y_test"}
    if lacking := [names[part] for part, data in parts.items() if "y" not in data.tensors]:
        raise Refusal(f"{name} has no {', '.join(lacking)}; labels are needed in all splits.")
    classes = splits.train.tensors["y"].unique()
    for part, data in parts.items():
        if len(unseen := data.tensors["y"][~torch.isin(data.tensors["y"], classes)].unique()):
            raise Refusal(
                f"{names[part]} of {name} holds {_few(unseen)}, which the training data do not contain; they "
                f"have {_few(classes)}. Give both examples of each class, or leave those rows out."
            )
    numbered = {
        part: DictDataset(**{**data.tensors, "y": torch.searchsorted(classes, data.tensors["y"])})
        for part, data in parts.items()
    }
    return dataclasses.replace(
        splits,
        train=numbered["train"],
        valid=numbered.get("valid"),
        test=numbered["test"],
    ), len(classes)


def digest_of_parts(train: DictDataset, valid: DictDataset | None, test: DictDataset) -> str:
    """Digest of all data that a run learns from or is scored on."""
    parts = {"train": train, "valid": valid, "test": test}
    return digest_of(
        {
            f"{part}/{name}": value
            for part, data in parts.items()
            if data is not None
            for name, value in data.tensors.items()
        }
    )


def own_conditions(splits: Splits, *, use: bool) -> tuple[Splits, int]:
    """The parts with the conditions c that the user's file brings, and their number of columns; for
    `use=False` without them.

    Raises: Refusal for parts without c, or with others than those of the training data.
    """
    named = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    parts = {part: data for part, data in named.items() if data is not None}
    if not use:
        if all("c" not in data.tensors for data in parts.values()):
            return splits, 0
        kept = {
            part: DictDataset(
                **{name: value for name, value in data.tensors.items() if name != "c"}
            )
            for part, data in parts.items()
        }
        return dataclasses.replace(
            splits, train=kept["train"], valid=kept.get("valid"), test=kept["test"]
        ), 0
    names = {"train": "c", "valid": "c_valid", "test": "c_test"}
    if lacking := [names[part] for part, data in parts.items() if "c" not in data.tensors]:
        raise Refusal(
            f"--condition own: {splits.name} holds no {', '.join(lacking)}; expected an .npz with c, rows of numbers "
            "beside those of x, in all parts."
        )
    widths = {names[part]: data.tensors["c"].shape[1] for part, data in parts.items()}
    if len(set(widths.values())) > 1:
        raise Refusal(
            f"--condition own: columns of c differ, {widths}; expected as many in all parts."
        )
    return splits, widths["c"]


def _few(labels: torch.Tensor) -> str:
    shown = labels[:10].tolist()
    more = ", ..." if len(labels) > len(shown) else ""
    return f"{'class' if len(labels) == 1 else 'classes'} {', '.join(map(str, shown))}{more}"
