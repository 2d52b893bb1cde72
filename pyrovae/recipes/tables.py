"""Tables in Markdown and CSV, for all scripts."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyrovae.core.atomic_write import write_atomically


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, rule: str = "---"
) -> str:
    r"""A Markdown table that ends with a newline.

    rule: the cells of the delimiter row below the head.

    Example:
        >>> print(markdown_table(["method", "RMSE"], [["map", 0.5]]), end="")
        | method | RMSE |
        |---|---|
        | map | 0.5 |
    """
    lines = [_line(head), f"|{'|'.join([rule] * len(head))}|", *map(_line, rows)]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def write_markdown(path: Path, text: str) -> None:
    """Write a Markdown file atomically."""
    write_atomically(path, text.encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file with the union of the columns of all rows, atomically."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(
        text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n"
    )
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
