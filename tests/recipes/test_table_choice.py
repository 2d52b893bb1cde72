"""Tables with a column to predict: numbers or classes, standardised, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae.recipes.bnn_data import load_task, whole
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.nesting import build
from pyrovae.recipes.refusal import Refusal


def write(path: Path, **columns: np.ndarray) -> Path:
    values = np.column_stack(list(columns.values()))
    np.savetxt(path, values, delimiter=",", header=",".join(columns), comments="", fmt="%.17g")
    return path


def task_of(path: Path, **settings: object) -> Task:
    torch.set_default_dtype(torch.float32)
    return load_task(build(BnnSettings, {"dataset": str(path), **settings}))


ROWS = np.arange(60.0)


@pytest.mark.parametrize(
    ("target", "task", "kind"),
    [
        (ROWS, "auto", "regression"),  # 60 whole numbers
        (ROWS % 20 - 3, "auto", "classification"),
        (ROWS % 20 - 3, "regression", "regression"),
        (ROWS % 2 + 0.5, "auto", "regression"),  # two values that are not whole
    ],
)
def test_numbers_or_classes(tmp_path: Path, target: np.ndarray, task: str, kind: str) -> None:
    path = write(tmp_path / "t.csv", a=ROWS**2, y=target, b=np.sin(ROWS))
    found = task_of(path, target="y", task=task, **({} if kind != "regression" else {"splits": 2}))
    assert found.kind == kind and found.columns == ("a", "b") and found.target == "y"
    if kind == "classification":
        assert found.classes == tuple(np.unique(target).astype(int).tolist())
        assert found.outputs == len(found.classes)


def test_features_are_standardised_in_double_precision(tmp_path: Path) -> None:
    """Times in seconds since 1970 differ by less than the resolution of float32."""
    rng = np.random.default_rng(0)
    seconds, y = 1.7e9 + rng.normal(size=60), rng.normal(size=60)
    path = write(tmp_path / "t.csv", seconds=seconds, y=y, label=rng.integers(0, 2, 60))
    for settings in ({"target": "y", "splits": 1}, {"target": "label"}):
        task = task_of(path, **settings)
        x = task.train.tensors["x"][0, :, 0]
        assert x.dtype == torch.float32
        assert abs(x.mean()) < 1e-5 and x.std(correction=0) == pytest.approx(1, abs=1e-5)
        own = x.double() * task.x_scale[0, 0, 0] + task.x_mean[0, 0, 0]
        assert abs(own[:, None] - torch.from_numpy(seconds)).amin(1).max() < 1e-5
    every = whole(task_of(path, target="y", splits=3))
    assert every.num_splits == 1 and every.num_data == 60
    assert every.y_mean.item() == pytest.approx(
        y.mean()
    ) and every.y_scale.item() == pytest.approx(y.std())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "aa"}, "no such column. Did you mean a"),
        ({}, "name the column to predict: --target NAME, one of a, b, c"),
        ({"target": "c"}, "is 5 in all 60 rows"),
        ({"target": "b", "task": "classification"}, "expected whole numbers"),
        ({"dataset": "diabetes", "target": "a"}, "--target a is for tables"),
        ({"dataset": "digits", "task": "regression"}, "--task regression is for tables"),
        ({"dataset": "no/such.csv", "target": "a"}, "there is no such file"),
    ],
)
def test_what_is_no_target(tmp_path: Path, settings: dict, words: str) -> None:
    path = write(tmp_path / "t.csv", a=ROWS, b=np.sin(ROWS), c=0 * ROWS + 5)
    with pytest.raises(Refusal, match=words) as caught:
        task_of(path, **settings) if "dataset" not in settings else load_task(
            build(BnnSettings, settings)
        )
    assert "\n" not in str(caught.value)


def test_a_target_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no column besides"):
        task_of(write(tmp_path / "t.csv", y=ROWS), target="y")


def test_unknown_inputs_come_by_name_in_the_units_of_the_net(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b, label = rng.normal(5, 3, 60), rng.normal(size=60), rng.integers(0, 2, 60)
    task = task_of(write(tmp_path / "t.csv", a=a, y=label, b=b), target="y")
    other = write(tmp_path / "o.csv", b=b, more=b, a=a)
    x = load_unknown(str(other), task)[0].double()
    back = x * task.x_scale[0] + task.x_mean[0]
    assert np.allclose(back, np.column_stack([a, b]), atol=1e-5) and abs(x.mean(0)).max() < 0.5
