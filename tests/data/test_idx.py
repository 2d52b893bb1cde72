"""IDX files, MNIST's format: plain, gzipped, alone and in a folder."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae.data import DataError, load_path

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8)
LABELS = (np.arange(30) % 4).astype(np.uint8)


def write(path: Path, array: np.ndarray, kind: int = 8) -> Path:
    """By hand, so that a mistake of the reader has no twin here."""
    content = (
        struct.pack(">BBBB", 0, 0, kind, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    "name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "mine.idx3", "mine.gz"]
)
def test_one_file(tmp_path: Path, name: str) -> None:
    splits = load_path(write(tmp_path / name, IMAGES), valid_size=0)
    assert (
        tuple(splits.event_shape) == (1, 6, 5) and splits.levels == 256 and name in splits.source
    )
    found = torch.cat([splits.train.tensors["x"], splits.test.tensors["x"]])
    assert sorted(found.flatten(1).tolist()) == sorted(
        (torch.from_numpy(IMAGES).float() / 255).flatten(1).tolist()
    )


@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_a_folder_named_as_mnist(tmp_path: Path, prefix: str) -> None:
    write(tmp_path / f"{prefix}train-images-idx3-ubyte.gz", IMAGES)
    write(tmp_path / f"{prefix}train-labels-idx1-ubyte", LABELS)
    write(tmp_path / f"{prefix}t10k-images-idx3-ubyte", IMAGES[:12])
    write(tmp_path / f"{prefix}t10k-labels-idx1-ubyte.gz", LABELS[:12])
    splits = load_path(tmp_path, valid_size=0)
    assert len(splits.train) == 30 and splits.test.tensors["y"].tolist() == LABELS[:12].tolist()
    assert torch.equal(splits.test.tensors["x"], torch.from_numpy(IMAGES[:12, None]).float() / 255)
    assert splits.train.tensors["y"].tolist() == LABELS.tolist()


def test_numbers_of_other_types(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 3)).astype(">f4")
    found = load_path(
        write(tmp_path / "mine.idx2", values, kind=0x0D), valid_size=0
    ).train.tensors["x"]
    assert set(map(tuple, found.tolist())) <= set(map(tuple, values.tolist()))


def test_refusals(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole-idx3-ubyte", IMAGES).read_bytes()
    for name, content, words in (
        ("short.idx3", whole[:-7], r"\(30, 6, 5\), 900 bytes, but 893 follow"),
        ("head.idx3", whole[:6], "damaged"),
        ("cut.gz", gzip.compress(whole, mtime=0)[:-20], "damaged"),
        ("words.bin", b"hello", "expected an .npy, .npz, .csv or .tsv file, an IDX file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} .*{words}"):
            load_path(tmp_path / name)
    folder = tmp_path / "two"
    folder.mkdir()
    write(folder / "t10k-images-idx3-ubyte", IMAGES)
    with pytest.raises(DataError, match="no training images"):
        load_path(folder)
    write(folder / "other-train-images-idx3-ubyte", IMAGES)
    with pytest.raises(DataError, match="several sets"):
        load_path(folder)


@pytest.mark.parametrize("suffix", [".txt", ".dat"])
def test_text_is_refused_with_the_line_that_converts_it(tmp_path: Path, suffix: str) -> None:
    """And the line of Python in the message does convert it."""
    table = np.random.default_rng(0).normal(size=(20, 4))
    np.savetxt(tmp_path / f"mine{suffix}", table, header="a b c d")
    with pytest.raises(DataError, match="expected an .npy, .npz, .csv") as seen:
        load_path(tmp_path / f"mine{suffix}")
    program = str(seen.value).partition("import numpy as np; ")[2].partition("  (")[0]
    assert "skiprows=1" in program
    program = program.replace("'mine", f"'{tmp_path}/mine")
    exec(program, {"np": np})
    with np.load(tmp_path / "mine.npz") as made:
        assert np.allclose(made["x"], table[:, :-1]) and np.allclose(made["y"], table[:, -1])
