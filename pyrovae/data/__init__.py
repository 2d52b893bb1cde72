"""Data sets as dicts of tensors in memory: loaders return ``Splits``, ``Splits.batches`` returns ``Batches``.
Nothing here imports scikit-learn, torchvision or Pillow before a loader needs it."""

from pyrovae.data.batches import Batches, DictDataset
from pyrovae.data.binarize import dynamic, static, threshold
from pyrovae.data.binarized_mnist import load_binarized_mnist
from pyrovae.data.dataset import Splits
from pyrovae.data.digits import load_digits
from pyrovae.data.errors import DataError
from pyrovae.data.files import load_path
from pyrovae.data.holdout import split_valid
from pyrovae.data.mnist import load_fashion_mnist, load_kmnist, load_mnist, mnist
from pyrovae.data.root import data_root

__all__ = [
    "Batches", "DataError", "DictDataset", "Splits", "data_root", "dynamic", "load_binarized_mnist", "load_digits",
    "load_fashion_mnist", "load_kmnist", "load_mnist", "load_path", "mnist", "split_valid", "static", "threshold",
]
