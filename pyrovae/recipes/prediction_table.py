"""New rows for a trained Bayesian net from a file, and its predictions as columns beside them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.csv_table import TextTable, is_csv, read_text_table
from pyrovae.data.user_files import read_file
from pyrovae.metrics import mean_and_error
from pyrovae.metrics.summary import MeanError
from pyrovae.recipes.bnn_layout import BnnLayout
from pyrovae.recipes.bnn_prediction import ClassPrediction, Prediction
from pyrovae.recipes.data_choice import refuse_unknown
from pyrovae.recipes.new_data import read_data
from pyrovae.recipes.refusal import Refusal


@dataclasses.dataclass(frozen=True)
class Rows:
    """Features x and, where they are known, targets y, in their own units; table: the file that
    they come from, if it is one of text."""

    x: np.ndarray
    y: np.ndarray | None = None
    table: TextTable | None = None

    def __len__(self) -> int:
        return len(self.x)


def read_rows(name: str, layout: BnnLayout) -> Rows:
    """The rows of a table, by the names of its columns, of an .npy or .npz (x; y where it is there)
    and, for classifiers, of a named set, an IDX file or a folder of images.

    A table may have further columns, and its target column, empty or not. A run whose data were no
    table takes the columns in their order.

    Raises: Refusal or DataError for files that cannot be read, and for columns that are missing.
    """
    path = Path(name).expanduser()
    if is_csv(path):
        return _of_table(read_text_table(path), layout)
    if layout.classes:
        data = read_data(name)
        return Rows(data.x, data.y)
    refuse_unknown("DATA", name, (), "the path of a .csv, .tsv, .npy or .npz file")
    if path.is_dir():
        raise Refusal(f"{path} is a folder; expected a .csv, .tsv, .npy or .npz file.")
    arrays, _ = read_file(path)
    return Rows(arrays["x"], arrays.get("y"))


def columns_of(prediction: Prediction) -> dict[str, Tensor]:
    """Name -> `(N,)`: `mean, lower, upper, aleatoric, epistemic`, with a number behind each where
    there are several targets; or `predicted, p_CLASS, ..., entropy`."""
    if isinstance(prediction, ClassPrediction):
        probs = dict(zip(prediction.classes, prediction.probs.T))
        return {
            "predicted": prediction.label,
            **{f"p_{label}": value for label, value in probs.items()},
            "entropy": prediction.entropy,
        }
    names, targets = ("mean", "lower", "upper", "aleatoric", "epistemic"), prediction.mean.shape[1]
    return {
        name if targets == 1 else f"{name}_{target}": vars(prediction)[name][:, target]
        for target in range(targets)
        for name in names
    }


def beside(table: TextTable | None, columns: Mapping[str, Tensor]) -> list[dict[str, object]]:
    """The rows of a CSV file: the cells of the table, then the columns with ten digits.

    Raises: Refusal for a name that both have.
    """
    rows = len(next(iter(columns.values())))
    cells: list[dict[str, object]] = [{} for _ in range(rows)]
    if table is not None:
        if both := [name for name in columns if name in table.names]:
            raise Refusal(
                f"{table.path} already has a column {both[0]!r}, as the predictions; rename it."
            )
        cells = [dict(zip(table.names, row)) for row in table.rows]
    written = {
        name: [
            value if isinstance(value, int) else format(value, ".10g") for value in column.tolist()
        ]
        for name, column in columns.items()
    }
    return [
        {**own, **{name: values[index] for name, values in written.items()}}
        for index, own in enumerate(cells)
    ]


def scores_of(prediction: Prediction, y: np.ndarray, log_density: Tensor) -> dict[str, MeanError]:
    """Score -> mean, standard error over the data, and their number: RMSE (its error by the delta
    method), log-density and coverage, or accuracy and log-probability."""
    log_p = mean_and_error(log_density)
    if isinstance(prediction, ClassPrediction):
        correct = prediction.label == torch.as_tensor(y)
        return {"accuracy": mean_and_error(correct.double()), "log p(y given x)": log_p}
    observed = torch.as_tensor(y, dtype=torch.float64).reshape(prediction.mean.shape)
    square = mean_and_error((prediction.mean - observed).square().mean(-1))
    root = square.mean**0.5
    inside = (prediction.lower <= observed) & (observed <= prediction.upper)
    return {
        "RMSE": MeanError(root, square.se / (2 * root) if root else square.se, square.n),
        "log p(y given x)": log_p,
        f"coverage of {prediction.level:.0%}": mean_and_error(inside.double().mean(-1)),
    }


def _of_table(table: TextTable, layout: BnnLayout) -> Rows:
    names, expected = layout.columns, layout.data["num_features"]
    if not names and len(table.names) != expected:
        raise Refusal(
            f"{table.path} has {len(table.names)} columns; the data of the run were no table, so columns have no names "
            f"and are taken in their order: expected {expected}."
        )
    x = table.numbers(names or table.names)
    target = layout.data.get("target")
    if target not in table.names:
        return Rows(x, None, table)
    place = table.names.index(target)
    if not any(row[place].strip() for row in table.rows):
        return Rows(x, None, table)
    return Rows(x, table.numbers([target])[:, 0], table)
