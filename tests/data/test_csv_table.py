"""Tables in text: columns by name, cells that are numbers, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae.data import DataError, load_path
from pyrovae.data.csv_table import read_csv, read_text_table


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_columns_by_name(tmp_path: Path, suffix: str, separator: str) -> None:
    text = "a,b,c\n1,2,3\n\n4,5e-3,-6\n".replace(",", separator)
    found = read_csv(table(tmp_path / f"t{suffix}", text))
    assert found.names == ("a", "b", "c") and found.without(["b"]) == ("a", "c")
    assert found.columns(["c", "a"]).tolist() == [[3.0, 1.0], [-6.0, 4.0]]
    assert found.values.dtype == np.float64


def test_text_beside_the_numbers(tmp_path: Path) -> None:
    found = read_text_table(table(tmp_path / "t.csv", 'who,a\n"Ada, L.",1\nBob,x\n'))
    assert found.rows == [["Ada, L.", "1"], ["Bob", "x"]] and found.lines == [2, 3]
    with pytest.raises(DataError, match="line 3, column 'a' holds 'x'"):
        found.numbers(["a"])
    with pytest.raises(DataError, match="no column 'b'; its columns are who, a"):
        found.numbers(["a", "b"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds 0 lines"),
        ("a,b\n", "holds 1 lines"),
        ("1,2\n3,4\n", "begins with numbers"),
        ("a;b\n1;2\n", "semicolons"),
        ("a,a\n1,2\n", "column 'a' twice"),
        ("a,\n1,2\n", "without a name"),
        ("a,b\n1,2\n3\n", "line 3, has 1 cells and the header 2"),
        ("a,b\n1,\n", "line 2, column 'b' is empty"),
        ("a,b\n1,nan\n", "holds 'nan'"),
        ("a,b\n1,1_0\n", "holds '1_0'"),
    ],
)
def test_what_is_no_table_of_numbers(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_csv(table(tmp_path / "t.csv", text))
    assert "\n" not in str(caught.value)


def test_all_columns_are_x(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.savetxt(tmp_path / "t.csv", values, delimiter=",", header="a,b,c", comments="", fmt="%.9g")
    np.save(tmp_path / "t.npy", values)
    one, other = load_path(tmp_path / "t.csv"), load_path(tmp_path / "t.npy")
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(one, part).tensors["x"], getattr(other, part).tensors["x"])
    assert one.train.tensors["x"].dtype == torch.float32 and one.levels is None
    assert "3 columns" in one.source
