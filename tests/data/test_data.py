"""Data sets: what is read, how it is batched and binarised, and what is refused.

Nothing is downloaded: tiny files in the real formats are written to a temporary folder."""

import dataclasses
import gzip
import hashlib
import importlib
import logging
import shutil
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrovae import data
from pyrovae.data import Batches, DataError, DictDataset, Splits
from pyrovae.data.image_folder import read_image_folder

IDX = {"train": "train", "test": "t10k"}


def pixels(n, *shape):
    """Grey levels 0..255 that do not depend on any generator; no two rows are alike."""
    i = np.arange(n * int(np.prod(shape)))
    return ((i * 37 + i // 256 * 11) % 256).astype(np.uint8).reshape(n, *shape)


def refused(*words):
    """The error a user meets says each of these, in this order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(words))


# --- batches
# ------------------------------------------------------------------------------------------------------


def test_dict_dataset_indexes_every_tensor_alike():
    d = DictDataset(x=torch.arange(12.0).reshape(6, 2), y=torch.arange(6))
    assert len(d) == 6 and set(d.tensors) == {"x", "y"}
    assert d[4]["x"].tolist() == [8.0, 9.0] and d[4]["y"] == 4
    assert d[1:3]["y"].tolist() == [1, 2]
    assert d[torch.tensor([5, 0])]["x"].tolist() == [[10.0, 11.0], [0.0, 1.0]]
    assert len(list(d)) == 6  # IndexError past the end, so that iteration stops


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({}, ["at least one named tensor"]),
        ({"x": np.zeros(3)}, ["ndarray", "torch.as_tensor"]),
        ({"x": torch.tensor(1.0)}, ["single number", "unsqueeze"]),
        ({"x": torch.zeros(3), "y": torch.zeros(4)}, ["different numbers of rows", "3", "4"]),
        ({"x": torch.zeros(0, 2)}, ["empty"]),
        ({"x": torch.zeros(3), "y": torch.zeros(3, device="meta")}, ["different devices"]),
    ],
)
def test_dict_dataset_refuses(tensors, words):
    with refused(*words):
        DictDataset(**tensors)


def test_batches_cover_every_row_once_with_a_ragged_last_one():
    d = DictDataset(x=torch.arange(10.0)[:, None], y=torch.arange(10))
    for shuffle in (False, True):
        batches = Batches(d, 4, shuffle=shuffle)
        seen = list(batches)
        assert [len(batch["x"]) for batch in seen] == [4, 4, 2] and len(batches) == 3
        rows = torch.cat([batch["y"] for batch in seen])
        assert rows.sort().values.tolist() == list(range(10))
        assert torch.equal(
            torch.cat([batch["x"] for batch in seen])[:, 0], rows.to(seen[0]["x"].dtype)
        )
    assert len(list(Batches(d, 99))) == 1


def test_same_generator_state_gives_the_same_order_and_epochs_differ():
    batches = Batches(DictDataset(y=torch.arange(50)), 7, shuffle=True)

    def epoch():
        return torch.cat([batch["y"] for batch in batches]).tolist()

    state = torch.get_rng_state()
    first, second = epoch(), epoch()
    torch.set_rng_state(state)
    assert [first, second] == [epoch(), epoch()]
    assert first != second


def test_a_batch_is_a_copy():
    d = DictDataset(x=torch.zeros(4, 2))
    for shuffle in (False, True):
        next(iter(Batches(d, 2, shuffle=shuffle)))["x"].add_(1)
    assert not d.tensors["x"].any()


def test_take_is_the_first_rows_transformed():
    d = DictDataset(x=torch.arange(6.0)[:, None])
    batches = Batches(d, 2, shuffle=True, transform=lambda batch: {"x": -batch["x"]})
    assert batches.take(3)["x"].tolist() == [[0.0], [-1.0], [-2.0]]
    with refused("7", "6 rows"):
        batches.take(7)
    with refused("n is 0", "at least 1"):
        batches.take(0)


def test_to_moves_the_data_and_keeps_the_rest():
    batches = Batches(DictDataset(x=torch.zeros(4)), 3, shuffle=True, transform=data.dynamic)
    moved = batches.to("cpu")
    assert (moved.batch_size, moved.shuffle, moved.transform) == (3, True, data.dynamic)
    assert batches.to("meta").data.tensors["x"].device.type == "meta"


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "9", None])
def test_batches_refuse_a_bad_size(size):
    with refused("batch_size", "whole number"):
        Batches(DictDataset(x=torch.zeros(4)), size)


def test_batches_refuse_a_bare_dict():
    with refused("dict", "DictDataset"):
        Batches({"x": torch.zeros(4)}, 2)


# --- binarising
# ---------------------------------------------------------------------------------------------------


def test_static_has_its_own_generator():
    x = torch.full((100, 20), 0.3)
    before = torch.get_rng_state()
    first = data.static(x, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(data.static(x, seed=5), first)
    assert not torch.equal(data.static(x, seed=6), first)


@pytest.mark.parametrize(
    "draw", [lambda x: data.static(x, seed=0), lambda x: data.dynamic({"x": x})["x"]]
)
def test_pixels_are_on_with_their_own_probability(draw):
    torch.manual_seed(0)
    n, p = 20_000, torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    x = draw(p.expand(n, 5))
    assert x.dtype == p.dtype and set(x.unique().tolist()) == {0.0, 1.0}
    error = (x.double().mean(0) - p).abs()
    assert (error <= 5 * (p * (1 - p) / n).sqrt()).all()  # exact where p is 0 or 1


def test_threshold_is_strict():
    assert data.threshold(torch.tensor([0.0, 0.5, 0.51, 1.0])).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("binarize", [data.threshold, lambda x: data.static(x, seed=0)])
@pytest.mark.parametrize(
    "x, words",
    [
        (torch.tensor([0.5, 1.5]), ["1.5", "divide|Divide"]),
        (torch.tensor([-0.1, 0.5]), ["-0.1"]),
        (torch.tensor([0.5, float("nan")]), ["nan", "NaN"]),
        (torch.tensor([0, 255], dtype=torch.uint8), ["uint8", "/ 255"]),
    ],
)
def test_binarising_refuses_what_is_no_probability(binarize, x, words):
    with refused(*words):
        binarize(x)


def splits_of(x, levels=None, **more):
    part = DictDataset(x=torch.as_tensor(x, dtype=torch.float32), **more)
    return Splits("mine", part, part, part, levels=levels, source="test")


def test_dynamic_resamples_train_and_fixes_the_others():
    splits = splits_of(np.full((40, 1, 5, 5), 0.5), y=torch.arange(40))
    train, valid, test = splits.batches("dynamic", batch_size=16, eval_batch_size=30, flatten=True)

    def read(batches):
        epoch = {key: torch.cat([batch[key] for batch in batches]) for key in ("x", "y")}
        return epoch["x"][epoch["y"].argsort()]

    assert (
        [len(b) for b in (train, valid, test)] == [3, 2, 2] and train.shuffle and not test.shuffle
    )
    assert read(train).shape == (40, 25)
    assert not torch.equal(read(train), read(train))
    assert torch.equal(read(test), read(test)) and not torch.equal(read(test), read(valid))
    assert set(train.take(5)["x"].unique().tolist()) == {0.0, 1.0}
    torch.rand(1)  # another state of the global generator, same test set
    for again in (
        splits.batches("dynamic", flatten=True)[2],
        splits.batches("static", flatten=True)[2],
    ):
        assert torch.equal(read(again), read(test))
    assert not torch.equal(read(splits.batches("dynamic", flatten=True, seed=1)[2]), read(test))


def test_static_threshold_and_none():
    splits = splits_of(pixels(20, 1, 4, 4) / 255)
    train, _, _ = splits.batches("static")
    assert torch.equal(train.data.tensors["x"], splits.batches("static")[0].data.tensors["x"])
    assert torch.equal(
        splits.batches("threshold")[2].take(20)["x"], (splits.test.tensors["x"] > 0.5).float()
    )
    assert splits.batches()[2].data.tensors["x"] is splits.test.tensors["x"]
    assert not splits.is_binary and splits.event_shape == (1, 4, 4)


@pytest.mark.parametrize("binarize", ["dynamic", "static", "threshold", "none"])
def test_binary_data_stay_as_they_are(binarize):
    splits = splits_of(pixels(20, 6) % 2)
    assert splits.is_binary
    for batches in splits.batches(binarize):
        assert torch.equal(batches.take(20)["x"], splits.train.tensors["x"])


def test_splits_refuse():
    with refused("'Dynamic'", "'dynamic', 'static', 'threshold', 'none'"):
        splits_of(np.zeros((5, 2))).batches("Dynamic")
    with refused("x of train", r"\[-3, 2\]", "binarize='none'"):
        splits_of([[2.0], [-3.0]]).batches("dynamic")
    part = DictDataset(x=torch.zeros(5, 2))
    with refused("test", "'y'", "expected 'x'"):
        Splits("mine", part, None, DictDataset(y=torch.zeros(5)), levels=None, source="")
    with refused("rows of test", r"\(3,\)", r"\(2,\)"):
        Splits("mine", part, None, DictDataset(x=torch.zeros(5, 3)), levels=None, source="")


def test_as_levels_undoes_the_scaling():
    grey = pixels(20, 1, 4, 4)
    levels = splits_of(grey / 255, levels=256).as_levels()
    assert torch.equal(levels.train.tensors["x"], torch.from_numpy(grey.astype(np.float32)))
    with refused("ranges over"):  # a second time
        levels.as_levels()
    with refused("levels=None", "uint8"):
        splits_of(grey / 255).as_levels()
    with refused("not on the grid k / 16"):
        splits_of(grey / 255, levels=17).as_levels()


def test_split_valid_parts_the_rows_by_a_private_seed():
    d = DictDataset(x=torch.arange(200.0)[:, None], y=torch.arange(200))
    before = torch.get_rng_state()
    train, valid = data.split_valid(d)
    assert torch.equal(torch.get_rng_state(), before)
    assert (len(train), len(valid)) == (180, 20)
    assert torch.cat([train.tensors["y"], valid.tensors["y"]]).sort().values.tolist() == list(
        range(200)
    )
    assert torch.equal(valid.tensors["x"][:, 0].long(), valid.tensors["y"])
    assert torch.equal(data.split_valid(d)[1].tensors["y"], valid.tensors["y"])
    assert len(data.split_valid(DictDataset(x=torch.zeros(20_000)))[1]) == 1000
    assert data.split_valid(d, 0) == (d, None)
    with refused("200 of 200", "fewer"):
        data.split_valid(d, 200)
    with refused("valid_size is 0.1"):
        data.split_valid(d, 0.1)


# --- data sets
# ----------------------------------------------------------------------------------------------------


def test_digits():
    digits = data.load_digits()
    assert (len(digits.train), len(digits.valid), len(digits.test)) == (1295, 143, 359)
    x = torch.cat([part.tensors["x"] for part in (digits.train, digits.valid, digits.test)])
    assert x.shape == (1797, 1, 8, 8) and x.dtype == torch.float32 and (x.min(), x.max()) == (0, 1)
    assert len(digits.as_levels().train.tensors["x"].unique()) == digits.levels == 17
    assert set(digits.test.tensors["y"].tolist()) == set(range(10)) and "CC BY" in digits.source
    assert torch.equal(data.load_digits().test.tensors["x"], digits.test.tensors["x"])
    assert data.load_digits(valid_size=0).valid is None


def test_data_root(monkeypatch, tmp_path):
    for name in ("PYROVAE_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for platform, folder in [
        ("linux", ".cache"),
        ("darwin", "Library/Caches"),
        ("win32", "AppData/Local"),
    ]:
        monkeypatch.setattr(sys, "platform", platform)
        assert data.data_root() == tmp_path / folder / "pyrovae"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert data.data_root() == tmp_path / "local" / "pyrovae"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data.data_root() == tmp_path / "xdg" / "pyrovae"
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path / "mine"))
    assert data.data_root() == tmp_path / "mine"
    assert data.data_root(tmp_path / "argument") == tmp_path / "argument"
    assert not any(tmp_path.iterdir())


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def torchvision():
    """Its own word for why it cannot be imported, where it cannot."""
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"torchvision is absent or broken: {error}")
    return torchvision


def write_idx(root, name, sizes):
    """The four raw files, as on http://yann.lecun.com/exdb/mnist: magic number, sizes, bytes."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, n in sizes.items():
        x, y = pixels(n, 28, 28), np.arange(n, dtype=np.uint8) % 10
        (raw / f"{IDX[part]}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, *x.shape) + x.tobytes()
        )
        (raw / f"{IDX[part]}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, n) + y.tobytes()
        )
    return raw


@pytest.fixture
def small(monkeypatch):
    """Sets of a few images under the names of the real ones: their digests are not asked for."""
    monkeypatch.setattr("pyrovae.data.mnist_files.check_digest", lambda *_: None)


@pytest.mark.parametrize(
    "load, name",
    [
        (data.load_mnist, "MNIST"),
        (data.load_fashion_mnist, "FashionMNIST"),
        (data.load_kmnist, "KMNIST"),
    ],
)
def test_mnist_family(small, tmp_path, load, name):
    write_idx(tmp_path, name, {"train": 40, "test": 12})
    splits = load(root=tmp_path, valid_size=7)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (33, 7, 12)
    assert (
        splits.event_shape == (1, 28, 28)
        and splits.levels == 256
        and splits.test.tensors["y"].dtype == torch.int64
    )
    assert torch.equal(
        splits.as_levels().test.tensors["x"][:, 0], torch.from_numpy(pixels(12, 28, 28)).float()
    )
    assert splits.test.tensors["y"].tolist() == [*range(10), 0, 1]


def test_mnist_convenience_reads_the_environment(small, tmp_path, monkeypatch):
    write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path))
    train, test = data.mnist(batch_size=16)
    assert len(train.data) == 40 and [len(batch["x"]) for batch in train] == [16, 16, 8]
    assert train.take(5)["x"].shape == (5, 784) and set(
        next(iter(test))["x"].unique().tolist()
    ) == {0.0, 1.0}
    grey, _ = data.mnist(binarize="none", flatten=False, root=tmp_path)
    assert (
        grey.take(5)["x"].shape == (5, 1, 28, 28) and len(grey.data.tensors["x"].unique()) == 256
    )


