"""Samples of trained models in their folders, with the images that they are to resemble."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pyrovae.core.digests import digest_of
from pyrovae.data import Batches, Splits
from pyrovae.recipes.data_choice import digest_of_parts, with_classes
from pyrovae.recipes.landscape import data as landscape_data
from pyrovae.recipes.load import load_run
from pyrovae.recipes.new_data import NAMED
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, read_arrays, read_result
from pyrovae.recipes.sample_quality import Images
from pyrovae.recipes.trained_vae import TrainedVae

CHUNK = 500


@dataclasses.dataclass(frozen=True)
class Source:
    """Samples `(M, C, H, W)` of one model; `data` says which images, in words."""

    name: str
    samples: Tensor
    data: str
    images: Images

    @property
    def key(self) -> str:
        """Equal where the images are equal, so that scores compare."""
        return digest_of({name: value for name, value in vars(self.images).items()})


def sources_of(folder: Path, num: int, seed: int) -> Iterator[Source]:
    """At most `num` samples of a run of train_vae.py, or of each family that a folder of landscape.py
    holds.

    Raises: Refusal for any other folder, for models of no images, conditional ones, data without
    labels, and data that have changed.
    """
    if (folder / "landscape.json").exists():
        yield from _of_landscape(folder, num)
    elif (folder / "run.json").exists():
        yield _of_run(folder, num, seed)
    else:
        raise Refusal(
            f"{folder} holds neither run.json nor landscape.json; expected the folder of a run of train_vae.py or of "
            "landscape.py."
        )


def _of_run(folder: Path, num: int, seed: int) -> Source:
    run = load_run(folder)
    if not isinstance(run, TrainedVae):
        raise Refusal(f"{folder} holds a Bayesian neural network, which generates no images.")
    if not run.layout.is_image:
        raise Refusal(
            f"{folder} holds a model of vectors {run.layout.event_shape}; expected images."
        )
    if run.task is not None:
        raise Refusal(f"{folder} holds a conditional model; expected p(x) of images.")
    samples = run.sample(num, seed=seed)
    torch.manual_seed(0)
    train, test = _everything(run.data("train")), _everything(run.data("test"))
    if "y" not in train:
        train = _labelled(run.settings.data.dataset)
    x, other = (run.layout.to_user(part["x"]) for part in (train, test))
    _, y = train["y"].unique(return_inverse=True)
    dataset, drawn = run.settings.data.dataset, run.layout.binarize
    kind = "as they are" if drawn == "none" else f"bits ({drawn})"
    return Source(str(folder), samples, f"{dataset}, {kind}", Images(x, y, other))


def _everything(batches: Batches) -> dict[str, Tensor]:
    """All rows in their order, as the model is given them."""
    parts = list(Batches(batches.data, CHUNK, transform=batches.transform))
    return {
        name: torch.cat([part[name] for part in parts]) for name in parts[0] if name in ("x", "y")
    }


def _of_landscape(folder: Path, num: int) -> Iterator[Source]:
    about = read_result(folder / "landscape.json")
    dataset, binarize = about["dataset"], about["binarize"]
    splits = landscape_data.load(dataset)
    digest = digest_of_parts(splits.train, splits.valid, splits.test)
    for table in ("binary", "real"):
        names = about.get(table, {})
        images = _images(dataset, splits, table, binarize) if names else None
        for name in names:
            path = folder / "families" / f"{name}.json"
            result = find_result(path)
            if result is None or images is None:
                raise Refusal(f"{path} or its samples are missing; run landscape.py again.")
            if result["asked"]["data"] != digest:
                raise Refusal(f"{dataset} has changed since {path} was written.")
            samples = torch.from_numpy(read_arrays(path.with_suffix(".npz"))["samples"])
            if len(samples) < min(num, CHUNK):
                raise Refusal(
                    f"{path.with_suffix('.npz')} holds {len(samples)} samples of an earlier version; remove {path} and run "
                    "landscape.py again, which trains the family and keeps 1,000."
                )
            kind = f"bits ({binarize})" if table == "binary" else "grey levels, dequantised"
            yield Source(f"{folder}: {name}", samples[:num].float(), f"{dataset}, {kind}", images)


def _images(dataset: str, splits: Splits, table: str, binarize: landscape_data.Binarize) -> Images:
    if table == "real":
        numbered, _ = with_classes(dataset, splits)
        found = landscape_data.real(splits)
        torch.manual_seed(0)
        y = numbered.train.tensors["y"]
        return Images(found.pixels(found.trained_on()), y, found.pixels(found.test))
    found = landscape_data.binary(splits, binarize)
    if dataset in ("mnist", "binarized-mnist"):
        known = _labelled(dataset)
        return Images(known["x"], known["y"], found.pixels(found.test))
    numbered, _ = with_classes(dataset, splits)
    y = numbered.train.tensors["y"]
    return Images(found.pixels(found.train), y, found.pixels(found.test))


def _labelled(dataset: str) -> dict[str, Tensor]:
    """Training images with labels for sets without: MNIST, each pixel drawn with its grey level as
    probability, for the fixed binarisation of Larochelle."""
    if dataset not in ("mnist", "binarized-mnist"):
        raise Refusal(
            f"{dataset} has no labels; expected classes, which the classifier learns whose features are compared."
        )
    splits = NAMED["mnist"]()
    found = landscape_data.binary(splits, "static", fixed=False)
    return {"x": found.pixels(found.train), "y": splits.train.tensors["y"]}
