"""Samples by the features of a classifier: blur and dropped classes, each seen by its own score."""

from collections.abc import Iterator

import pytest
import torch

from pyrovae.recipes.landscape import data as landscape_data
from pyrovae.recipes.sample_quality import Images, Net, controls, scores_of, train_classifier


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_blur_costs_precision_and_a_dropped_class_recall_and_coverage() -> None:
    """By 5 standard errors each; the other score stays within 3."""
    splits = landscape_data.load("digits")
    bits = landscape_data.binary(splits, "threshold")
    y = splits.train.tensors["y"]
    images = Images(bits.pixels(bits.train), y, bits.pixels(bits.test))
    torch.manual_seed(0)
    classifier = train_classifier(images, Net(epochs=12))
    accuracy = (classifier.read(images.test)[1] == splits.test.tensors["y"]).double().mean()
    assert accuracy > 0.85
    # three classes dropped, for a loss that is clear at 359 test images
    fake = controls(images, 700) | {"dropped": images.train[y > 2][:700]}
    found = {
        name: scores_of(classifier, images, samples, neighbours=3)
        for name, samples in fake.items()
    }
    plain, half = found["training data"], found["training data, half of them blurred"]
    dropped, blurred = found["dropped"], found["training data, all blurred"]

    def change(scores: dict, key: str) -> float:
        error = (scores[key].se ** 2 + plain[key].se ** 2) ** 0.5
        return (scores[key].mean - plain[key].mean) / error

    assert change(half, "precision") < -5 and abs(change(half, "recall")) < 3
    assert change(dropped, "recall") < -5 and abs(change(dropped, "precision")) < 3
    assert change(dropped, "coverage") < -3
    for scores in (half, blurred, dropped):
        assert scores["frechet"].mean > plain["frechet"].mean + 3 * scores["frechet"].se
    assert abs(plain["kernel"].mean) < 5 * plain["kernel"].se
    assert blurred["kernel"].mean > 5 * blurred["kernel"].se
