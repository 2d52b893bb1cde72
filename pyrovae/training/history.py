"""One row of numbers an epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

from pyrovae.core.atomic_write import write_atomically

Row = dict[str, float]


class History(Sequence[Row]):
    """Rows of a run, by epoch (`history[-1]["elbo"]`) or by name (`history["elbo"]`, NaN where a
    row lacks it).

    Example:
        >>> history = History([{"epoch": 1, "elbo": -2.0}])
        >>> history.append({"epoch": 2, "elbo": -1.0})
        >>> history["elbo"], len(history)
        ([-2.0, -1.0], 2)
    """

    def __init__(self, rows: Sequence[Mapping[str, float]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: int) -> Row: ...

    @overload
    def __getitem__(self, key: slice) -> list[Row]: ...

    @overload
    def __getitem__(self, key: str) -> list[float]: ...

    def __getitem__(self, key: int | slice | str) -> Row | list[Row] | list[float]:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(
                    f"no column {key!r} in this history; it has {', '.join(self.names)}."
                )
            return [row.get(key, float("nan")) for row in self.rows]
        return self.rows[key]

    def append(self, row: Mapping[str, float]) -> None:
        self.rows.append(dict(row))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def columns(self) -> dict[str, list[float]]:
        return {name: self[name] for name in self.names}

    def to_csv(self, path: str | Path) -> None:
        """Write a table with a header, atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(path, text.getvalue().encode())

    def __repr__(self) -> str:
        last = (
            ", ".join(f"{name}={value:.4g}" for name, value in self.rows[-1].items())
            if self.rows
            else "empty"
        )
        return f"History({len(self)} epochs; last: {last})"
