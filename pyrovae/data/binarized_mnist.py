"""Larochelle's fixed binarisation of MNIST, on which most published log-likelihoods are computed."""

import hashlib
import os
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from pyrovae.data.batches import DictDataset
from pyrovae.data.downloads import Known, fetch
from pyrovae.data.errors import DataError
from pyrovae.data.paths import data_root
from pyrovae.data.sizes import check_numpy, refuse_special
from pyrovae.data.splits import Splits

URL = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
FILES = {
    part: Known(f"binarized_mnist_{part}.amat", sha256, (URL,))
    for part, sha256 in {
        "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    }.items()
}
"""As downloaded; the digests are those that TensorFlow Datasets publishes (url_checksums)."""
CONTENT = {
    "train": "aae6de292e6b68d898acf52062a1ac62907fc7ab417c59582d6523a1da0f9a61",
    "valid": "d10b4edf2e0765693846b51a5895f81f69fa37b6459b7f665bfa9c8cc9723622",
    "test": "87ff96664646cc41575aeb3ae4fbbabc1475ca3d42be4659d7a829d9f22c845a",
}
"""SHA-256 of the rows of those files, packed by `np.packbits` and sorted: the same for every
format and order of rows."""
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
PIXELS = 784


def load_binarized_mnist(
    *, root: str | os.PathLike | None = None, download: bool = True
) -> Splits:
    """MNIST binarised once and for all: 50,000 / 10,000 / 10,000 digits in {0, 1}, without labels.

    Read from ``ROOT/binarized_mnist/``: either the files
    ``binarized_mnist_{train,valid,test}.amat`` or one ``.npz`` with arrays train, valid and test,
    of shape (N, 784) in {0, 1} or bit-packed by ``np.packbits(x, axis=1)``, (N, 98) uint8.
    Otherwise the three ``.amat`` files (110 MB) are downloaded there. In any case a digest says
    whether the rows are those of that binarisation; give a set of your own to ``load_path``.
    Copies in circulation are sorted by class, so each part is permuted, always in the same way:
    its first rows are a fair sample. It is not ``load_mnist`` with ``batches("static")``, which is
    another draw, and the scores on the two do not compare.

    Shapes: x (N, 1, 28, 28), levels=2.

    Raises:
        DataError: no file and no download, a damaged file, a wrong number of rows or pixels,
            values other than 0 and 1, other rows than those of that binarisation.

    Source: Larochelle & Murray 2011, AISTATS (drawn from MNIST as in Salakhutdinov & Murray 2008).

    Example:
        >>> from pyrovae.data import load_binarized_mnist
        >>> load_binarized_mnist().is_binary  # doctest: +SKIP
        True
    """
    folder = data_root(root) / "binarized_mnist"
    amat = {part: folder / known.name for part, known in FILES.items()}
    archives = sorted(folder.glob("*.npz"))
    if not all(path.exists() for path in amat.values()) and not archives:
        _download(folder, amat, download)
    if all(path.exists() for path in amat.values()):
        origin, arrays = folder, {part: _read_amat(path) for part, path in amat.items()}
    else:
        origin = archives[0]
        arrays = _read_npz(origin)
    parts = {part: DictDataset(x=_pixels(array, part, origin)) for part, array in arrays.items()}
    return Splits(
        "binarized_mnist",
        **parts,
        levels=2,
        source=f"Larochelle & Murray 2011, fixed binarisation of MNIST, from {origin}",
    )


def _read_amat(path: Path) -> np.ndarray:
    """Rows of 0 and 1 separated by spaces, (N, 784), read as bytes: np.loadtxt takes far longer."""
    refuse_special(path)
    characters = np.fromfile(path, dtype=np.uint8)
    is_digit = characters > ord(" ")
    digits = characters[is_digit] - ord("0")
    if digits.size % PIXELS or digits.size == 0 or (is_digit[1:] & is_digit[:-1]).any():
        raise DataError(
            f"{path} does not hold rows of {PIXELS} single digits separated by spaces. It may be a "
            "download that broke off: delete it, so that it is downloaded again."
        )
    return digits.reshape(-1, PIXELS)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    refuse_special(path)
    try:
        with open(path, "rb") as file:
            check_numpy(file, path, list(ROWS))
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing, found = [part for part in ROWS if part not in archive], sorted(archive)
            if not missing:
                return {part: archive[part] for part in ROWS}
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} cannot be read as an .npz archive ({error}). Delete it, so that the set is "
            "downloaded, or write it again with np.savez."
        ) from error
    raise DataError(
        f"{path} holds the arrays {found} and lacks {missing}; expected train, valid and test."
    )


def _pixels(array: np.ndarray, part: str, origin: Path) -> torch.Tensor:
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == PIXELS // 8:
        array = np.unpackbits(array, axis=1)
    if array.shape != (ROWS[part], PIXELS):
        raise DataError(
            f"{part} in {origin} has shape {array.shape}, expected {(ROWS[part], PIXELS)}, or {PIXELS // 8} "
            "bytes a row when packed by np.packbits(x, axis=1). Scores on other rows would not compare."
        )
    if ((array != 0) & (array != 1)).any():
        raise DataError(
            f"{part} in {origin} holds values other than 0 and 1. Grey levels belong to load_mnist or "
            "load_path; a damaged file should be deleted, so that it is downloaded again."
        )
    rows = np.packbits(array.astype(bool), axis=1)
    if hashlib.sha256(b"".join(sorted(map(bytes, rows)))).hexdigest() != CONTENT[part]:
        raise DataError(
            f"{part} in {origin} holds other rows than Larochelle's binarisation, so scores would not compare "
            "with published ones. Delete it, so that the set is downloaded; for a binarisation of your own save "
            "np.savez(path, x=train, x_valid=valid, x_test=test) and give its path (pyrovae.data.load_path)."
        )
    order = np.random.RandomState(0).permutation(len(array))
    return torch.from_numpy(array[order].astype(np.float32)).reshape(-1, 1, 28, 28)


def _download(folder: Path, files: dict[str, Path], download: bool) -> None:
    advice = (
        f"Put {', '.join(path.name for path in files.values())}, or one .npz with arrays train, valid and test, "
        f"into {folder}, or set the environment variable PYROVAE_DATA (or root=) to a folder that has "
        "binarized_mnist/."
    )
    if not download:
        raise DataError(f"binarised MNIST is not in {folder}, and download=False. {advice}")
    try:
        for part, path in files.items():
            if not path.exists():
                fetch(FILES[part], folder)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"binarised MNIST is not in {folder} and could not be downloaded from {URL} "
            f"({type(error).__name__}: {error}). {advice}"
        ) from error
