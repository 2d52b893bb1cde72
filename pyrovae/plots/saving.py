"""Figures to PNG files: the one place in `pyrovae.plots` that writes, and only when called."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from pyrovae.core.atomic_write import write_atomically


def save(figures: Mapping[str, Figure], folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write each figure to `folder/name.png` at 150 dots an inch and return the paths by name.

    The folder is created. A file appears whole or not at all: it is written under a temporary name
    in the same folder and then renamed, so a reader (or TensorBoard, or a browser that reloads)
    never sees half.

    Errors: ValueError for a name that is not a plain file name.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> save({"empty": Figure()}, folder)["empty"].name
        'empty.png'
    """
    folder = Path(folder)
    for name in figures:
        if not name or name.startswith(".") or Path(name).name != name:
            raise ValueError(
                f"figure name {name!r} is not a plain file name. Wanted one such as 'samples'."
            )
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
        write_atomically(folder / f"{name}.png", content.getvalue())
        paths[name] = folder / f"{name}.png"
    return paths
