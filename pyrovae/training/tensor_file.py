"""Safetensors files with a digest of their content, checked when they are read."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pyrovae.core.atomic_write import write_atomically
from pyrovae.core.errors import CheckpointError

DIGEST = "sha256"
UNKNOWN = 64 * "0"
"""Takes the digest's place while the digest is computed."""


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    constant: Collection[str] = (),
) -> None:
    """Write tensors and texts, atomically; equal contents are equal files.

    Raises: CheckpointError for NaN, and outside the tensors named `constant` (a mask of -inf, the
    bounds of a support) for infinity; the file is then as it was.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    for name, value in plain.items():
        bad = value.isnan() if name in constant else ~value.isfinite()
        if bad.any():
            raise CheckpointError(
                f"{name} holds {int(bad.sum())} of {bad.numel()} numbers that are not finite, which are "
                f"never saved; {path} is left as it was. Go on from the last checkpoint with a "
                "lower lr, or clip_norm."
            )
    content = _ordered(save(plain), {**metadata, DIGEST: UNKNOWN})
    write_atomically(path, content.replace(UNKNOWN.encode(), _digest(content).encode(), 1))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """Tensors and texts, and whether a digest vouched for them.

    Raises: CheckpointError where the file is missing, is none, or is not as it was written.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there is no file {path}.")
    try:
        content = Path(path).read_bytes()
        tensors, header = load(content), _header(content)
        metadata = header.get("__metadata__", {})
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}).") from error
    known = metadata.pop(DIGEST, None)
    if known is not None and known != _digest(
        content.replace(known.encode(), UNKNOWN.encode(), 1)
    ):
        raise CheckpointError(
            f"{path} is damaged: its content does not have the digest it was written with. Take a copy of "
            "it that is whole, or begin anew."
        )
    return tensors, metadata, known is not None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _header(content: bytes) -> dict:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def _ordered(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file with its metadata sorted by name (safetensors writes them
    in any order)."""
    header = {"__metadata__": dict(sorted(metadata.items())), **_header(content)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return (
        len(text).to_bytes(8, "little")
        + text
        + content[8 + int.from_bytes(content[:8], "little") :]
    )
