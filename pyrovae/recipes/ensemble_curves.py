"""Scores of a classifier against the number of its members or draws, and under shift."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from pyrovae import metrics
from pyrovae.data import Batches, DictDataset
from pyrovae.prediction.class_draws import predict_probs
from pyrovae.recipes import nesting
from pyrovae.recipes.bnn_method import Method
from pyrovae.recipes.bnn_posteriors import Pair
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import train
from pyrovae.recipes.image_shifts import SHIFTS, STRENGTHS

SCORES = {"error_percent": "error, %", "nll": "NLL, nats", "brier": "Brier score", "ece": "ECE"}
DETECTION = {"auroc": "AUROC by entropy", "auroc_mi": "AUROC by mutual information"}
Row = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Curves:
    """Scores of one network, or one set of members, of a method."""

    counts: list[Row]
    """On the test data, with as many members or draws as each of the counts."""
    shifts: dict[str, list[Row]]
    """With the largest count: kind -> strengths 0 (the test data) to 5."""
    foreign: list[Row]
    """Detection of foreign data, for each of the counts."""


def curves_of(
    method: Method,
    s: BnnSettings,
    task: Task,
    counts: Sequence[int],
    foreign: Tensor | None,
    *,
    device: torch.device,
) -> list[Curves]:
    """Train the networks of all seeds side by side, and score each."""
    most = max(counts)
    s = nesting.replace(s, members=most, draws=most)
    trained = train(method, s, task, device=device)
    found = []
    for index, pair in enumerate(trained.pairs):
        torch.manual_seed(s.run.seed + index)
        found.append(_score(pair, task, counts, foreign))
    return found


def _score(pair: Pair, task: Task, counts: Sequence[int], foreign: Tensor | None) -> Curves:
    x, y = (task.test.tensors[name][0] for name in ("x", "y"))
    probs = _probs(pair, x, max(counts))
    whole = scores(probs.mean(0), y)
    shifts: dict[str, list[Row]] = {}
    if task.image_shape is not None:
        images = x.reshape(-1, *task.image_shape)
        for name, shift in SHIFTS.items():
            rows = [whole]
            for strength in STRENGTHS:
                moved = shift(images, strength).flatten(1)
                rows.append(scores(_probs(pair, moved, max(counts)).mean(0), y))
            shifts[name] = rows
    other = None if foreign is None else _probs(pair, foreign[0], max(counts))
    return Curves(
        [scores(probs[:count].mean(0), y) for count in counts],
        shifts,
        [] if other is None else [detection(probs[:count], other[:count]) for count in counts],
    )


def scores(probs: Tensor, y: Tensor) -> Row:
    return {
        "error_percent": 100 * (1 - float(metrics.accuracy(probs, y).double().mean())),
        "nll": float(metrics.nll(probs, y).mean()),
        "brier": float(metrics.brier(probs, y).mean()),
        "ece": float(metrics.calibration_error(probs, y)),
    }


def detection(known: Tensor, foreign: Tensor) -> Row:
    """Of foreign data by two scores, from probabilities `(S, N, C)`; a single draw has no mutual
    information."""
    row = {"auroc": float(metrics.auroc(*(metrics.entropy(p.mean(0)) for p in (known, foreign))))}
    if len(known) > 1:
        row["auroc_mi"] = float(
            metrics.auroc(*(metrics.mutual_information(p) for p in (known, foreign)))
        )
    return row


def _probs(pair: Pair, x: Tensor, num_samples: int) -> Tensor:
    found = predict_probs(
        *pair, Batches(DictDataset(x=x), 1000), num_samples=num_samples, site="y"
    ).double()
    return found / found.sum(-1, keepdim=True)


def summary(rows: Sequence[Row], name: str) -> tuple[float, float | None]:
    """Mean over seeds, and its standard error; None for one seed."""
    mean, se, count = metrics.mean_and_error([row[name] for row in rows])
    return mean, None if count == 1 else se