def test_mnist_that_cannot_be_had(torchvision, tmp_path, no_network):
    where = str(tmp_path / "MNIST" / "raw")
    with refused(
        "no network in tests", "train-images-idx3-ubyte", "PYROVAE_DATA", "MNIST/raw/"
    ) as caught:
        data.load_mnist(root=tmp_path)
    assert where in str(caught.value) and isinstance(caught.value.__cause__, OSError)
    assert "https://ossci" in str(caught.value) and "https://storage" in str(
        caught.value
    )  # both mirrors were asked
    with refused("download=False", "PYROVAE_DATA"):
        data.load_mnist(root=tmp_path, download=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"abc", b"no IDX file at all", b"\0\0\x08\x03\0\0\0\x0c"])
def test_mnist_damaged(small, tmp_path, damage):
    raw = write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    (raw / "t10k-images-idx3-ubyte").write_bytes(damage)
    with refused("t10k-images-idx3-ubyte", "damaged", "ownload or write it again"):
        data.load_mnist(root=tmp_path)


def test_mnist_labels_that_do_not_fit(small, tmp_path):
    raw = write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 3) + bytes(3))
    with refused(r"\(12, 28, 28\) and uint8 \(3,\)", "as many labels", "give its path instead"):
        data.load_mnist(root=tmp_path)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 12) + bytes([10] * 12))
    with refused("holds labels 10..10, expected 0..9"):
        data.load_mnist(root=tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_other_sets_under_the_name_of_mnist_are_refused(tmp_path, packed):
    raw = write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    for path in list(raw.iterdir()) if packed else ():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with refused(
        "train-images-idx3-ubyte",
        "not the file of MNIST",
        "SHA-256",
        "give its path instead of the name",
    ):
        data.load_mnist(root=tmp_path)
    assert len(data.load_path(raw).test) == 12  # by its path it is welcome


def test_plain_files_without_a_known_digest_are_said_to_be_unchecked(tmp_path):
    write_idx(tmp_path, "KMNIST", {"train": 40, "test": 12})
    assert "not checked by a digest" in data.load_kmnist(root=tmp_path).source
    raw = tmp_path / "KMNIST" / "raw"
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"another")  # whose digest is known
    with refused("train-images-idx3-ubyte.gz", "not the file of KMNIST"):
        data.load_kmnist(root=tmp_path)


