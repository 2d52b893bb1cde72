"""Data sets as dicts of tensors in memory: loaders return ``Splits``, ``Splits.batches`` returns
``Batches``. Nothing here imports scikit-learn or Pillow before a loader needs it."""

from pyrovae.data.batches import Batches, DictDataset
from pyrovae.data.binarize import dynamic, static, threshold
from pyrovae.data.binarized_mnist import load_binarized_mnist
from pyrovae.data.digits import load_digits
from pyrovae.data.errors import DataError
from pyrovae.data.holdout import split_valid
from pyrovae.data.interleaved import Interleaved
from pyrovae.data.mnist import load_fashion_mnist, load_kmnist, load_mnist, mnist
from pyrovae.data.paths import data_root
from pyrovae.data.regression import Regression, RegressionSplit
from pyrovae.data.regression_loaders import (
    gap1d,
    gap1d_function,
    load_diabetes,
    load_npz_regression,
)
from pyrovae.data.splits import Splits
from pyrovae.data.sprites import load_sprites
from pyrovae.data.stacked_batches import StackedBatches
from pyrovae.data.uci import load_uci, load_uci_folder, uci
from pyrovae.data.user_files import load_path

__all__ = [
    "Batches",
    "DataError",
    "DictDataset",
    "Regression",
    "RegressionSplit",
    "Interleaved",
    "Splits",
    "StackedBatches",
    "data_root",
    "dynamic",
    "gap1d",
    "gap1d_function",
    "load_binarized_mnist",
    "load_diabetes",
    "load_digits",
    "load_fashion_mnist",
    "load_kmnist",
    "load_mnist",
    "load_npz_regression",
    "load_path",
    "load_sprites",
    "load_uci",
    "load_uci_folder",
    "mnist",
    "split_valid",
    "static",
    "threshold",
    "uci",
]
