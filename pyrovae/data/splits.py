"""A data set as train, valid and test parts, and how they become minibatches."""

import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from pyrovae.data.batches import Batches, DictDataset
from pyrovae.data.binarize import check_unit, dynamic, static, threshold
from pyrovae.data.errors import DataError

Binarize = Literal["dynamic", "static", "threshold", "none"]


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of one data set, with what is known about its values.

    Each part holds x and perhaps the class y. ``valid`` is None when nothing was held out.

    Shapes: x (N, C, H, W) for images or (N, D) for vectors, float32; y (N,), int64.
    Units: image pixels and everything a Bernoulli sees lie in [0, 1]. ``levels`` is the number of
    values that they were quantised to (17 digits, 256 MNIST, 2 binary), None when x is continuous.

    Raises:
        DataError: a part without x, or parts whose rows differ in shape.

    Example:
        >>> import torch
        >>> from pyrovae.data import DictDataset, Splits
        >>> part = DictDataset(x=torch.rand(20, 4))
        >>> splits = Splits("noise", part, None, part, levels=None, source="torch.rand")
        >>> train, valid, test = splits.batches("dynamic", batch_size=5)
        >>> len(train), valid, next(iter(train))["x"].unique().tolist()
        (4, None, [0.0, 1.0])
    """

    name: str
    train: DictDataset
    valid: DictDataset | None
    test: DictDataset
    levels: int | None
    source: str

    def __post_init__(self) -> None:
        for part, data in self._parts().items():
            if "x" not in data.tensors:
                raise DataError(
                    f"{part} of {self.name!r} holds {sorted(data.tensors)}, expected 'x'. Name it x."
                )
            if (shape := data.tensors["x"].shape[1:]) != self.event_shape:
                raise DataError(
                    f"rows of {part} of {self.name!r} have shape {tuple(shape)} and those of train "
                    f"{tuple(self.event_shape)}; expected one shape. Reshape or crop them."
                )

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one x: (C, H, W) or (D,)."""
        return self.train.tensors["x"].shape[1:]

    @property
    def is_binary(self) -> bool:
        """Whether every value of every x is 0 or 1."""
        return all(is_binary(data.tensors["x"]) for data in self._parts().values())

    def batches(
        self,
        binarize: Binarize = "none",
        *,
        batch_size: int = 100,
        eval_batch_size: int = 500,
        flatten: bool = False,
        seed: int = 0,
    ) -> tuple[Batches, Batches | None, Batches]:
        """Minibatches of train (shuffled), valid and test (in order).

        * ``"dynamic"``: train is drawn anew from Bernoulli(x) at each visit; valid and test are
            drawn once.
        * ``"static"``: all three are drawn once. ``seed`` says which draw; valid and test get the
          same one as under "dynamic", so scores compare across runs and across both choices.
        * ``"threshold"``: x > 0.5. ``"none"``: x as it is.

        Data in {0, 1} already are left as they are by all four.

        Shapes: x (B, *event_shape), or (B, D) when ``flatten``.

        Raises:
            DataError: an unknown ``binarize``; values outside [0, 1] that should be binarised; a
            bad batch size.

        Source: see ``pyrovae.data.dynamic`` and ``pyrovae.data.static``.
        """
        if binarize not in (choices := get_args(Binarize)):
            raise DataError(
                f"binarize is {binarize!r}, expected one of {', '.join(map(repr, choices))}."
            )
        if binarize != "none":
            for part, data in self._parts().items():
                check_unit(data.tensors["x"], f"x of {part}")
            binarize = "none" if self.is_binary else binarize

        def make(data: DictDataset, salt: int, *, is_train: bool = False) -> Batches:
            x = data.tensors["x"]
            resample = binarize == "dynamic" and is_train
            if binarize == "threshold":
                x = threshold(x)
            elif binarize != "none" and not resample:
                x = static(x, seed=3 * seed + salt)
            data = _with_x(data, x.flatten(1) if flatten else x)
            return Batches(
                data,
                batch_size if is_train else eval_batch_size,
                shuffle=is_train,
                transform=dynamic if resample else None,
            )

        valid = None if self.valid is None else make(self.valid, 1)
        return make(self.train, 0, is_train=True), valid, make(self.test, 2)

    def as_levels(self) -> "Splits":
        """Same data with x as whole numbers 0..levels-1 (still float32), for a categorical
        likelihood.

        Units: x = level / (levels - 1) becomes level; a density of the one is not a density of the
        other.

        Raises:
            DataError: ``levels`` is None, or x is not in [0, 1] on that grid (it holds levels
            already, say).

        Example:
            >>> from pyrovae.data import load_digits
            >>> load_digits().as_levels().train.tensors["x"].max()
            tensor(16.)
        """
        if self.levels is None:
            raise DataError(
                f"{self.name!r} is continuous (levels=None), expected quantised pixels. Use a continuous "
                "likelihood, or store the data as uint8, or dataclasses.replace(splits, levels=...)."
            )
        parts: dict[str, DictDataset] = {}
        for part, data in self._parts().items():
            check_unit(data.tensors["x"], f"x of {part}")
            scaled = data.tensors["x"] * (self.levels - 1)
            level = scaled.round()
            if (scaled - level).abs().max() > 1e-3:  # the float32 rounding of 255 x is 1e-5
                raise DataError(
                    f"x of {part} of {self.name!r} is not on the grid k / {self.levels - 1} that levels="
                    f"{self.levels} promises. Round it, or set levels=None for continuous data."
                )
            parts[part] = _with_x(data, level)
        return dataclasses.replace(
            self, train=parts["train"], valid=parts.get("valid"), test=parts["test"]
        )

    def _parts(self) -> dict[str, DictDataset]:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {part: data for part, data in parts.items() if data is not None}


def is_binary(x: Tensor) -> bool:
    """Whether every value of x is 0 or 1.

    Example:
        >>> import torch
        >>> is_binary(torch.tensor([0.0, 1.0])), is_binary(torch.tensor([0.0, 0.5]))
        (True, False)
    """
    return bool(((x == 0) | (x == 1)).all())


def _with_x(data: DictDataset, x: Tensor) -> DictDataset:
    return DictDataset(**{**data.tensors, "x": x})