def serve(monkeypatch, files, lost=0):
    """urlopen that gives these files by their names; what it was asked for."""
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return _Response(files[url.rsplit("/", 1)[1]], lost)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


@pytest.mark.parametrize("error", [ImportError, RuntimeError, AttributeError])
def test_mnist_without_a_torchvision_that_can_be_imported(monkeypatch, tmp_path, error):
    class Broken:
        def __getattr__(self, name):
            raise error("operator torchvision::nms does not exist")

    for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.utils"):
        monkeypatch.setitem(sys.modules, name, Broken())
    with refused("torchvision", "pip install"):
        data.load_mnist(root=tmp_path)
    assert not any(tmp_path.iterdir())


def test_mnist_is_downloaded_once_by_https_and_checked(torchvision, tmp_path, monkeypatch):
    remote, family = tmp_path / "remote", importlib.import_module("pyrovae.data.mnist_files").MNIST
    files = {}
    for path in write_idx(remote, "MNIST", {"train": 40, "test": 12}).iterdir():
        files[f"{path.name}.gz"] = path.with_name(f"{path.name}.gz")
        files[f"{path.name}.gz"].write_bytes(gzip.compress(path.read_bytes()))
    asked = []

    def download_url(url, root, filename):
        asked.append(url)
        shutil.copy(files[url.rsplit("/", 1)[1]], Path(root) / filename)

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download_url)
    with refused("could not be downloaded", "SHA-256 is", "expected 440fcabf"):
        data.load_mnist(root=tmp_path)
    assert len(asked) == 2 and not list(
        (tmp_path / "MNIST").rglob("*ubyte*")
    )  # nothing of what was wrong is kept
    names = importlib.import_module("pyrovae.data.mnist_files").NAMES
    right = {
        key: hashlib.sha256(files[f"{name}.gz"].read_bytes()).hexdigest()
        for key, name in names.items()
    }
    monkeypatch.setattr(
        importlib.import_module("pyrovae.data.mnist"),
        "MNIST",
        dataclasses.replace(family, packed=right),
    )
    first, again = data.load_mnist(root=tmp_path), data.load_mnist(root=tmp_path)
    assert len(asked) == 6 and all(url.startswith("https://") for url in asked)
    assert (
        torch.equal(first.test.tensors["x"], again.test.tensors["x"])
        and "not checked" not in first.source
    )
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(files)


