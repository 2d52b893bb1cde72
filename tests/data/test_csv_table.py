"""CSV tables: numbers by the names of their columns, and one line for whatever else is there."""

from pathlib import Path

import numpy as np
import pytest

from pyrovae.data import DataError
from pyrovae.data.csv_table import read_csv


def write(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_come_by_name(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, '\ufeffa, b ,"c, d"\n1,2,3\n\n-1e3,0.5,7\n'))
    assert table.names == ("a", "b", "c, d")
    np.testing.assert_array_equal(table.values, [[1, 2, 3], [-1000, 0.5, 7]])
    np.testing.assert_array_equal(table.columns(["c, d", "a"]), [[3, 1], [7, -1000]])
    assert table.without(["b"]) == ("a", "c, d")
    tabs = read_csv(write(tmp_path, "a\tb\n1\t2\n", "t.tsv"))
    assert tabs.names == ("a", "b") and tabs.values.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds 0 lines"),
        ("a,b\n", "holds 1 lines"),
        ("1,2\n3,4\n", "begins with numbers"),
        ("a;b\n1;2\n", "semicolons"),
        ("a,a\n1,2\n", "column 'a' twice"),
        ("a,\n1,2\n", "columns without a name"),
        ("a,b\n1,2\n3\n", "line 3, has 1 cells and the header 2"),
        ("a,b\n1,\n", "line 2, column 'b' is empty"),
        ("a,b\n1,red\n", "column 'b' holds 'red'"),
        ("a,b\n1,nan\n", "column 'b' holds 'nan'"),
        ("a,b\n1,1_000\n", "holds '1_000'"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read_csv(write(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path / "b.csv")
    table = read_csv(write(tmp_path, "a\n1\n"))
    with pytest.raises(DataError, match="no column 'z'"):
        table.columns(["a", "z"])
