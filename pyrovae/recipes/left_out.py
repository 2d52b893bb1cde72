"""Data without some of their classes."""

import dataclasses
from collections.abc import Sequence

import torch

from pyrovae.data import DictDataset, Splits
from pyrovae.recipes.refusal import Refusal


def without_classes(splits: Splits, classes: Sequence[int]) -> Splits:
    """The rows of all parts whose label y is none of `classes`; y is in the units of the data.

    Raises: Refusal for data without labels, a class that no training datum has, and where nothing
    would be left.
    """
    if not classes:
        return splits
    named = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    parts = {name: data for name, data in named.items() if data is not None}
    if any("y" not in data.tensors for data in parts.values()):
        raise Refusal(f"--leave-out is for data with labels y, but {splits.name} has none.")
    known = splits.train.tensors["y"].unique()
    if missing := sorted(set(classes) - set(known.tolist())):
        raise Refusal(
            f"--leave-out {missing[0]}: {splits.name} has no such class; it has "
            f"{', '.join(map(str, known[:20].tolist()))}{', ...' * (len(known) > 20)}."
        )
    kept = {}
    for name, data in parts.items():
        rows = ~torch.isin(data.tensors["y"], torch.tensor(classes))
        if not rows.any():
            raise Refusal(
                f"--leave-out leaves no {name} data of {splits.name}; name fewer classes."
            )
        kept[name] = DictDataset(**data[rows.nonzero()[:, 0]])
    return dataclasses.replace(
        splits, train=kept["train"], valid=kept.get("valid"), test=kept["test"]
    )