def test_pickles_of_an_old_torchvision_are_left_alone(small, tmp_path, caplog):
    write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    (tmp_path / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (tmp_path / "MNIST" / "processed" / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with caplog.at_level(logging.INFO, logger="pyrovae"):
        assert len(data.load_mnist(root=tmp_path).test) == 12
    assert "processed is not read" in caplog.text


@pytest.mark.parametrize("load", [data.load_mnist, data.load_binarized_mnist])
def test_the_real_sets_have_the_digests_that_are_asked_for(load):
    expected = ("MNIST/raw/t10k-images-idx3-ubyte", "binarized_mnist/*.npz")
    if not all(any(data.data_root().glob(pattern)) for pattern in expected):
        pytest.skip("needs MNIST and its fixed binarisation under PYROVAE_DATA")
    assert len(load(download=False).test) == 10_000


def test_without_torchvision(small, monkeypatch, tmp_path):
    write_idx(tmp_path, "MNIST", {"train": 40, "test": 12})
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert len(data.load_mnist(root=tmp_path).test) == 12


def test_import_needs_no_heavy_library(monkeypatch):
    for name in ("torchvision", "sklearn", "PIL", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("pyrovae.data")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(
        sys.modules["pyrovae"], "data", data
    )  # so that the old package comes back afterwards
    fresh = importlib.import_module("pyrovae.data")
    assert fresh is not data and fresh.__all__ == data.__all__


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with refused("scikit-learn", "pip install"):
        data.load_digits()


# --- binarised MNIST
# ----------------------------------------------------------------------------------------------

ROWS = {"train": 30, "valid": 12, "test": 11}
BITS = {part: pixels(n, 784) % 3 % 2 for part, n in ROWS.items()}


@pytest.fixture
def binarized(tmp_path, monkeypatch, no_network):
    module = sys.modules["pyrovae.data.binarized_mnist"]
    monkeypatch.setattr(module, "ROWS", ROWS)
    monkeypatch.setattr(
        module,
        "CONTENT",
        {
            part: hashlib.sha256(b"".join(sorted(map(bytes, np.packbits(x, axis=1))))).hexdigest()
            for part, x in BITS.items()
        },
    )
    folder = tmp_path / "binarized_mnist"
    folder.mkdir()
    return folder


def write_amat(folder, bits=BITS):
    for part, rows in bits.items():
        text = "".join(" ".join(map(str, row)) + " \n" for row in rows.tolist())
        (folder / f"binarized_mnist_{part}.amat").write_text(text)


def test_binarized_mnist_reads_three_formats_alike(binarized):
    np.savez(binarized / "plain.npz", **BITS)
    plain = data.load_binarized_mnist(root=binarized.parent)
    (binarized / "plain.npz").unlink()
    np.savez(
        binarized / "packed.npz", **{part: np.packbits(x, axis=1) for part, x in BITS.items()}
    )
    packed = data.load_binarized_mnist(root=binarized.parent)
    write_amat(binarized)
    text = data.load_binarized_mnist(root=binarized.parent)
    assert "packed.npz" in packed.source and "packed.npz" not in text.source
    for part, n in ROWS.items():
        x = getattr(plain, part).tensors["x"]
        assert x.shape == (n, 1, 28, 28) and x.dtype == torch.float32
        assert sorted(x.flatten(1).tolist()) == sorted(
            BITS[part].tolist()
        )  # permuted, nothing lost
        for other in (packed, text):
            assert torch.equal(getattr(other, part).tensors["x"], x)
    assert plain.is_binary and plain.levels == 2 and "y" not in plain.train.tensors


def test_binarized_mnist_downloads_once(binarized, monkeypatch):
    write_amat(binarized)
    remote = {path.name: path.rename(binarized.parent / path.name) for path in binarized.iterdir()}
    asked = serve(monkeypatch, remote)
    with refused("could not be downloaded", "SHA-256 is", "expected ad693b29"):
        data.load_binarized_mnist(root=binarized.parent)
    assert not any(binarized.iterdir())
    known = {
        part: dataclasses.replace(
            file, sha256=hashlib.sha256(remote[file.name].read_bytes()).hexdigest()
        )
        for part, file in sys.modules["pyrovae.data.binarized_mnist"].FILES.items()
    }
    monkeypatch.setattr(sys.modules["pyrovae.data.binarized_mnist"], "FILES", known)
    first = data.load_binarized_mnist(root=binarized.parent)
    again = data.load_binarized_mnist(root=binarized.parent)
    assert len(asked) == 4 and all(url.startswith("https://") for url in asked)
    assert torch.equal(first.test.tensors["x"], again.test.tensors["x"])
    assert sorted(path.name for path in binarized.iterdir()) == sorted(remote)


def test_another_binarisation_is_refused_and_another_order_is_not(binarized):
    np.savez(binarized / "some.npz", **{part: x[::-1] for part, x in BITS.items()})
    assert len(data.load_binarized_mnist(root=binarized.parent).test) == 11
    np.savez(binarized / "some.npz", **{**BITS, "valid": 1 - BITS["valid"]})
    with refused(
        "valid in",
        "other rows than Larochelle",
        r"np.savez\(path, x=train, x_valid=valid, x_test=test\)",
    ):
        data.load_binarized_mnist(root=binarized.parent)


class _Response:
    """What urlopen returns, cut short by ``lost`` bytes."""

    def __init__(self, path, lost=0):
        self.file, size = open(path, "rb"), path.stat().st_size
        self.headers, self.left = {"Content-Length": str(size)}, size - lost

    def read(self, size=-1):
        chunk = self.file.read(min(size, self.left) if size >= 0 else self.left)
        self.left -= len(chunk)
        return chunk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_binarized_mnist_that_breaks_off_leaves_nothing(binarized, monkeypatch):
    (binarized.parent / "remote").write_bytes(b"0 1 " * 1000)
    monkeypatch.setattr(
        urllib.request,
        "urlopen",
        lambda url, timeout: _Response(binarized.parent / "remote", lost=9),
    )
    with refused("broke off after 3991 of 4000", "PYROVAE_DATA"):
        data.load_binarized_mnist(root=binarized.parent)
    assert not any(binarized.iterdir())


def test_binarized_mnist_that_cannot_be_had(binarized):
    with refused(
        "could not be downloaded",
        "no network",
        "binarized_mnist_train.amat",
        ".npz",
        "PYROVAE_DATA",
    ):
        data.load_binarized_mnist(root=binarized.parent)
    with refused("download=False", "PYROVAE_DATA"):
        data.load_binarized_mnist(root=binarized.parent, download=False)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"train": BITS["train"]}, [r"\['train'\]", r"lacks \['valid', 'test'\]"]),
        ({**BITS, "test": BITS["test"][:-1]}, ["test", r"\(10, 784\)", r"\(11, 784\)"]),
        ({**BITS, "train": BITS["train"][:, :-1]}, ["train", r"\(30, 783\)"]),
        ({**BITS, "valid": BITS["valid"] * 2}, ["valid", "other than 0 and 1"]),
        ({**BITS, "valid": np.where(BITS["valid"], np.nan, 0)}, ["valid", "other than 0 and 1"]),
    ],
)
def test_binarized_mnist_refuses_arrays(binarized, arrays, words):
    np.savez(binarized / "some.npz", **arrays)
    with (
        refused("some.npz", *words)
        if arrays.keys() != BITS.keys()
        else refused(words[0], "some.npz", *words[1:])
    ):
        data.load_binarized_mnist(root=binarized.parent)


