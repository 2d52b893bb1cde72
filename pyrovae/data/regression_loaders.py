"""Regression data that need no download: one that ships with scikit-learn, a user's own, and a toy
with a gap."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.errors import DataError, whole_number
from pyrovae.data.regression import Regression
from pyrovae.data.row_splits import check_matrix, random_splits
from pyrovae.data.user_files import read_file


def load_diabetes(splits: int = 20, seed: int = 0) -> Regression:
    """Disease progression of 442 patients after a year from 10 measurements, as they come with
    scikit-learn.

    Random 90/10 splits drawn by ``seed``; there are no standard ones, so scores compare at equal
    ``splits`` and ``seed``.

    Shapes: x (442, 10), y (442, 1), in torch's default dtype. Units: original ones (years, kg/m^2,
    ...), not scikit-learn's scaled ones; sex is 1 or 2; y is a score from 25 to 346.

    Raises:
        DataError: scikit-learn is missing, or ``splits`` below 1.

    Source: Efron, Hastie, Johnstone & Tibshirani 2004, Least angle regression, The Annals of
    Statistics 32(2).

    Example:
        >>> from pyrovae.data import load_diabetes
        >>> diabetes = load_diabetes()
        >>> diabetes.x.shape, [len(part) for part in diabetes.splits[0]]
        (torch.Size([442, 10]), [398, 44])
    """
    try:
        from sklearn import datasets
    except (ImportError, OSError) as error:
        raise DataError(
            f"the diabetes data come with scikit-learn, which cannot be imported ({error}). "
            "Run: pip install scikit-learn"
        ) from error
    raw = datasets.load_diabetes(scaled=False)
    x, y = (
        torch.from_numpy(array).to(torch.get_default_dtype())
        for array in (raw.data, raw.target[:, None])
    )
    return Regression(
        "diabetes",
        x,
        y,
        random_splits(len(x), splits, seed),
        source=f"scikit-learn's copy of Efron et al. 2004; {splits} random 90/10 splits, seed {seed}",
    )


def load_npz_regression(path: str | os.PathLike, splits: int = 20, seed: int = 0) -> Regression:
    """Your ``.npz`` with features x and real targets y, divided into random 90/10 splits by
    ``seed``.

    For class labels use ``load_path``; for your own splits, ``Regression`` or ``load_uci_folder``.

    Shapes: x (N, D) or (N,), y (N, T) or (N,) -> (N, D), (N, T), in torch's default dtype. Units:
    as stored.

    Raises:
        DataError: a file that does not exist or cannot be read, without x or y, with its own
            x_test or x_valid; NaN; y of integers, which may be labels; fewer than 10 rows.

    Example:
        >>> import tempfile, numpy as np
        >>> from pyrovae.data import load_npz_regression
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", x=np.ones((50, 3)), y=np.linspace(0, 1, 50))
        ...     mine = load_npz_regression(f"{folder}/mine.npz")
        >>> mine.name, mine.x.shape, mine.y.shape, len(mine.splits)
        ('mine', torch.Size([50, 3]), torch.Size([50, 1]), 20)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(
            f"{path} is no file (looked from {Path.cwd()}). Give an .npz file with x and y."
        )
    arrays, note = read_file(path)
    if "y" not in arrays:
        raise DataError(
            f"{path} holds {sorted(arrays)} and no 'y'. Save it with np.savez(path, x=..., y=...)."
        )
    if more := sorted(set(arrays) - {"x", "y"}):
        raise DataError(
            f"{path} brings its own {', '.join(more)}, while splits are drawn here. Leave them out, or build "
            "pyrovae.data.Regression(name, x, y, [(train_index, test_index)], source)."
        )
    tensors = {name: _matrix(arrays[name], name, path) for name in ("x", "y")}
    try:
        return Regression(
            path.stem,
            **tensors,
            splits=random_splits(len(tensors["x"]), splits, seed),
            source=f"{path}: {splits} random 90/10 splits, seed {seed}{', ' + note if note else ''}",
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def gap1d(num_data: int = 100, noise: float = 0.1, seed: int = 0) -> Regression:
    r"""y = f(x) + noise * N(0, 1) with f = `gap1d_function` and no training x in (-1, 1): a
    picture of not knowing.

    Train: x uniform on [-3, -1] and [1, 3], half each. Test: ``num_data`` more, uniform on [-4,
    4], in the gap and beyond the ends too.

    Shapes: x (2 num_data, 1), y (2 num_data, 1), in torch's default dtype; one split, of equal
    parts.

    Raises:
        DataError: fewer than 2 data, or negative noise.

    Example:
        >>> from pyrovae.data import gap1d, gap1d_function
        >>> gap = gap1d(noise=0.0)
        >>> train, _ = gap.splits[0]
        >>> bool(gap.x[train].abs().min() > 1), torch.equal(gap.y, gap1d_function(gap.x))
        (True, True)
    """
    whole_number(num_data, "num_data", at_least=2)
    if not 0 <= noise < np.inf:
        raise DataError(f"noise is {noise}, expected a standard deviation, at least 0.")
    state = np.random.RandomState(seed)
    side = np.where(np.arange(num_data) % 2, 1.0, -1.0)
    inputs = np.concatenate(
        [side * state.uniform(1, 3, num_data), state.uniform(-4, 4, num_data)]
    )[:, None]
    x, error = (
        torch.from_numpy(array).to(torch.get_default_dtype())
        for array in (inputs, noise * state.randn(*inputs.shape))
    )
    rows = torch.arange(2 * num_data)
    return Regression(
        "gap1d",
        x,
        gap1d_function(x) + error,
        [(rows[:num_data], rows[num_data:])],
        source=f"y = x / 2 + sin(2x) + {noise:g} N(0, 1), seed {seed}",
    )


def gap1d_function(x: Tensor) -> Tensor:
    """f(x) = x / 2 + sin(2x), the truth behind `gap1d`, in its original units.

    Example:
        >>> gap1d_function(torch.zeros(2))
        tensor([0., 0.])
    """
    return x / 2 + (2 * x).sin()


def _matrix(array: np.ndarray, name: str, path: Path) -> Tensor:
    if array.dtype.kind not in ("f" if name == "y" else "fuib"):
        raise DataError(
            f"{path}: {name} has dtype {array.dtype}, expected floats. "
            + (
                "Whole numbers may be class labels, which load_path reads; for counts or ages store y.astype(float)."
                if name == "y"
                else "Encode categories as numbers."
            )
        )
    tensor = torch.from_numpy(array.astype(np.float64)).to(torch.get_default_dtype())
    tensor = tensor.unsqueeze(-1) if tensor.dim() == 1 else tensor
    check_matrix(f"{path}: {name}", tensor)
    return tensor
