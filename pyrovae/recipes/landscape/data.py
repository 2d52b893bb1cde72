"""The data of the landscape: bits for one table, dequantised grey levels for the other."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pyrovae.data import Splits, load_path, static, threshold
from pyrovae.recipes.data_choice import refuse_unknown
from pyrovae.recipes.landscape.family import Images
from pyrovae.recipes.new_data import NAMED
from pyrovae.recipes.refusal import Refusal

Binarize = Literal["static", "threshold"]
PATHS = "the path of an .npy, .npz or IDX file or of a folder of images"


def load(dataset: str) -> Splits:
    """A named set or the user's own images, with validation data.

    Raises: Refusal for unknown names, for tables, and for sets without validation data.
    """
    refuse_unknown("--dataset", dataset, NAMED, PATHS)
    splits = NAMED[dataset]() if dataset in NAMED else load_path(dataset)
    if len(splits.event_shape) != 3:
        raise Refusal(
            f"--dataset {dataset} holds vectors of {tuple(splits.event_shape)}; expected images, {PATHS}."
        )
    if splits.valid is None:
        raise Refusal(
            f"--dataset {dataset} is too small for validation data, by which training stops."
        )
    return splits


def binary(splits: Splits, binarize: Binarize, *, fixed: bool = True) -> Images:
    """Bits: each pixel drawn once with its grey level as probability, or thresholded at one half.

    Data in {0, 1} are taken as they are; with `fixed`, "mnist" is taken as Larochelle & Murray drew
    it, which has no labels.
    """
    if fixed and splits.name == "mnist":
        splits = NAMED["binarized-mnist"]()
    draw: Callable[[Tensor, int], Tensor] = (
        (lambda x, seed: static(x, seed=seed))
        if binarize == "static"
        else (lambda x, seed: threshold(x))
    )
    train, valid, test = (
        (x if splits.is_binary else draw(x, seed)).flatten(1) for seed, x in enumerate(_x(splits))
    )
    return Images(train, valid, test, shape=tuple(splits.event_shape))


def real(splits: Splits) -> Images:
    """Dequantised grey levels, (level + u) / levels with u uniform, with mean 0 and variance 1.

    Raises: Refusal for data that are not grey levels.
    """
    if splits.levels is None or splits.is_binary:
        raise Refusal(
            f"{splits.name} holds {'bits' if splits.is_binary else 'real numbers'}, which the real families do not "
            "model; expected grey levels (uint8). Choose --families of the binary table."
        )
    train, valid, test = (x.flatten(1) for x in _x(splits.as_levels()))
    levels = splits.levels
    scaled = (train + 0.5) / levels
    images = Images(
        train,
        valid,
        test,
        shape=tuple(splits.event_shape),
        levels=levels,
        loc=scaled.mean().item(),
        scale=scaled.std().item(),
    )
    generator = torch.Generator().manual_seed(0)

    def once(x: Tensor) -> Tensor:
        noise = torch.rand(x.shape, generator=generator)
        return ((x + noise) / levels - images.loc) / images.scale

    return dataclasses.replace(images, valid=once(valid), test=once(test))


def _x(splits: Splits) -> list[Tensor]:
    parts = (splits.train, splits.valid, splits.test)
    return [part.tensors["x"].float() for part in parts if part is not None]