def test_binarized_mnist_refuses_damaged_files(binarized):
    (binarized / "some.npz").write_bytes(b"PK\x03\x04 not really")
    with refused("some.npz", "cannot be read", "Delete"):
        data.load_binarized_mnist(root=binarized.parent)
    write_amat(binarized)
    for damage, words in [
        ("0 1 0\n", "single digits"),
        ("", "single digits"),
        ("00 1 " * 392, "single digits"),
        ("2 " * 784 * 12, "other than 0 and 1"),
    ]:
        (binarized / "binarized_mnist_valid.amat").write_text(damage)
        with refused("valid", words):
            data.load_binarized_mnist(root=binarized.parent)


# --- a user's files
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array, event, levels",
    [
        (pixels(20, 4, 5), (1, 4, 5), 256),
        (pixels(20, 3, 8, 9), (3, 8, 9), 256),
        (pixels(20, 8, 9, 3), (3, 8, 9), 256),
        (pixels(20, 8, 9, 1), (1, 8, 9), 256),
        (pixels(20, 7), (7,), 256),
        (pixels(20, 4, 5) > 100, (1, 4, 5), 2),
        (
            pixels(20, 4, 5) % 2,
            (1, 4, 5),
            2,
        ),  # uint8 that holds 0 and 1 only is binary, not nearly black
        (pixels(20, 7).astype(np.int64) % 2, (7,), 2),
        (pixels(20, 4, 5) / 255.0, (1, 4, 5), None),
        ((pixels(20, 4, 5) / 255).astype(np.float16), (1, 4, 5), None),
        (pixels(20, 7) * 0.5 - 100, (7,), None),  # vectors may have any range
        ((pixels(20, 7) * 0.5 - 100).astype(">f8"), (7,), None),
    ],
)
def test_load_npy(tmp_path, array, event, levels):
    np.save(tmp_path / "mine.npy", array)
    splits = data.load_path(tmp_path / "mine.npy")
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (17, 1, 2)
    assert splits.event_shape == event and splits.levels == levels and splits.name == "mine"
    assert str(tmp_path / "mine.npy") in splits.source and ("uint8 / 255" in splits.source) == (
        levels == 256
    )
    x = torch.cat([part.tensors["x"] for part in (splits.train, splits.valid, splits.test)])
    total = array.astype(np.float64).sum() / (255 if levels == 256 else 1)
    assert x.dtype == torch.float32 and float(x.double().sum()) == pytest.approx(
        total, rel=1e-6
    )  # float32 rounding


