"""What files say about their size, looked at before memory is taken for it."""

import math
import os
import stat
import zipfile
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from pyrovae.data.errors import DataError

_UNKNOWN = 2**36
_KINDS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def refuse_special(path: Path) -> None:
    """Refuse pipes, sockets and devices, which may never end or never begin; links are followed.

    Raises:
        DataError: as above. What is not there is left to whoever opens it.

    Example:
        >>> refuse_special(Path("nowhere"))
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    for is_kind, name in _KINDS.items():
        if is_kind(mode):
            raise DataError(
                f"{path} is {name}, expected a file or a folder on disk. Write what it gives to a file first."
            )


def refuse_large(path: Path, size: int) -> None:
    """Refuse what would take more memory than this machine has, such as a few bytes that unpack to
    terabytes.

    Raises:
        DataError: as above.

    Example:
        >>> refuse_large(Path("small.npy"), 1000)
    """
    if size > (there := memory()):
        raise DataError(
            f"{path} says that it holds {size / 2**30:.4g} GiB, more than the memory of this machine, "
            f"{there / 2**30:.4g} GiB. It is damaged, or made to do harm, or to be given in parts."
        )


def memory() -> int:
    """Bytes of memory of this machine; 64 GiB where the system does not say.

    Example:
        >>> memory() > 2 ** 20
        True
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def check_numpy(file: BinaryIO, path: Path, names: list[str]) -> None:
    """Refuse an open .npy or .npz whose headers promise more or less than there is, in the arrays
    `names`.

    Raises:
        DataError: as above, or more than fits the memory.
        ValueError, zipfile.BadZipFile, ...: a header that cannot be read.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> np.save(file, np.zeros(3))
        >>> check_numpy(file, Path("three.npy"), ["x"])
    """
    file.seek(0)
    if file.read(4) == b"PK\3\4":
        with zipfile.ZipFile(file) as archive:
            members = [
                info for info in archive.infolist() if info.filename.removesuffix(".npy") in names
            ]
            refuse_large(path, sum(info.file_size for info in members))
            for info in members:
                with archive.open(info) as part:
                    _check_header(part, info.file_size, path)
    else:
        _check_header(file, file.seek(0, os.SEEK_END), path)
    file.seek(0)


def _check_header(file: IO[bytes], size: int, path: Path) -> None:
    if file.seekable():
        file.seek(0)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        # of names that are not Latin, in tables with named columns, which are no arrays of numbers
        return
    shape, _, dtype = read(file)
    found, promised = size - file.tell(), math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and found != promised:
        raise DataError(
            f"{path} says that it holds an array of shape {shape}, {promised} bytes, but {max(found, 0)} "
            "follow, so it cannot be read as a numpy file. It is damaged or broke off: write it again with "
            "np.save or np.savez."
        )
