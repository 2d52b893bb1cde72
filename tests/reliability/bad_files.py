"""Files that nobody can learn from, in every form a user or a stranger may hand over."""

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def _npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def _npy(path: Path, array: object) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def _declares(path: Path, shape: tuple[int, ...]) -> Path:
    """An .npy whose header promises more than is there."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return _bytes(path, file.getvalue() + bytes(64))


def _bomb(path: Path) -> Path:
    """An .npz of some kilobytes whose x would take 8 GB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 1000)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", header.getvalue() + bytes(10**7))
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, data in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


X, Y, LABELS = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60.0), np.arange(60) % 3
IDX = struct.pack(">4B3I", 0, 0, 8, 3, 10, 4, 4) + bytes(160)

FILES: dict[str, Callable[[Path], Path]] = {
    "empty.npz": lambda p: _bytes(p, b""),
    "text.npz": lambda p: _bytes(p, b"this is no archive"),
    "cut.npz": lambda p: _cut(_npz(p, x=X, y=Y), 0.6),
    "names.npz": lambda p: _npz(p, features=X, target=Y),
    "nothing.npz": lambda p: _npz(p),
    "rows.npz": lambda p: _npz(p, x=X, y=Y[:-1]),
    "nan.npz": lambda p: _npz(p, x=np.where(X > 1, np.nan, X), y=Y),
    "infinite.npz": lambda p: _npz(p, x=X, y=np.where(Y == 3, np.inf, Y)),
    "objects.npz": lambda p: _npz(p, x=np.array([{}] * 60, dtype=object), y=Y),
    "strings.npz": lambda p: _npz(p, x=np.array([["a", "b"]] * 60), y=Y),
    "complex.npz": lambda p: _npz(p, x=X + 1j, y=Y),
    "records.npz": lambda p: _npz(p, x=np.zeros(60, dtype=[("a", "f8"), ("b", "i4")]), y=Y),
    "dates.npz": lambda p: _npz(p, x=X, y=np.arange(60).astype("datetime64[D]")),
    "negative.npz": lambda p: _npz(p, x=X, y=LABELS - 1),
    "unseen.npz": lambda p: _npz(p, x=X, y=LABELS, x_test=X, y_test=LABELS + 5),
    "one_class.npz": lambda p: _npz(p, x=X, y=np.zeros(60, dtype=int)),
    "huge_label.npz": lambda p: _npz(p, x=X, y=np.where(LABELS == 2, 2**40, LABELS)),
    "one_row.npz": lambda p: _npz(p, x=X[:1], y=Y[:1]),
    "five_rows.npz": lambda p: _npz(p, x=X[:5], y=LABELS[:5]),
    "no_rows.npz": lambda p: _npz(p, x=X[:0], y=Y[:0]),
    "no_columns.npz": lambda p: _npz(p, x=X[:, :0], y=Y),
    "scalar.npz": lambda p: _npz(p, x=np.float64(3), y=np.float64(1)),
    "wide_test.npz": lambda p: _npz(
        p, x=X, y=LABELS, x_test=np.zeros((10, 4)), y_test=LABELS[:10]
    ),
    "boolean.npz": lambda p: _npz(p, x=X > 0, y=X[:, 0] > 0),
    "bomb.npz": _bomb,
    "member.npz": lambda p: _zip(p, "../../x.npy", b"x"),
    "pickle.npy": lambda p: _npy(p, np.array([print], dtype=object)),
    "declares.npy": lambda p: _declares(p, (10**9, 1000)),
    "negative_shape.npy": lambda p: _declares(p, (-5, 3)),
    "five_images.npy": lambda p: _npy(p, np.zeros((5, 8, 8), dtype=np.uint8)),
    "constant.npy": lambda p: _npy(p, np.zeros((60, 8, 8), dtype=np.uint8)),
    "four_axes.npy": lambda p: _npy(p, np.zeros((60, 8, 8, 7, 2), dtype=np.uint8)),
    "cut.idx": lambda p: _bytes(p, IDX[:50]),
    "magic.idx": lambda p: _bytes(p, b"\1\2\3\4" + IDX[4:]),
    "declares-idx3-ubyte": lambda p: _bytes(
        p, struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31) + bytes(9)
    ),
    "no_gzip-idx3-ubyte.gz": lambda p: _bytes(p, b"no gzip"),
    "cut-idx3-ubyte.gz": lambda p: _cut(_bytes(p, gzip.compress(os.urandom(3000))), 0.5),
    "table.csv": lambda p: _bytes(p, b"a,b\n1,2\nx,y\n"),
    "bytes.csv": lambda p: _bytes(p, os.urandom(300)),
    "ragged.csv": lambda p: _bytes(p, b"a,b,c\n1,2\n3,4,5,6\n"),
    "run.pt": lambda p: _bytes(p, b"\x80\x04\x95."),
    "run.pkl": lambda p: _bytes(p, b"cos\nsystem\n(S'true'\ntR."),
    "fifo.npz": _fifo,
    "loop.npz": _loop,
    "empty_folder": lambda p: _folder(p),
    "no_images": lambda p: _folder(p, notes=b"text"),
    "bad_images": lambda p: _folder(p, **{f"a{i}.png": b"no picture" for i in range(30)}),
    "bad_classes": lambda p: _folder(p, **{f"cat__{i}.png": b"no picture" for i in range(30)}),
    "uci_cut": lambda p: _folder(p, **{"data__data.txt": b"1 2 3\n4 5\n"}),
    "uci_words": lambda p: _folder(p, **{"data__data.txt": b"one two three\n" * 30}),
    "not_there.npz": lambda p: p,
    "not/there.npz": lambda p: p,
}
"""Name -> a function that makes it."""

SPECIAL = (
    "/dev/zero",
    "/dev/null",
    "",
    ".",
    "..",
    "~",
    "minst",
    "a\nb",
    "x" * 5000,
    "-",
    "http://example.com/x.npz",
)
"""Names that are no files to read."""


def _zip(path: Path, name: str, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, data)
    return path
