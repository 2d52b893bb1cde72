"""Samples against data, by the features of a classifier that is trained on the data."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

import pyrovae as pv
from pyrovae.data import Batches, DictDataset
from pyrovae.metrics import (
    MeanError,
    block_error,
    class_coverage,
    frechet_distance,
    kernel_distance,
    mean_and_error,
    sample_precision,
    sample_recall,
)
from pyrovae.nets import ConvEncoder
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, Positive
from pyrovae.training.hooks import ProgressBar

CHUNK = 1000


@dataclasses.dataclass(frozen=True)
class Images:
    """Images as the models under test saw them, `(N, C, H, W)` in [0, 1], with classes from 0."""

    train: Tensor
    y: Tensor
    test: Tensor

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def some(self, num: int, seed: int) -> "Images":
        """With at most `num` test images, chosen by a seed of their own."""
        if num >= len(self.test):
            return self
        order = torch.randperm(len(self.test), generator=torch.Generator().manual_seed(seed))
        return dataclasses.replace(self, test=self.test[order[:num]])


@dataclasses.dataclass(frozen=True)
class Net:
    """The classifier."""

    features: Count = 64
    """Outputs of its last hidden layer, by which samples are compared."""
    epochs: Count = 20
    """Passes through the training data."""
    batch_size: Count = 100
    lr: Positive = 1e-3
    neighbours: Count = 3
    """k of the balls of precision and recall."""

    def __post_init__(self) -> None:
        bounds.check(self)


class Classifier(nn.Module):
    """Convolutions of 32 and 64 channels, a layer of features, and a linear map to logits."""

    def __init__(self, shape: tuple[int, ...], features: int, classes: int) -> None:
        super().__init__()
        self.body = ConvEncoder(shape, (32, 64), features)
        self.head = nn.Linear(features, classes)

    def forward(self, *, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.head(functional.silu(self.body(x))), y)

    @torch.no_grad()
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(N, F)` and the most probable class `(N,)` of images."""
        parts = [functional.silu(self.body(part)) for part in x.split(CHUNK)]
        features = torch.cat(parts)
        return features, self.head(features).argmax(-1)


def train_classifier(images: Images, net: Net) -> Classifier:
    classifier = Classifier(tuple(images.train.shape[1:]), net.features, images.classes)
    batches = Batches(DictDataset(x=images.train, y=images.y), net.batch_size, shuffle=True)
    pv.fit(classifier, batches, epochs=net.epochs, lr=net.lr, hooks=[ProgressBar("classifier")])
    return classifier


SCORES: Mapping[str, str] = {
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "coverage": "class coverage",
}


def scores_of(
    classifier: Classifier, images: Images, samples: Tensor, *, neighbours: int
) -> dict[str, MeanError]:
    """`SCORES` of samples against the test images, each with its standard error."""
    real, real_classes = classifier.read(images.test)
    fake, fake_classes = classifier.read(samples)
    return {
        "frechet": block_error(frechet_distance, real, fake),
        "kernel": block_error(kernel_distance, real, fake),
        "precision": mean_and_error(sample_precision(real, fake, neighbours=neighbours)),
        "recall": mean_and_error(sample_recall(real, fake, neighbours=neighbours)),
        "coverage": block_error(
            lambda a, b: class_coverage(a, b, classes=images.classes), real_classes, fake_classes
        ),
    }


def controls(images: Images, num: int) -> dict[str, Tensor]:
    """Training images as samples: as they are, half or all of them blurred, and without the class 0; `num` of
    each, or as many as there are of the last."""
    kept = images.train[images.y != 0]
    num = min(num, len(kept))
    half = torch.randperm(num, generator=torch.Generator().manual_seed(0)) % 2 == 0
    plain = images.train[:num]
    return {
        "training data": plain,
        "training data, half of them blurred": torch.where(
            half[:, None, None, None], blurred(plain), plain
        ),
        "training data, all blurred": blurred(plain),
        "training data without class 0": kept[:num],
    }


def blurred(x: Tensor) -> Tensor:
    """Means over 3 x 3 pixels (5 x 5 of images of 28 x 28); of bits, whether they are above 1/2."""
    bits = bool(((x == 0) | (x == 1)).all())
    reach = max(1, x.shape[-1] // 14)
    means = functional.avg_pool2d(x, 2 * reach + 1, stride=1, padding=reach)
    return (means > 0.5).to(x) if bits else means