def test_channels_last_is_transposed_not_reshaped(tmp_path):
    array = pixels(10, 8, 9, 3)
    np.savez(tmp_path / "mine.npz", x=array, x_test=array)
    x = data.load_path(tmp_path / "mine.npz").as_levels().test.tensors["x"]
    assert np.array_equal(x.numpy(), array.transpose(0, 3, 1, 2))


def test_load_npz_with_parts(tmp_path):
    x, y = pixels(30, 4, 4), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", x=x, y=y, more=y)
    splits = data.load_path(tmp_path / "a.npz", valid_size=5)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [22, 5, 3]
    assert splits.train.tensors["y"].dtype == torch.int64 and "ignored more" in splits.source
    rows = {tuple(row): label for row, label in zip(x.reshape(30, -1).tolist(), y.tolist())}
    train = splits.as_levels().train.tensors
    for row, label in zip(train["x"].flatten(1).tolist(), train["y"].tolist()):
        assert rows[tuple(row)] == label
    np.savez_compressed(
        tmp_path / "b.npz",
        x=x[:20],
        y=y[:20],
        x_valid=x[20:24],
        y_valid=y[20:24],
        x_test=x[24:],
        y_test=y[24:].astype(float),
    )
    splits = data.load_path(str(tmp_path / "b.npz"))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [20, 4, 6]
    assert splits.test.tensors["y"].tolist() == y[24:].tolist()
    np.savez(
        tmp_path / "c.npz", x=x, x_test=x[:3] % 2
    )  # scaled as x is, although it looks binary by itself
    assert (
        data.load_path(tmp_path / "c.npz", valid_size=0).test.tensors["x"].max()
        == torch.tensor(1 / 255).float()
    )


WITH_NAN = np.ones((20, 3))
WITH_NAN[[4, 9], [1, 2]] = np.nan, np.inf
IMAGES = pixels(20, 4, 4)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint16])
def test_whole_numbers_in_vectors_are_measurements(tmp_path, dtype):
    """Ages and counts, which a likelihood of real numbers or of counts takes as they are; of
    images they stay refused."""
    ages = np.random.default_rng(0).integers(18, 90, (20, 3)).astype(dtype)
    np.savez(tmp_path / "ages.npz", x=ages)
    splits = data.load_path(tmp_path / "ages.npz", valid_size=0)
    assert splits.levels is None and splits.train.tensors["x"].dtype == torch.float32
    found = torch.cat([splits.train.tensors["x"], splits.test.tensors["x"]]).numpy()
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, ages.astype(float).tolist()))
    with pytest.raises(
        data.DataError, match="only these can be binarised.*of measurements, use binarize='none'"
    ):
        splits.batches("dynamic")


