"""Where data files live on disk."""

import os
import sys
from pathlib import Path


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Folder for data files: the argument, else ``PYROVAE_DATA``, else the platform's cache
    folder.

    The cache folder is ``$XDG_CACHE_HOME/pyrovae`` or ``~/.cache/pyrovae`` on Linux,
    ``~/Library/Caches/pyrovae`` on macOS and ``%LOCALAPPDATA%\\pyrovae`` on Windows. Nothing is
    created here; a loader does that when it downloads.

    Source: XDG Base Directory Specification 0.8 (a relative ``XDG_CACHE_HOME`` is ignored, as it
    asks).

    Example:
        >>> from pyrovae.data import data_root
        >>> data_root("elsewhere").name
        'elsewhere'
    """
    chosen = root if root is not None else os.environ.get("PYROVAE_DATA")
    if chosen:
        return Path(chosen).expanduser()
    return _cache_folder() / "pyrovae"


def _cache_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
