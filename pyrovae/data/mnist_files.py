"""Where MNIST and the two sets of its shape are had, and how their files are checked."""

import dataclasses
import logging
from http.client import HTTPException
from pathlib import Path

import numpy as np

from pyrovae.data.downloads import Known, by_torchvision, check_digest, fetch
from pyrovae.data.errors import DataError
from pyrovae.data.idx import read_idx

NAMES = {
    "x": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Family:
    """A set of four IDX files: their names by array, and the SHA-256 of the gzipped and, where
    known, of the plain file."""

    name: str
    mirrors: tuple[str, ...]
    packed: dict[str, str]
    plain: dict[str, str] = dataclasses.field(default_factory=dict)

    def known(self, key: str) -> Known:
        return Known(f"{NAMES[key]}.gz", self.packed[key], self.mirrors, self.plain.get(key))


MNIST = Family(
    "MNIST",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "x": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "y": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "x_test": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "y_test": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    {
        "x": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "y": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
FASHION = Family(
    "FashionMNIST",
    ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
    {
        "x": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "y": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "x_test": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "y_test": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)
KUZUSHIJI = Family(
    "KMNIST",
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    {
        "x": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "y": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "x_test": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "y_test": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
)
"""The digests of gzipped files are those that TensorFlow Datasets publishes (url_checksums), those
of MNIST's plain files were computed from copies of them (the test labels, gzipped again as they
were, have the published digest). None is known here of the plain files of the other two: where
only they lie on disk, shapes and labels are checked; `source` says so."""


def read_family(family: Family, raw: Path, download: bool) -> tuple[dict[str, np.ndarray], bool]:
    """The four arrays, and whether a digest vouches for each of them; what is missing in `raw` is
    downloaded there.

    Raises:
        DataError: files that are not there and cannot be had, that are damaged or another set.
    """
    if (old := raw.parent / "processed").is_dir():
        _log.info(
            "%s is not read: it holds files of an old torchvision, and such files may run code.",
            old,
        )
    found = {key: _find(family.known(key), raw) for key in NAMES}
    missing = [family.known(key) for key, path in found.items() if path is None]
    if missing:
        _download(family, missing, raw, download)
    paths = {key: path or raw / family.known(key).name for key, path in found.items()}
    checked = True
    for key, path in paths.items():
        known = family.known(key)
        expected = known.sha256 if path.name == known.name else known.unpacked
        checked &= expected is not None
        if expected is not None:
            check_digest(path, expected, family.name)
    arrays = {key: read_idx(path) for key, path in paths.items()}
    for x, y in (("x", "y"), ("x_test", "y_test")):
        _check(arrays[x], arrays[y], paths[x], paths[y])
    return arrays, checked


def _find(known: Known, raw: Path) -> Path | None:
    """The plain file where its digest is known, or where there is no other; else the gzipped one."""
    there = [path for path in (raw / known.plain, raw / known.name) if path.exists()]
    return next(
        (path for path in there if path.name == known.name or known.unpacked),
        there[0] if there else None,
    )


def _check(x: np.ndarray, y: np.ndarray, images: Path, labels: Path) -> None:
    own = "To use a set of your own, give its path instead of the name (pyrovae.data.load_path)."
    if (
        x.ndim != 3
        or x.shape[1:] != (28, 28)
        or x.dtype != np.uint8
        or y.ndim != 1
        or len(x) != len(y)
        or not len(x)
    ):
        raise DataError(
            f"{images} and {labels} hold arrays of {x.dtype} {x.shape} and {y.dtype} {y.shape}, expected uint8 "
            f"images (N, 28, 28) and as many labels (N,). {own}"
        )
    if y.min() < 0 or y.max() > 9:
        raise DataError(f"{labels} holds labels {y.min()}..{y.max()}, expected 0..9. {own}")


def _download(family: Family, missing: list[Known], raw: Path, download: bool) -> None:
    advice = (
        f"Put the files {', '.join(known.plain for known in missing)}, with .gz or without, into {raw}, or set the "
        f"environment variable PYROVAE_DATA (or root=) to a folder that has {family.name}/raw/{missing[0].plain} and "
        "the others."
    )
    if not download:
        raise DataError(f"{family.name} is not in {raw}, and download=False. {advice}")
    try:
        for known in missing:
            fetch(known, raw, by_torchvision)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{family.name} is not in {raw} and could not be downloaded ({type(error).__name__}: "
            f"{str(error).strip()}). {advice}"
        ) from error
