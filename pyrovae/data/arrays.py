"""Checking a user's arrays and turning them into x in float32 and y in int64."""

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.errors import DataError

PIXELS = "uint8 / 255"
"""The note on arrays that were taken for pixels."""
_OWN = "For anything else build the parts yourself: pyrovae.data.Splits(name, DictDataset(x=...), ...)."


def convert_x(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Tensor], int | None, str]:
    """Parts of x as float32 tensors with channels first, their number of grey levels, and a note
    on what was done.

    The rule (scaling, layout) is found from all parts together, so that train and test are always
    treated alike.

    Shapes: (N, D) vectors stay; (N, H, W) -> (N, 1, H, W); (N, C, H, W) and (N, H, W, C) -> (N, C,
    H, W), C in {1, 3}.
    Units: uint8 0..255 is divided by 255 (levels=256), also in vectors, which `load_path` logs;
    bool, or values 0 and 1 only, give levels=2; floats stay, and so do other integers in vectors,
    which may be ages or counts.

    Raises:
        DataError: a dtype, shape or range that cannot be read in one way only, NaN or infinities,
        no rows.

    Example:
        >>> import numpy as np
        >>> parts, levels, note = convert_x({"x": np.full((10, 8, 8), 51, np.uint8)})
        >>> parts["x"].shape, levels, note
        (torch.Size([10, 1, 8, 8]), 256, 'uint8 / 255')
    """
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.dtype.kind not in "fuib":
            raise DataError(
                f"{name} has dtype {array.dtype}, expected float, uint8 or bool. Convert it before saving."
            )
        if array.ndim not in (2, 3, 4) or array.size == 0:
            raise DataError(
                f"{name} has shape {array.shape}, expected (N, D) vectors, (N, H, W) grey images, (N, C, H, "
                f"W) or (N, H, W, C), and no size 0. Reshape it before saving. {_OWN}"
            )
        if array.shape[1:] != first.shape[1:] or array.dtype.kind != first.dtype.kind:
            raise DataError(
                f"{name} has rows of shape {array.shape[1:]} and dtype {array.dtype}, {first_name} of "
                f"{first.shape[1:]} and {first.dtype}; expected the same in all parts. Convert one of them."
            )
    floats, note = _to_float(arrays)
    levels = 256 if note == PIXELS else None
    if all(((x == 0) | (x == 1)).all() for x in floats.values()):
        levels = 2
    return (
        {name: torch.from_numpy(_channel_first(x, name)) for name, x in floats.items()},
        levels,
        note,
    )


def refuse_small_range(arrays: dict[str, np.ndarray]) -> None:
    """Refuse uint8 arrays that may be on another scale than 0..255, such as 0..16: dividing would
    make them black.

    Image files say by their format that 255 is white; arrays do not.

    Raises:
        DataError: a maximum from 2 to 63.
    """
    if any(x.dtype != np.uint8 for x in arrays.values()):
        return
    if 1 < (high := max(x.max(initial=0) for x in arrays.values())) < 64:
        raise DataError(
            f"x holds uint8 values up to {high} only, expected pixels 0..255. If {high} is white, store "
            f"(x / {high}).astype(np.float32); if they are dark pixels of 0..255, (x / 255).astype(np.float32); "
            f"if they are ages, counts or other measurements, x.astype(np.float32). {_OWN}"
        )


def convert_y(y: np.ndarray, rows: int, name: str) -> Tensor:
    """Class labels as int64, (N,).

    Raises:
        DataError: another shape than (rows,), or values that are not whole numbers from 0 up.

    Example:
        >>> import numpy as np
        >>> convert_y(np.array([0, 1, 1], np.uint8), 3, "y")
        tensor([0, 1, 1])
    """
    if y.shape != (rows,):
        raise DataError(
            f"{name} has shape {y.shape}, expected one class label for each of the {rows} rows: shape "
            f"({rows},). Flatten a column; take argmax(axis=1) of one-hot rows."
        )
    if (
        y.dtype.kind not in "fuib"
        or not np.isfinite(y).all()
        or (y != np.round(y.astype(np.float64))).any()
    ):
        raise DataError(
            f"{name} (dtype {y.dtype}) holds something else than whole numbers; expected class labels 0, 1, "
            ".... Number names with np.unique(names, return_inverse=True)[1]; real targets belong into x."
        )
    if len(y) and not (y.min() >= 0 and y.max() < 2**53):
        raise DataError(
            f"{name} holds {y.min()}..{y.max()}; expected class labels from 0 up. Number the classes with "
            "np.unique(y, return_inverse=True)[1]."
        )
    return torch.from_numpy(y.astype(np.int64))


