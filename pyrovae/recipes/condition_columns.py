"""Columns of a table as the conditions c of p(x | c): numbers as they are, other words one-hot."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pyrovae.data.csv_table import TextTable, is_csv, is_number, read_text_table
from pyrovae.recipes.data_choice import did_you_mean
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_data_settings import CONDITIONS

MOST_VALUES = 100
"""Words that differ, of one column."""


@dataclasses.dataclass(frozen=True)
class Column:
    """values: the words of a column that holds other things than numbers, which is then one-hot in
    their order; None for numbers."""

    name: str
    values: tuple[str, ...] | None = None

    @classmethod
    def of(cls, table: TextTable, name: str) -> "Column":
        """Raises: Refusal for an empty cell among words, and for too many of them."""
        cells = _cells(table, name)
        if all(is_number(cell) for cell in cells):
            return cls(name)
        values = tuple(sorted(set(cells)))
        if "" in values:
            line = table.lines[cells.index("")]
            raise Refusal(f"{table.path}, line {line}, column {name!r} is empty; drop such rows.")
        if len(values) > MOST_VALUES:
            raise Refusal(
                f"--condition {name}: the column of {table.path} holds {len(values)} different words, expected numbers "
                f"or at most {MOST_VALUES}."
            )
        return cls(name, values)

    def read(self, table: TextTable) -> np.ndarray:
        """`(N, 1)` or `(N, len(values))`, float32. Raises: Refusal for a word that is not among the
        values, DataError for cells that are no numbers."""
        if self.values is None:
            return table.numbers([self.name]).astype(np.float32)
        cells = _cells(table, self.name)
        for line, cell in zip(table.lines, cells):
            if cell not in self.values:
                raise Refusal(
                    f"{table.path}, line {line}, column {self.name!r} holds {cell[:30]!r}, expected one of "
                    f"{', '.join(self.values[:20])}{', ...' * (len(self.values) > 20)}."
                )
        places = np.array([self.values.index(cell) for cell in cells])
        return np.eye(len(self.values), dtype=np.float32)[places]


@dataclasses.dataclass(frozen=True)
class ConditionColumns:
    """The layout of a table: which columns are c, and which are x."""

    given: tuple[Column, ...]
    x: tuple[str, ...]

    @classmethod
    def of(cls, table: TextTable, names: Sequence[str]) -> "ConditionColumns":
        """Raises: Refusal where no column is left for x."""
        x = tuple(name for name in table.names if name not in names)
        if not x:
            raise Refusal(f"--condition names all columns of {table.path}; none is left for x.")
        return cls(tuple(Column.of(table, name) for name in names), x)

    @classmethod
    def from_facts(cls, data: Mapping) -> "ConditionColumns | None":
        """From the `data` of a run.json; None where c are no columns of a table."""
        if not data.get("conditions"):
            return None
        given = tuple(
            Column(one["name"], None if one["values"] is None else tuple(one["values"]))
            for one in data["conditions"]
        )
        return cls(given, tuple(data["columns"]))

    def facts(self) -> dict[str, object]:
        """What run.json says of them."""
        return {
            "columns": list(self.x),
            "conditions": [dataclasses.asdict(column) for column in self.given],
        }

    def read(self, table: TextTable) -> dict[str, np.ndarray]:
        """x and c of a table with these columns, in any order and with others."""
        return {"x": table.numbers(self.x), "c": self.read_given(table)}

    def read_given(self, table: TextTable) -> np.ndarray:
        """c alone, `(N, C)`."""
        return np.concatenate([column.read(table) for column in self.given], axis=1)


def find_columns(dataset: str, condition: str) -> tuple[TextTable, ConditionColumns] | None:
    """The table of --dataset and its columns, if --condition names some, separated by commas; None
    for the words of --condition. A column goes before a word of the same name.

    Raises: Refusal for what is neither.
    """
    path, names = Path(dataset).expanduser(), condition.split(",")
    words = ", ".join(CONDITIONS)
    if condition == "none" or condition in CONDITIONS and not is_csv(path):
        return None
    if not is_csv(path):
        raise Refusal(
            f"--condition {condition}: expected one of {words} or, for a .csv or .tsv file, names of its columns."
            + did_you_mean(condition, CONDITIONS)
        )
    table = read_text_table(path)
    unknown = [name for name in names if name not in table.names]
    if unknown and condition in CONDITIONS:
        return None
    if unknown or len(set(names)) < len(names):
        what = f"{path} has no column {unknown[0]!r}" if unknown else "a column is named twice"
        hint = did_you_mean(unknown[0], table.names) if unknown else ""
        raise Refusal(
            f"--condition {condition}: {what}.{hint} Its columns are {', '.join(table.names[:30])}."
        )
    return table, ConditionColumns.of(table, names)


def _cells(table: TextTable, name: str) -> list[str]:
    place = table.names.index(name)
    return [row[place].strip() for row in table.rows]
