"""Files that are known by name: where they are had, and the digest that says whether a copy is the
right one."""

import dataclasses
import hashlib
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from pyrovae.data.errors import DataError
from pyrovae.data.sizes import refuse_special


@dataclasses.dataclass(frozen=True)
class Known:
    """A file by its name, the SHA-256 of its content as it is downloaded, and the mirrors (https)
    that have it.

    ``unpacked`` is the SHA-256 of what a gzipped one holds, None where it is not known.
    """

    name: str
    sha256: str
    mirrors: tuple[str, ...]
    unpacked: str | None = None

    @property
    def plain(self) -> str:
        """The name without ``.gz``."""
        return self.name.removesuffix(".gz")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: a pipe or device. OSError: a file that cannot be read.
    """
    refuse_special(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, expected: str, what: str) -> None:
    """Refuse a copy whose digest is another.

    Raises:
        DataError: as above; it says how to use a file of one's own.
    """
    try:
        found = digest(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error}). Delete it, so that it is downloaded again."
        ) from error
    if found != expected:
        raise DataError(
            f"{path} is not the file of {what}: its SHA-256 is {found[:16]}..., expected {expected[:16]}.... It is "
            "damaged or another set; delete it, so that it is downloaded again. To use a set of your own, give "
            "its path instead of the name (pyrovae.data.load_path)."
        )


def fetch(known: Known, folder: Path, transfer: Callable[[str, Path], None] | None = None) -> Path:
    """Download a file into ``folder`` from the first mirror that gives the right one; the path
    appears when it is whole.

    ``transfer`` copies a URL to a path; urllib does by default.

    Raises:
        OSError, HTTPException: no mirror can be reached, or each gives something else; names them
        all.
    """
    path, partial, seen = folder / known.name, folder / f"{known.name}.{os.getpid()}.part", []
    for mirror in known.mirrors:
        try:
            (transfer or _copy)(mirror + known.name, partial)
            if (found := digest(partial)) != known.sha256:
                raise OSError(f"its SHA-256 is {found[:16]}..., expected {known.sha256[:16]}...")
            os.replace(partial, path)
            return path
        except (OSError, RuntimeError, HTTPException) as error:
            seen.append(f"{mirror + known.name}: {type(error).__name__}: {error}")
        finally:
            partial.unlink(missing_ok=True)
    raise OSError("; ".join(seen))


def by_torchvision(url: str, path: Path) -> None:
    """Copy a URL to a path as torchvision's own data sets do.

    It goes on over http where https fails; the digest tells whether the file is the right one.

    Raises:
        DataError: torchvision cannot be imported. OSError, RuntimeError: the URL cannot be read.
    """
    try:
        from torchvision.datasets.utils import download_url
    except (
        ImportError,
        RuntimeError,
        AttributeError,
        OSError,
    ) as error:  # all four seen with mismatched builds
        raise DataError(
            f"torchvision downloads these files and cannot be imported ({type(error).__name__}: {error}). "
            "Install the build made for your torch: pip install --upgrade torch torchvision"
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        download_url(url, root=scratch, filename=path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(scratch) / path.name, path)


def _copy(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=60) as response:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while chunk := response.read(2**20):
                file.write(chunk)
        promised = response.headers.get("Content-Length")
    if promised and int(promised) != path.stat().st_size:
        raise OSError(f"{url} broke off after {path.stat().st_size} of {promised} bytes")