def convert_c(c: np.ndarray, rows: int, name: str) -> Tensor:
    """What each datum is given, as float32 (N, C); a vector (N,) is one column.

    Raises:
        DataError: another number of rows, or values that are not finite numbers.

    Example:
        >>> import numpy as np
        >>> convert_c(np.array([1, 2]), 2, "c")
        tensor([[1.],
                [2.]])
    """
    if c.ndim not in (1, 2) or len(c) != rows or c.dtype.kind not in "fuib" or not c.size:
        raise DataError(
            f"{name} has shape {c.shape} and dtype {c.dtype}, expected numbers ({rows}, C): one row for each of x."
        )
    values = torch.from_numpy(c.astype(np.float32)).reshape(rows, -1)
    if not torch.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity. Drop or impute those rows.")
    return values


def _to_float(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    kind, vectors = next(iter(arrays.values())).dtype.kind, next(iter(arrays.values())).ndim == 2
    high, low = max(x.max() for x in arrays.values()), min(x.min() for x in arrays.values())
    if kind == "b" or (kind in "ui" and low >= 0 and high <= 1):
        return {name: x.astype(np.float32) for name, x in arrays.items()}, "0 and 1 as stored"
    if kind in "ui":
        if any(x.dtype != np.uint8 for x in arrays.values()):
            if vectors:
                return {
                    name: x.astype(np.float32) for name, x in arrays.items()
                }, "integers as stored"
            raise DataError(
                f"the images hold integers ({low}..{high}) that are not uint8, so their unit is unclear. Store "
                f"pixels 0..255 as uint8, or floats in [0, 1]. {_OWN}"
            )
        return {name: x.astype(np.float32) / np.float32(255) for name, x in arrays.items()}, PIXELS
    with np.errstate(over="ignore"):
        floats = {name: x.astype(np.float32) for name, x in arrays.items()}
    for name, x in floats.items():
        if len(bad := np.argwhere(~np.isfinite(x))):
            raise DataError(
                f"{name} has {len(bad)} values that are NaN or infinite in float32, the first at index "
                f"{tuple(bad[0].tolist())}; expected finite numbers. Drop or impute those rows."
            )
    if (
        not vectors
        and 1 < high <= 255
        and low >= 0
        and all((x == np.round(x)).all() for x in floats.values())
    ):
        remedy = (
            "this looks like 0-255 pixel data; divide by 255 or store uint8"
            if high >= 64
            else f"their unit is unclear; if {high:g} is white, divide by {high:g}"
        )
        raise DataError(
            f"the images hold whole numbers {low:g}..{high:g} stored as floats: {remedy}. {_OWN}"
        )
    if not vectors and (low < 0 or high > 1):
        raise DataError(
            f"the images range over [{low:.9g}, {high:.9g}], expected [0, 1]. Rescale them, (x - min) / (max "
            "- min) or np.clip; data of any range may be stored as vectors, (N, D)."
        )
    return floats, "floats as stored"


def _channel_first(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim == 2:
        return np.ascontiguousarray(x)
    if x.ndim == 3:
        return np.ascontiguousarray(x[:, None])
    is_first, is_last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
    if is_first == is_last:
        seen = (
            "could be (N, C, H, W) or (N, H, W, C)"
            if is_first
            else "has no channel size 1 or 3 in place 1 or 3"
        )
        raise DataError(
            f"{name} has shape {x.shape}, which {seen}. Store grey images as (N, H, W). {_OWN}"
        )
    return np.ascontiguousarray(x if is_first else x.transpose(0, 3, 1, 2))
