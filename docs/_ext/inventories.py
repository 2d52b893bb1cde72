"""Names of other libraries that signatures hold, for intersphinx, so that a build asks no host.

A file of docs/inventories has the address of a documentation, and a name and its page on each line.
"""

import zlib
from pathlib import Path

HEADER = """# Sphinx inventory version 2
# Project: {name}
# Version:
# The remainder of this file is compressed using zlib.
"""


def write(texts: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each text, and return the `intersphinx_mapping`."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for path in sorted(texts.glob("*.txt")):
        address, *lines = path.read_text().splitlines()
        entries = "".join(f"{name} py:class 1 {page} -\n" for name, page in map(str.split, lines))
        inventory = folder / f"{path.stem}.inv"
        inventory.write_bytes(
            HEADER.format(name=path.stem).encode() + zlib.compress(entries.encode())
        )
        mapping[path.stem] = (address, str(inventory))
    return mapping
