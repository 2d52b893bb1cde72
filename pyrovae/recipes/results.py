"""Result files: written atomically, with a digest that is verified on reading."""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes.nesting import flatten
from pyrovae.recipes.refusal import Refusal

DIGEST, FILES = "sha256", "digests"
REMEDY = "remove it and run the same command again, which recreates it"


def write_result(path: Path, content: Mapping[str, object], *, files: Iterable[Path] = ()) -> None:
    """Write JSON with a digest of itself and of the existing `files` that belong to it."""
    beside = {
        os.path.relpath(file, path.parent).replace(os.sep, "/"): _digest(file.read_bytes())
        for file in files
    }
    content = json.loads(json.dumps({**content, FILES: beside} if beside else content))
    write_atomically(
        path, (json.dumps({DIGEST: _digest_of(content), **content}, indent=1) + "\n").encode()
    )


def read_result(path: Path, *, remedy: str = REMEDY) -> dict:
    """Read a file of `write_result`. Raises Refusal, naming the file, if it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Refusal(f"there is no file {path}.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON: {error}", remedy) from error
    if not isinstance(content, dict) or content.pop(DIGEST, None) != _digest_of(content):
        raise _damaged(path, "its content does not match its digest", remedy)
    return content


def find_result(path: Path) -> dict | None:
    """The result, or None if it or a file that belongs to it is missing. Raises Refusal if one is
    damaged."""
    if not path.exists():
        return None
    content = read_result(path)
    for name, known in content.get(FILES, {}).items():
        file = path.parent / name
        if not file.is_file():
            return None
        if _digest(file.read_bytes()) != known:
            raise _damaged(file, "it does not match its digest")
    return content


def find_asked(path: Path, asked: Mapping[str, object], out: Path) -> dict | None:
    """The result in `path`, or None if it is missing. Raises Refusal if what it was `asked` for is
    something else: in a folder `out` there are results of one kind of settings."""
    found = find_result(path)
    if found is None:
        return None
    old, new = flatten(found.get("asked", {})), flatten(json.loads(json.dumps(asked)))
    refuse_changes(new, old, f"{out} holds {path.stem}")
    return found


def refuse_changes(wanted: Mapping[str, object], old: Mapping[str, object], what: str) -> None:
    """Raise Refusal if settings are wanted that are not the old ones of a folder of results."""
    if changed := [
        f"{name.replace('_', '-')}: {old.get(name, 'none')} there, {wanted[name]} here"
        for name in sorted(wanted)
        if old.get(name) != wanted[name]
    ]:
        raise Refusal(f"{what} with other settings ({'; '.join(changed)}); choose another --out.")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file atomically."""
    content = io.BytesIO()
    np.savez(content, **dict(arrays))  # type: ignore[arg-type]  # no array is named allow_pickle
    write_atomically(path, content.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz file. Raises Refusal for any other content."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str, remedy: str = REMEDY) -> Refusal:
    return Refusal(f"{path} is damaged ({' '.join(reason.split())}); {remedy}.")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(content: object) -> str:
    return _digest(json.dumps(content, sort_keys=True).encode())
