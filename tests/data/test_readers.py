"""What a user's files may hold, refused in one line by every script before memory is taken for it."""

import gzip
import io
import json
import logging
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_scripts import run

from pyrovae.data import DataError, DictDataset, Splits, load_path, load_uci_folder
from pyrovae.data.sizes import memory
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.continual_tasks import load_stream
from pyrovae.recipes.data_choice import with_classes
from pyrovae.recipes.nesting import build
from pyrovae.recipes.refusal import Refusal

RNG = np.random.default_rng(0)
HUGE = 2**50


def npy(shape: tuple, content: bytes = b"", dtype: str = "<f4") -> bytes:
    """A file whose header says `shape`, whatever follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + content


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def idx(*shape: int) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, len(shape)) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("huge.npy", npy((HUGE,)), "says that it holds an array of shape"),
        ("short.npy", npy((20, 3), bytes(100)), "100 follow"),
        ("long.npy", npy((20, 3), bytes(999)), "999 follow"),
        ("flat.idx", idx(2**32 - 1, 2**31, 2**31), "but 0 follow"),
        ("long.idx", idx(3, 2, 2) + bytes(99), "but 99 follow"),
        (
            "bomb.idx.gz",
            gzip.compress(idx(2**32 - 1, 2**31, 2**31) + bytes(99), mtime=0),
            "more than the memory of this machine",
        ),
        ("more.idx.gz", gzip.compress(idx(3, 2, 2) + bytes(10**6), mtime=0), "but more follow"),
        (
            "damaged.idx.gz",
            gzip.compress(idx(300, 2, 2) + RNG.bytes(1200), mtime=0)[:600],
            "cannot be read",
        ),
        ("noise.gz", b"\x1f\x8b" + RNG.bytes(99), "no IDX file|cannot be read"),
        ("text.npy", b"1,2,3\n", "cannot be read as a numpy file"),
        ("future.npy", b"\x93NUMPY\x09\x00" + bytes(99), "cannot be read"),
    ],
)
def test_what_a_file_says_is_compared_with_what_it_holds(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{words}"):
        load_path(tmp_path / name)


def test_archives_are_looked_at_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path / "mine.npz", x=npy((HUGE,)))
    with pytest.raises(DataError, match="mine.npz says that it holds an array of shape"):
        load_path(path)
    np.savez_compressed(path, x=np.zeros((1000, 1000)))
    assert path.stat().st_size < 20_000
    load_path(path)
    monkeypatch.setattr("pyrovae.data.sizes.memory", lambda: 10**6)
    with pytest.raises(DataError, match="more than the memory of this machine"):
        load_path(path)


def test_memory_is_that_of_this_machine() -> None:
    assert 2**28 < memory() < 2**50


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are Unix's")
@pytest.mark.parametrize(
    "command",
    [
        "train_vae.py --dataset",
        "train_bnn.py --dataset",
        "compare_bnn.py --methods map --dataset",
        "continual.py --problem regression-stream --dataset",
        "compare_vae.py --grid epochs=1 --dataset",
        "reproduce.py iwae --dataset",
        "train_bnn.py --dataset digits --ood",
    ],
)
def test_pipes_are_refused_by_every_script(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    error = run(*command.split(), tmp_path / "pipe.npz", "--out", tmp_path / "out", status=2)
    assert "pipe.npz is a pipe, expected a file" in error and len(error.splitlines()) == 1


def test_devices_are_refused() -> None:
    with pytest.raises(DataError, match="is a device"):
        load_path(os.devnull)


DAMAGED = {
    "pickle.npz": lambda path: np.savez(path, x=np.array([[1], [1, 2]], object), y=np.zeros(2)),
    "short.npz": lambda path: path.write_bytes(b"PK\3\4 and no more"),
    "words.npz": lambda path: np.savez(path, x=np.array(["a"] * 20), y=np.zeros(20)),
    "text.txt": lambda path: path.write_text("1 2 3\n"),
    "huge.npz": lambda path: npz(path, x=npy((HUGE,)), y=npy((20,), bytes(80))),
    "other.bin": lambda path: path.write_bytes(b"hello"),
    "nan.npz": lambda path: np.savez(path, x=np.full((20, 2), np.nan), y=np.zeros(20)),
    "rows.npz": lambda path: np.savez(path, x=np.zeros((20, 2)), y=np.zeros(19)),
    "few.npz": lambda path: np.savez(path, x=np.zeros((9, 2)), y=np.zeros(9)),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize(
    "command",
    [
        "train_vae.py",
        "train_bnn.py",
        "compare_bnn.py --methods map",
        "continual.py --problem regression-stream",
        "compare_vae.py --grid epochs=1",
    ],
)
def test_damaged_files_are_refused_by_every_script(
    tmp_path: Path, command: str, name: str
) -> None:
    DAMAGED[name](tmp_path / name)
    error = run(
        *command.split(), "--dataset", tmp_path / name, "--out", tmp_path / "out", status=2
    )
    assert (
        name in error
        and error.splitlines()[-1].startswith("error: ")
        and not (tmp_path / "out").exists()
    )


def classes(*labels: list[int]) -> Splits:
    parts = [
        None if some is None else DictDataset(x=torch.zeros(len(some), 2), y=torch.tensor(some))
        for some in labels
    ]
    return Splits("mine", *parts, levels=None, source="")


def test_classes_are_numbered_by_what_training_holds() -> None:
    splits, count = with_classes("mine", classes([7, 1000000, 7, 3], None, [3, 1000000]))
    assert (
        count == 3
        and splits.train.tensors["y"].tolist() == [1, 2, 1, 0]
        and splits.test.tensors["y"].tolist() == [0, 2]
    )
    splits, count = with_classes("mine", classes([0, 1], [1], [0]))
    assert count == 2 and splits.valid.tensors["y"].tolist() == [1]
    with pytest.raises(
        Refusal,
        match="y_test of mine holds class 5, which the training data do not contain; they have",
    ):
        with_classes("mine", classes([0, 1], None, [5]))
    with pytest.raises(Refusal, match="y_valid of mine holds classes 2, 3"):
        with_classes("mine", classes([0, 1], [2, 3], [1]))


def test_labels_are_counted_from_zero_up(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=RNG.random((30, 2)), y=np.arange(30) % 3 - 1)
    with pytest.raises(DataError, match="y holds -1..1; expected class labels from 0 up"):
        load_path(tmp_path / "mine.npz")
    np.savez(tmp_path / "mine.npz", x=RNG.random((30, 2)), y=np.full(30, 1e300))
    with pytest.raises(DataError, match="expected class labels from 0 up"):
        load_path(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    "command",
    [
        "train_bnn.py --steps 5 --hidden 4 --num-samples 3",
        "train_vae.py --epochs 1 --hidden 8 --eval-particles 5 --condition label",
    ],
)
def test_labels_far_apart_make_few_classes(tmp_path: Path, command: str) -> None:
    x, y = RNG.random((40, 4, 4)), np.arange(40) % 2 * 10**12 + 5
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=x[:10], y_test=y[:10])
    run(*command.split(), "--dataset", tmp_path / "mine.npz", "--out", tmp_path / "out")
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=x[:10], y_test=y[:10] + 1)
    assert "which the training data do not contain" in run(
        *command.split(), "--dataset", tmp_path / "mine.npz", "--out", tmp_path / "other", status=2
    )


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=RNG.random((30, 2)), y=np.ones(30, int))
    with pytest.raises(Refusal, match="one class only"):
        load_task(build(BnnSettings, {"dataset": str(tmp_path / "mine.npz")}))


def test_what_a_classifier_has_no_use_for_is_refused(tmp_path: Path) -> None:
    for words, message in (
        ("--splits 3", "--splits 3 is for regression"),
        ("--noise input", "--noise input is for"),
    ):
        assert message in run("train_bnn.py", "--dataset", "digits", *words.split(), status=2)
    assert "scores classifiers" in run(
        "train_bnn.py", "--ood", "noise", "--out", tmp_path, status=2
    )
    np.savez(tmp_path / "vectors.npz", x=RNG.random((30, 5)))
    assert "has 5 features, digits 64" in run(
        "train_bnn.py", "--dataset", "digits", "--ood", tmp_path / "vectors.npz", status=2
    )
    assert not (tmp_path / "run.json").exists()


def test_the_share_held_out_is_the_one_asked_for() -> None:
    task = load_task(build(BnnSettings, {"dataset": "digits", "valid_fraction": 0.25}))
    assert task.valid.tensors["y"].shape[1] == 360 and task.num_data == 1438 - 360
    assert load_task(build(BnnSettings, {"dataset": "digits"})).num_data == 1438


def test_a_stream_of_a_users_own_set(tmp_path: Path) -> None:
    x = RNG.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", x=x, y=x.sum(1))
    ask = {"tasks": 2, "sort_by": None, "seed": 0}
    stream = load_stream("regression-stream", dataset=str(tmp_path / "own.npz"), **ask)
    assert stream.features == 3 and len(stream.train(0)) == 27
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(60) % 2)
    with pytest.raises(Refusal, match="holds classes or images"):
        load_stream("regression-stream", dataset=str(tmp_path / "own.npz"), **ask)
    with pytest.raises(Refusal, match="Did you mean diabetes"):
        load_stream("regression-stream", dataset="diabetse", **ask)


def test_rows_of_uint8_are_said_to_be_pixels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = RNG.integers(0, 90, (30, 3), dtype=np.uint8)
    rows[0, 0] = 90
    with caplog.at_level(logging.INFO, logger="pyrovae"):
        np.save(tmp_path / "images.npy", RNG.integers(0, 256, (30, 4, 4), dtype=np.uint8))
        load_path(tmp_path / "images.npy")
        assert not caplog.messages
        np.save(tmp_path / "ages.npy", rows)
        load_path(tmp_path / "ages.npy")
    (message,) = caplog.messages
    assert (
        "rows of uint8 up to 90 are read as pixels, x / 255" in message
        and "x.astype(np.float32)" in message
    )


def test_pictures_are_compared_before_their_pixels_are_read(tmp_path: Path) -> None:
    for i in range(12):
        Image.new("L", (5, 4)).save(tmp_path / f"{i:02}.png")
    Image.new("1", (10_000, 10_000)).save(
        tmp_path / "bomb.png"
    )  # pixels enough for Pillow's warning
    with pytest.raises(DataError, match="bomb.png cannot be read as an image .*exceeds limit"):
        load_path(tmp_path)
    Image.new("L", (5000, 5000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="4 x 5 pixels and .*bomb.png is 5000 x 5000"):
        load_path(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("n_splits", "1000000000\n", "n_splits.txt says 1000000000, but there are 1"),
        ("n_splits", "inf\n", "holds inf"),
        ("index_train_0", "0\n1e30\n", "holds 1e\\+30, expected whole numbers"),
        ("index_test_0", "\x00\xff", "index_test_0"),
    ],
)
def test_a_folder_that_promises_too_much(tmp_path: Path, name: str, text: str, words: str) -> None:
    for key, numbers in {
        "data": np.eye(4),
        "index_features": [0, 1],
        "index_target": [3],
        "n_splits": [1],
        "index_train_0": [0, 2, 3],
        "index_test_0": [1],
    }.items():
        np.savetxt(tmp_path / f"{key}.txt", numbers)
    (tmp_path / f"{name}.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words):
        load_uci_folder(tmp_path)


def test_grids_keep_their_runs_inside(tmp_path: Path) -> None:
    from compare_vae import name_of

    assert (
        name_of({"prior": "vamp", "latent_dim": "4x2"}) == "prior=vamp,latent_dim=4x2"
        and name_of({}) == "default"
    )
    words = ("../x/y.npz", "..", "/abs/y.npz", "a b:c", "x" * 300, "..\\y", "../x_y.npz")
    odd = [name_of({"dataset": word}) for word in words]
    assert len(set(odd)) == len(odd)
    for name in odd:
        assert (
            len(name) < 220 and not set(name) & set('/\\:<>|?*" ') and name.startswith("dataset=")
        )
    (tmp_path / "x").mkdir()
    np.savez(tmp_path / "x" / "y.npz", x=RNG.random((40, 4)).round())
    run(
        "compare_vae.py",
        "--grid",
        f"dataset={tmp_path}/x/y.npz,{tmp_path}/x/../x/y.npz",
        "--epochs",
        1,
        "--hidden",
        4,
        "--eval-particles",
        3,
        "--score-particles",
        3,
        "--out",
        tmp_path / "grid",
    )
    folders = sorted(path for path in (tmp_path / "grid").iterdir() if path.is_dir())
    assert len(folders) == 2 and all(
        json.loads((path / "run.json").read_text())["metrics"] for path in folders
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid", "x"]


def test_a_grid_is_told_at_once_of_a_set_that_is_not_there(tmp_path: Path) -> None:
    error = run(
        "compare_vae.py",
        "--grid",
        "dataset=digits,minst",
        "--epochs",
        1,
        "--out",
        tmp_path / "grid",
        status=2,
    )
    assert "Did you mean mnist" in error and not (tmp_path / "grid").exists()


@pytest.mark.parametrize("rows", [10, 11, 19])
@pytest.mark.parametrize("shape", [(8, 8), (5,)])
def test_sets_of_a_few_rows_are_drawn_with_what_there_is(
    tmp_path: Path, rows: int, shape: tuple
) -> None:
    np.savez(tmp_path / "mine.npz", x=RNG.random((rows, *shape)).round(), y=np.arange(rows) % 2)
    run(
        "train_vae.py",
        "--dataset",
        tmp_path / "mine.npz",
        "--epochs",
        2,
        "--hidden",
        4,
        "--eval-particles",
        3,
        "--out",
        tmp_path / "run",
    )
    assert (tmp_path / "run" / "figures" / "curves.png").exists()
