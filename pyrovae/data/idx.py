"""IDX, the file format of MNIST and its kin, plain or gzipped."""

import gzip
import io
import math
import re
import zlib
from pathlib import Path

import numpy as np

from pyrovae.data.errors import DataError
from pyrovae.data.sizes import refuse_large

_KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(?:\.gz)?"
)
_ARRAYS = {
    ("train", "images"): "x",
    ("train", "labels"): "y",
    ("test", "images"): "x_test",
    ("test", "labels"): "y_test",
}


def is_idx(path: Path) -> bool:
    """Whether a file starts as IDX does, behind gzip or not: two zero bytes, a type, a number of
    dimensions.

    Raises:
        OSError: a file that cannot be opened.
    """
    try:
        with _open(path) as file:
            start = file.read(4)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _KINDS and 1 <= start[3] <= 4


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, in the machine's byte order.

    Shapes: as the header says; images (N, H, W), labels (N,).

    Raises:
        DataError: a file that does not hold the numbers its header promises.

    Source: the description on MNIST's page, LeCun, Cortes & Burges.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "two-labels-idx1-ubyte")
        ...     size = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
        ...     read_idx(path)
        array([7, 3], dtype=uint8)
    """
    try:
        with _open(path) as file:
            start = file.read(4)
            if (
                len(start) < 4
                or start[:2] != b"\0\0"
                or start[2] not in _KINDS
                or not 1 <= start[3] <= 4
            ):
                raise DataError(
                    f"{path} does not start as IDX files do, so it is damaged or something else. Download or "
                    "write it again."
                )
            kind, dims = np.dtype(_KINDS[start[2]]), start[3]
            sizes = file.read(4 * dims)
            shape = tuple(np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").astype(int).tolist())
            promised = math.prod(shape) * kind.itemsize
            packed = isinstance(file, gzip.GzipFile)
            found = None if packed else path.stat().st_size - 4 - 4 * dims
            if len(shape) == dims and found in (None, promised):
                refuse_large(path, promised)
                content = file.read(promised)
                found = len(content) + len(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as an IDX file ({type(error).__name__}: {error}). It is damaged or broke "
            "off: download or write it again."
        ) from error
    if len(shape) != dims or found != promised:
        raise DataError(
            f"{path} says that it holds an array of shape {shape}, {promised} bytes, but "
            f"{'more' if (found or 0) > promised and packed else max(found or 0, 0)} follow. It is damaged or "
            "broke off: download or write it again."
        )
    return np.frombuffer(content, kind).reshape(shape).astype(kind.newbyteorder("="))


def read_idx_folder(folder: Path) -> tuple[dict[str, np.ndarray], str] | None:
    """x, and where they are there y, x_test, y_test, of files named as MNIST's; and a note. None
    without such files.

    `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`,
    `t10k-labels-idx1-ubyte`, each with `.gz` or without (then that is read), perhaps with a
    prefix, as in `emnist-letters-train-images-idx3-ubyte.gz`.

    Raises:
        DataError: files of several sets, no training images, or a damaged file.
    """
    files: dict[str, Path] = {}
    names: set[str] = set()
    for path in sorted(folder.iterdir()):  # a plain file before its .gz
        match = _NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        names.add(match["set"])
        files.setdefault(
            _ARRAYS["train" if match["part"] == "train" else "test", match["what"]], path
        )
    if not files:
        return None
    if len(names) > 1:
        raise DataError(
            f"{folder} holds IDX files of several sets, {sorted(names)}; expected one. Give each a folder."
        )
    if "x" not in files:
        raise DataError(
            f"{folder} holds {sorted(path.name for path in files.values())} and no training images; expected "
            "train-images-idx3-ubyte, with .gz or without."
        )
    return {name: read_idx(path) for name, path in files.items()}, "IDX files " + ", ".join(
        path.name for path in files.values()
    )


def _open(path: Path) -> io.BufferedIOBase:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")
