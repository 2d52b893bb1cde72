"""Tables of numbers in text: CSV and TSV files with a header."""

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pyrovae.data.errors import DataError
from pyrovae.data.sizes import refuse_large, refuse_special

SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclasses.dataclass(frozen=True)
class CsvTable:
    """Columns by name. Shapes: values (N, D), float64, in the order of ``names``."""

    path: Path
    names: tuple[str, ...]
    values: np.ndarray

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Those columns, in that order. Shapes: (N, len(names)).

        Raises:
            DataError: a column that is not there.
        """
        _refuse_missing(self.path, self.names, names)
        return self.values[:, [self.names.index(name) for name in names]]

    def without(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names of the other columns."""
        return tuple(name for name in self.names if name not in names)


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The cells of a table as they stand in the file: `lines[i]` is the number of row i in it."""

    path: Path
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Those columns as numbers, in that order. Shapes: (N, len(names)), float64.

        Raises:
            DataError: a column that is not there; a cell that is no finite number.
        """
        _refuse_missing(self.path, self.names, names)
        places = [(self.names.index(name), name) for name in names]
        values = np.empty((len(self.rows), len(names)))
        for index, (line, row) in enumerate(zip(self.lines, self.rows)):
            for column, (place, name) in enumerate(places):
                values[index, column] = _number(row[place], self.path, line, name)
        return values


def is_csv(path: Path) -> bool:
    """Whether a path ends as the files that ``read_csv`` reads."""
    return path.suffix.lower() in SEPARATORS


def read_csv(path: str | os.PathLike) -> CsvTable:
    """A ``.csv`` (commas) or ``.tsv`` file: a line of names, then lines of finite numbers.

    Raises:
        DataError: no file, no header, no rows, a name twice, lines of other lengths, and cells
        that are no finite numbers; it names the line and the column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(f"{folder}/t.csv").write_text("age,score\\n30,1.5\\n40,2\\n")
        ...     read_csv(f"{folder}/t.csv").columns(["score"]).tolist()
        [[1.5], [2.0]]
    """
    table = read_text_table(path)
    return CsvTable(table.path, table.names, table.numbers(table.names))


def read_text_table(path: str | os.PathLike) -> TextTable:
    """A table as ``read_csv`` reads it, whose cells may be anything.

    Raises:
        DataError: no file, no header, no rows, a name twice, lines of other lengths.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist (looked from {Path.cwd()}).")
    refuse_special(path)
    refuse_large(path, path.stat().st_size)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, delimiter=SEPARATORS.get(path.suffix.lower(), ",")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if any(map(str.strip, line))]
    if len(rows) < 2:
        raise DataError(
            f"{path} holds {len(rows)} lines, expected a line of names and rows of numbers."
        )
    (_, header), rows = rows[0], rows[1:]
    names = tuple(name.strip() for name in header)
    _check_names(path, names, header)
    for number, line in rows:
        if len(line) != len(names):
            raise DataError(
                f"{path}, line {number}, has {len(line)} cells and the header {len(names)}; expected one for each name."
            )
    return TextTable(path, names, [line for _, line in rows], [number for number, _ in rows])


def _refuse_missing(path: Path, known: Sequence[str], names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in known]:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(known)}."
        )


def _check_names(path: Path, names: tuple[str, ...], header: Sequence[str]) -> None:
    if all(is_number(name) for name in names):
        raise DataError(
            f"{path} begins with numbers ({','.join(header[:4])}...), expected a first line with a name for each column."
        )
    if len(names) == 1 and ";" in names[0]:
        raise DataError(f"{path} separates columns by semicolons, expected commas.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise DataError(
            f"{path} has {'columns without a name' if '' in names else f'the column {twice[0]!r} twice'}; expected "
            "one name for each."
        )


def _number(cell: str, path: Path, line: int, name: str) -> float:
    if not is_number(cell) or not math.isfinite(float(cell)):
        seen = f"holds {cell.strip()[:30]!r}" if cell.strip() else "is empty"
        raise DataError(
            f"{path}, line {line}, column {name!r} {seen}, expected a finite number. Drop or impute such rows; turn "
            "categories into numbers."
        )
    return float(cell)


def is_number(cell: str) -> bool:
    """Whether a cell is written as a number; nan and infinity are too."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