def test_labels_may_be_given_for_some_parts_only(tmp_path):
    np.savez(tmp_path / "train.npz", x=IMAGES, y=np.arange(20), x_test=IMAGES[:3])
    splits = data.load_path(tmp_path / "train.npz")
    assert sorted(splits.train.tensors) == sorted(splits.valid.tensors) == ["x", "y"] and list(
        splits.test.tensors
    ) == ["x"]
    np.savez(tmp_path / "test.npz", x=IMAGES, x_test=IMAGES[:3], y_test=np.arange(3))
    splits = data.load_path(tmp_path / "test.npz")
    assert list(splits.train.tensors) == ["x"] and splits.test.tensors["y"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": WITH_NAN}, ["x has 2 values", r"\(4, 1\)", "Drop or impute"]),
        ({"x": np.full((20, 3), 1e300)}, ["60 values", "infinite"]),
        (
            {"x": IMAGES.astype(np.float32)},
            ["looks like 0-255 pixel data; divide by 255 or store uint8"],
        ),
        ({"x": IMAGES / 127.5 - 1}, ["images", r"\[-1, 1\]", r"expected \[0, 1\]", "vectors"]),
        ({"x": IMAGES.astype(np.int64)}, ["not uint8", "Store"]),
        (
            {"x": IMAGES % 17},
            ["uint8 values up to 16 only", r"\(x / 16\)", r"dark.*\(x / 255\)", "Splits"],
        ),
        ({"x": pixels(20, 7) % 64, "x_test": pixels(20, 7) % 9}, ["up to 63"]),
        ({"x": np.zeros((20, 0))}, [r"\(20, 0\)"]),
        ({"x": np.zeros((0, 3))}, [r"\(0, 3\)"]),
        ({"x": np.zeros(20)}, [r"\(20,\)", r"expected \(N, D\)", "Reshape"]),
        ({"x": np.zeros((20, 1, 1, 1, 1))}, [r"\(20, 1, 1, 1, 1\)"]),
        ({"x": np.zeros((20, 3, 8, 3))}, ["could be", r"\(N, H, W\)"]),
        ({"x": np.zeros((20, 4, 8, 5))}, ["no channel size"]),
        ({"x": np.zeros((9, 3))}, ["9 rows", "at least 10"]),
        ({"x": np.array(["a", "b"])}, ["dtype <U1", "expected float"]),
        ({"x": np.ones((20, 3), complex)}, ["complex128"]),
        (
            {"images": IMAGES, "labels": np.zeros(20)},
            [r"\['images', 'labels'\]", "no 'x'", "np.savez"],
        ),
        ({"x": IMAGES, "y": np.zeros(19)}, ["y has shape", "19", "20 rows"]),
        ({"x": IMAGES, "y": np.eye(20)}, [r"\(20, 20\)", "argmax"]),
        ({"x": IMAGES, "y": np.full(20, 0.5)}, ["whole numbers", "class labels"]),
        ({"x": IMAGES, "y": np.array(["cat", "dog"] * 10)}, ["whole numbers", "np.unique"]),
        ({"x": IMAGES, "x_test": pixels(5, 4, 5)}, ["x_test", r"\(4, 5\)", r"\(4, 4\)"]),
        ({"x": IMAGES, "x_test": IMAGES / 255}, ["x_test", "float64", "uint8"]),
        ({"x": IMAGES, "y": np.zeros(20), "y_test": np.zeros(20)}, ["y_test without x_test"]),
    ],
)
def test_load_npz_refuses(tmp_path, arrays, words):
    np.savez(tmp_path / "mine.npz", **arrays)
    with refused("mine.npz", *words):
        data.load_path(tmp_path / "mine.npz")


def test_load_path_refuses_files(tmp_path):
    with refused("nowhere.npy", "does not exist"):
        data.load_path(tmp_path / "nowhere.npy")
    (tmp_path / "table.txt").write_text("1,2")
    with refused("table.txt", "np.savez"):
        data.load_path(tmp_path / "table.txt")
    (tmp_path / "table.csv").write_text("1,2\n3,4\n")
    with refused("table.csv", "begins with numbers"):
        data.load_path(tmp_path / "table.csv")
    Image.fromarray(pixels(4, 4)).save(tmp_path / "one.png")
    with refused("'.png'", "folder"):
        data.load_path(tmp_path / "one.png")
    np.save(tmp_path / "ragged.npy", np.array([[1], [1, 2]], dtype=object), allow_pickle=True)
    with refused("object array", "rectangular"):
        data.load_path(tmp_path / "ragged.npy")
    np.save(tmp_path / "whole.npy", np.zeros((20, 3)))
    for content in (b"", b"junk", b"PK\x03\x04junk", (tmp_path / "whole.npy").read_bytes()[:-9]):
        (tmp_path / "damaged.npy").write_bytes(content)
        with refused("damaged.npy", "cannot be read as a numpy file", "np.save") as caught:
            data.load_path(tmp_path / "damaged.npy")
        assert "allow_pickle" not in str(
            caught.value
        )  # numpy's advice to load it unsafely is not passed on
    np.savez(tmp_path / "parts.npz", x=IMAGES, x_valid=IMAGES)
    with refused("own x_valid", "valid_size=3"):
        data.load_path(tmp_path / "parts.npz", valid_size=3)


