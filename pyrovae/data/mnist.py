"""MNIST and two sets of the same shape, read or downloaded by torchvision."""

import os
from http.client import HTTPException
from types import ModuleType

from torch import Tensor

from pyrovae.data.batches import Batches, DictDataset
from pyrovae.data.dataset import Binarize, Splits
from pyrovae.data.errors import DataError
from pyrovae.data.holdout import split_valid
from pyrovae.data.root import data_root

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UNREADABLE = (ValueError, TypeError, AssertionError, LookupError, EOFError, OSError, RuntimeError)


def load_mnist(*, root: str | os.PathLike | None = None, valid_size: int | None = None,
               download: bool = True) -> Splits:
    """MNIST: 60,000 + 10,000 handwritten digits; ``valid_size`` (default 1000) of the 60,000 are held out.

    Shapes: x (N, 1, 28, 28); y (N,) in 0..9.
    Units: grey level / 255 in [0, 1]; levels=256.

    Raises:
        DataError: torchvision cannot be imported, or the files are absent and cannot be downloaded, or are corrupt.

    Source: LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11), licence CC BY-SA 3.0.

    Example:
        >>> from pyrovae.data import load_mnist
        >>> load_mnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load("MNIST", "LeCun et al. 1998, MNIST, CC BY-SA 3.0", root, valid_size, download)


def load_fashion_mnist(*, root: str | os.PathLike | None = None, valid_size: int | None = None,
                       download: bool = True) -> Splits:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes; everything else as in ``load_mnist``.

    Source: Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, licence MIT.

    Example:
        >>> from pyrovae.data import load_fashion_mnist
        >>> load_fashion_mnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load("FashionMNIST", "Xiao et al. 2017, Fashion-MNIST, arXiv:1708.07747, MIT", root, valid_size, download)


def load_kmnist(*, root: str | os.PathLike | None = None, valid_size: int | None = None,
                download: bool = True) -> Splits:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive Japanese characters; everything else as in ``load_mnist``.

    Source: Clanuwat et al. 2018, arXiv:1812.01718, licence CC BY-SA 4.0.

    Example:
        >>> from pyrovae.data import load_kmnist
        >>> load_kmnist().event_shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    return _load("KMNIST", "Clanuwat et al. 2018, KMNIST, arXiv:1812.01718, CC BY-SA 4.0", root, valid_size, download)


def mnist(*, binarize: Binarize = "dynamic", batch_size: int = 100, root: str | os.PathLike | None = None,
          flatten: bool = True) -> tuple[Batches, Batches]:
    """Minibatches of MNIST, (train, test), with all 60,000 training digits in train.

    ``binarize`` is that of ``Splits.batches``: "dynamic" draws train anew at each visit and test once, by a fixed seed.

    Shapes: x (B, 784), or (B, 1, 28, 28) without ``flatten``; y (B,).

    Raises:
        DataError: as ``load_mnist`` and ``Splits.batches``.

    Example:
        >>> from pyrovae.data import mnist
        >>> train, test = mnist(batch_size=100)  # doctest: +SKIP
        >>> len(train), train.take(500)["x"].shape  # doctest: +SKIP
        (600, torch.Size([500, 784]))
    """
    train, _, test = load_mnist(root=root, valid_size=0).batches(binarize, batch_size=batch_size, flatten=flatten)
    return train, test


def _load(name: str, source: str, root: str | os.PathLike | None, valid_size: int | None, download: bool) -> Splits:
    folder = data_root(root)
    train, test = _read(getattr(_torchvision_datasets(), name), folder, download)
    train, valid = split_valid(train, valid_size)
    return Splits(name, _grey(train), None if valid is None else _grey(valid), _grey(test), levels=256,
                  source=f"{source}, grey levels / 255, from {folder / name / 'raw'}")


def _torchvision_datasets() -> ModuleType:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # all four seen with mismatched builds
        raise DataError(f"torchvision reads these files and cannot be imported ({type(error).__name__}: {error}). "
                        "Install the build made for your torch: pip install --upgrade torch torchvision") from error
    return datasets


def _read(kind: type, root: os.PathLike, download: bool) -> tuple[DictDataset, DictDataset]:
    raw = data_root(root) / kind.__name__ / "raw"

    def read() -> tuple[DictDataset, DictDataset]:
        parts = (kind(root, train=is_train, download=False) for is_train in (True, False))
        return tuple(DictDataset(x=part.data.unsqueeze(1), y=part.targets.long()) for part in parts)

    try:
        return read()
    except _UNREADABLE as error:
        if all((raw / file).exists() for file in _FILES):
            raise DataError(f"the files in {raw} cannot be read ({type(error).__name__}: {error}). Delete the four of "
                            "them, so that they are downloaded again.") from error
        advice = (f"Put the four uncompressed files {', '.join(_FILES)} into {raw}, or set the environment variable "
                  f"PYROVAE_DATA (or root=) to a folder that has {kind.__name__}/raw/{_FILES[0]} and the other three.")
        if not download:
            raise DataError(f"{kind.__name__} is not in {raw}, and download=False. {advice}") from error
    try:
        kind(root, train=True, download=True)
        return read()
    except (*_UNREADABLE, HTTPException) as error:
        raise DataError(f"{kind.__name__} is not in {raw} and could not be downloaded ({type(error).__name__}: "
                        f"{str(error).strip()}). {advice}") from error


def _grey(data: DictDataset) -> DictDataset:
    x: Tensor = data.tensors["x"].float().div_(255)
    return DictDataset(**{**data.tensors, "x": x})
