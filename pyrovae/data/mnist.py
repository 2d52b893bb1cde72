"""MNIST and two sets of the same shape, read or downloaded."""

import os

import numpy as np
import torch

from pyrovae.data.batches import Batches, DictDataset
from pyrovae.data.holdout import split_valid
from pyrovae.data.mnist_files import FASHION, KUZUSHIJI, MNIST, Family, read_family
from pyrovae.data.paths import data_root
from pyrovae.data.splits import Binarize, Splits


def load_mnist(
    *, root: str | os.PathLike | None = None, valid_size: int | None = None, download: bool = True
) -> Splits:
    """MNIST: 60,000 + 10,000 handwritten digits; ``valid_size`` (default 1000) of the 60,000 are
    held out.

    Read from the four IDX files in ``ROOT/MNIST/raw``, gzipped or plain (torchvision's layout), or
    downloaded there by https. Their SHA-256 is checked; files of your own are for ``load_path``.

    Shapes: x (N, 1, 28, 28); y (N,) in 0..9.
    Units: grey level / 255 in [0, 1]; levels=256.

    Raises:
        DataError: the files are absent and cannot be downloaded, are damaged, or are another set.

    Source: LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11), licence CC BY-SA 3.0.

    Example:
        >>> from pyrovae.data import load_mnist
        >>> load_mnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load(MNIST, "LeCun et al. 1998, MNIST, CC BY-SA 3.0", root, valid_size, download)


def load_fashion_mnist(
    *, root: str | os.PathLike | None = None, valid_size: int | None = None, download: bool = True
) -> Splits:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes; everything else as in ``load_mnist``.

    Source: Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, licence MIT.

    Example:
        >>> from pyrovae.data import load_fashion_mnist
        >>> load_fashion_mnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load(
        FASHION,
        "Xiao et al. 2017, Fashion-MNIST, arXiv:1708.07747, MIT",
        root,
        valid_size,
        download,
    )


def load_kmnist(
    *, root: str | os.PathLike | None = None, valid_size: int | None = None, download: bool = True
) -> Splits:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive Japanese characters; everything else as in
    ``load_mnist``.

    Source: Clanuwat et al. 2018, arXiv:1812.01718, licence CC BY-SA 4.0.

    Example:
        >>> from pyrovae.data import load_kmnist
        >>> load_kmnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load(
        KUZUSHIJI,
        "Clanuwat et al. 2018, KMNIST, arXiv:1812.01718, CC BY-SA 4.0",
        root,
        valid_size,
        download,
    )


def mnist(
    *,
    binarize: Binarize = "dynamic",
    batch_size: int = 100,
    root: str | os.PathLike | None = None,
    flatten: bool = True,
) -> tuple[Batches, Batches]:
    """Minibatches of MNIST, (train, test), with all 60,000 training digits in train.

    ``binarize`` is that of ``Splits.batches``: "dynamic" draws train anew at each visit and test
    once, by a fixed seed.

    Shapes: x (B, 784), or (B, 1, 28, 28) without ``flatten``; y (B,).

    Raises:
        DataError: as ``load_mnist`` and ``Splits.batches``.

    Example:
        >>> from pyrovae.data import mnist
        >>> train, test = mnist(batch_size=100)  # doctest: +SKIP
        >>> len(train), train.take(500)["x"].shape  # doctest: +SKIP
        (600, torch.Size([500, 784]))
    """
    train, _, test = load_mnist(root=root, valid_size=0).batches(
        binarize, batch_size=batch_size, flatten=flatten
    )
    return train, test


def _load(
    family: Family,
    source: str,
    root: str | os.PathLike | None,
    valid_size: int | None,
    download: bool,
) -> Splits:
    raw = data_root(root) / family.name / "raw"
    arrays, checked = read_family(family, raw, download)
    train, valid = split_valid(_labelled(arrays["x"], arrays["y"]), valid_size)
    test = _labelled(arrays["x_test"], arrays["y_test"])
    return Splits(
        family.name,
        _grey(train),
        None if valid is None else _grey(valid),
        _grey(test),
        levels=256,
        source=f"{source}, grey levels / 255, from {raw}"
        + ("" if checked else ", not checked by a digest"),
    )


def _labelled(x: np.ndarray, y: np.ndarray) -> DictDataset:
    return DictDataset(x=torch.from_numpy(x).unsqueeze(1), y=torch.from_numpy(y.astype(np.int64)))


def _grey(data: DictDataset) -> DictDataset:
    return DictDataset(**{**data.tensors, "x": data.tensors["x"].float().div_(255)})