def write_images(folder, array, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(array):
        Image.fromarray(image).save(folder / f"{i:02}.{suffix}")


def test_image_folder_with_classes(tmp_path):
    write_images(tmp_path / "cats" / "deep", pixels(12, 4, 5))
    write_images(tmp_path / "dogs", 255 - pixels(8, 4, 5), "BMP")
    write_images(tmp_path / ".hidden", pixels(1, 9, 9))
    (tmp_path / "cats" / "notes.txt").write_text("not an image")
    splits = data.load_path(tmp_path, valid_size=0)
    assert (
        splits.event_shape == (1, 4, 5) and splits.levels == 256 and "cats, dogs" in splits.source
    )
    y = torch.cat([splits.train.tensors["y"], splits.test.tensors["y"]])
    assert y.bincount().tolist() == [12, 8]
    cats = {tuple(row) for row in pixels(12, 4, 5).reshape(12, -1).tolist()}
    train = splits.as_levels().train.tensors
    for row, label in zip(train["x"].flatten(1).tolist(), train["y"].tolist()):
        assert (tuple(row) in cats) == (label == 0)


def test_image_folder_in_colour(tmp_path):
    write_images(tmp_path, pixels(10, 4, 5, 3))
    splits = data.load_path(tmp_path, valid_size=0)
    assert (
        splits.event_shape == (3, 4, 5)
        and "y" not in splits.train.tensors
        and "10 RGB images" in splits.source
    )
    assert sorted(splits.as_levels().test.tensors["x"].flatten().tolist()) in [
        sorted(image.flatten().tolist()) for image in pixels(10, 4, 5, 3)
    ]
    write_images(
        tmp_path / "grey", pixels(2, 4, 5), "jpg"
    )  # grey among colour becomes RGB; not all lie in subfolders
    assert data.load_path(tmp_path).event_shape == (3, 4, 5)
    assert "y" not in data.load_path(tmp_path).train.tensors


def test_dark_image_files_are_read_as_they_are(tmp_path):
    write_images(tmp_path, np.maximum(pixels(10, 4, 5) % 16, 15 * np.eye(4, 5, dtype=np.uint8)))
    splits = data.load_path(tmp_path)
    assert splits.levels == 256 and splits.as_levels().train.tensors["x"].max() == 15


def test_image_folder_refuses(tmp_path):
    (tmp_path / "empty").mkdir()
    with refused("no images", ".png"):
        data.load_path(tmp_path / "empty")
    write_images(tmp_path / "sizes", [*pixels(5, 4, 5), *pixels(5, 4, 6)])
    with refused("4 x 5", "4 x 6", "one size"):
        data.load_path(tmp_path / "sizes")
    write_images(tmp_path / "few", pixels(3, 4, 5))
    with refused("3 rows", "at least 10"):
        data.load_path(tmp_path / "few")
    for part in ("train", "test"):
        write_images(tmp_path / "parts" / part, pixels(10, 4, 5))
    with refused("'test', 'train'", "x_test"):
        data.load_path(tmp_path / "parts")
    for name, array, words in [
        ("deep", pixels(10, 4, 5).astype(np.uint16), "more than 8 bits"),
        ("clear", pixels(10, 4, 5, 4), "transparent"),
    ]:
        write_images(tmp_path / name, array)
        with refused(words):
            data.load_path(tmp_path / name)
    write_images(tmp_path / "broken", pixels(10, 4, 5))
    (tmp_path / "broken" / "03.png").write_bytes(b"no image")
    with refused("03.png", "cannot be read as an image"):
        data.load_path(tmp_path / "broken")


def test_image_folder_without_pillow(tmp_path, monkeypatch):
    write_images(tmp_path, pixels(10, 4, 5))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with refused("Pillow", "pip install"):
        data.load_path(tmp_path)


def test_images_are_turned_as_their_camera_says(tmp_path):
    x = np.zeros((6, 4), np.uint8)
    x[:3] = 255
    for i, turn in enumerate((1, 3, 6)):  # upright, upside down, on its side
        stored = {1: x, 3: x[::-1, ::-1], 6: np.rot90(x)}[turn]
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"{i}.png", exif=exif)
    read, _ = read_image_folder(tmp_path)
    assert all(np.array_equal(image, x) for image in read["x"])


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_transparent_grey_level_or_palette_entry_is_refused(tmp_path, mode):
    for i in range(3):
        image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).convert(mode)
        image.save(tmp_path / f"{i}.png", transparency=0)
    with refused("transparent pixels"):
        read_image_folder(tmp_path)


def test_images_of_a_kind_that_is_not_read_are_not_left_out_in_silence(tmp_path):
    for name in ("a.png", "b.webp"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    with refused("b.webp", "not read"):
        read_image_folder(tmp_path)
