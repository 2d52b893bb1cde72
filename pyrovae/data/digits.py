"""Small handwritten digits that need no download."""

import numpy as np
import torch

from pyrovae.data.batches import DictDataset
from pyrovae.data.errors import DataError
from pyrovae.data.holdout import hold_out, split_valid
from pyrovae.data.splits import Splits


def load_digits(*, valid_size: int | None = None) -> Splits:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn; a random fifth, always the
    same, is the test set.

    This is the test part of the UCI set, so these scores do not compare with published ones on all
    5,620 digits.

    Shapes: x (N, 1, 8, 8); y (N,) in 0..9.
    Units: a pixel counts the dark ones among 4 x 4 of the scan, 0..16, divided by 16; levels=17.

    Raises:
        DataError: scikit-learn is missing, or a bad ``valid_size`` (None: a tenth of what is not
        test; 0: none).

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, doi:10.24432/C50P49, licence CC BY 4.0.

    Example:
        >>> from pyrovae.data import load_digits
        >>> digits = load_digits()
        >>> len(digits.train), len(digits.valid), len(digits.test), digits.event_shape
        (1295, 143, 359, torch.Size([1, 8, 8]))
    """
    try:
        from sklearn import datasets
    except (ImportError, OSError) as error:
        raise DataError(
            f"the digits come with scikit-learn, which cannot be imported ({error}). "
            "Run: pip install scikit-learn"
        ) from error
    raw = datasets.load_digits()
    x = torch.from_numpy((raw.images / 16).astype(np.float32)).unsqueeze(1)
    y = torch.from_numpy(raw.target.astype(np.int64))
    rest, test = hold_out(DictDataset(x=x, y=y), len(x) // 5, seed=1)
    train, valid = split_valid(rest, valid_size)
    return Splits(
        "digits",
        train,
        valid,
        test,
        levels=17,
        source="scikit-learn's copy of Alpaydin & Kaynak 1998, UCI, doi:10.24432/C50P49, CC BY 4.0",
    )
