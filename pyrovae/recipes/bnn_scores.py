"""Scores of a trained method in the units of the data, and the arrays of its figures."""

import dataclasses
import math
from collections.abc import Callable
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import pyrovae as pv
from pyrovae import metrics
from pyrovae.core.batching import device_of
from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.bnn_mixing import mixing, warn_of_chains_apart
from pyrovae.recipes.bnn_scaling import scaled_classes, scaled_regression
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import Trained

REPLICATES = 1000
"""Samples of y for CRPS and coverage."""


ANGLES = tuple(range(0, 181, 15))


TURNED = 1000
"""Maximum number of test images rotated by `ANGLES`."""


MIXED = 100
"""Test data at which chains are compared."""


class Summary(TypedDict):
    """A metric over splits and seeds; the standard error is None for a single network."""

    mean: float
    se: float | None
    n: int


@dataclasses.dataclass
class Scores:
    """One row of metrics for each network, and arrays of the first network for figures."""

    rows: list[dict[str, float]]
    arrays: dict[str, np.ndarray]

    def summary(self) -> dict[str, Summary]:
        """Metric -> mean, standard error over splits and seeds, and their number."""
        result: dict[str, Summary] = {}
        for name in self.rows[0]:
            if not all(name in row for row in self.rows):
                continue  # R-hat of chains that stand still
            mean, se, n = metrics.mean_and_error([row[name] for row in self.rows])
            result[name] = {"mean": mean, "se": None if math.isnan(se) else se, "n": n}
        return result


def score(
    trained: Trained,
    s: BnnSettings,
    task: Task,
    unknown: Tensor | None = None,
    *,
    part: str = "test",
) -> Scores:
    """Score every network on the test (or valid) data of its split; the training time is divided
    equally among the networks.

    Where the task has validation data, test scores come also after one number, fitted on them, has
    corrected the confidence: names that end in `_scaled`.
    """
    data = {"train": task.train, "valid": task.valid, "test": task.test}[part]
    if data is None:
        raise ValueError(f"the task has no {part} data.")
    held_out = task.valid if part == "test" else None
    rows: list[dict[str, float]] = []
    arrays: dict[str, np.ndarray] = {}
    for index, (model, guide) in enumerate(trained.pairs):
        split = task.split_of(index, s.run.seeds)
        batch, *others = (
            Batches(
                DictDataset(**{name: value[split] for name, value in rows.tensors.items()}), 1000
            )
            for rows in (data, held_out)
            if rows is not None
        )
        torch.manual_seed(s.run.seed + index)
        if task.kind == "regression":
            row, extra = _regression(model, guide, batch, trained.num_samples, task, split)
        else:
            row, extra = _classes(model, guide, batch, trained.num_samples, unknown, task)
        for valid in others:
            row |= _scaled(model, guide, valid, batch, trained.num_samples, task, split, extra)
        if trained.num_chains > 1:
            tested = {
                name: value[:MIXED].to(device_of(model, guide))
                for name, value in batch.data.tensors.items()
            }
            row |= mixing(model, guide, tested, trained.num_samples, trained.num_chains)
        rows.append({**row, "train_seconds": trained.seconds / len(trained.pairs)})
        arrays = arrays or extra
    warn_of_chains_apart(rows)
    return Scores(rows, arrays)


def _scaled(
    model: Callable,
    guide: Callable,
    held_out: Batches,
    test: Batches,
    num_samples: int,
    task: Task,
    split: int,
    arrays: dict[str, np.ndarray],
) -> dict[str, float]:
    if task.kind == "classification":
        probs, y = torch.from_numpy(arrays["probs"]), test.data.tensors["y"]
        return scaled_classes(model, guide, held_out, probs, y, num_samples)
    scale = task.y_scale[split].double()
    return scaled_regression(model, guide, held_out, test, num_samples, scale)


def _regression(
    model: Callable, guide: Callable, data: Batches, num_samples: int, task: Task, split: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    y, scale = data.data.tensors["y"].double(), task.y_scale[split].double()
    moments = pv.predict_moments(model, guide, data, num_samples=num_samples, site="y")
    log_density = (
        pv.log_predictive(model, guide, data, num_samples=num_samples) - scale.log().sum()
    )
    device = device_of(model, guide)
    draws = torch.cat(
        [
            pv.predict(model, guide, {"x": x.to(device)}, num_samples=REPLICATES, sites=["y"])[
                "y"
            ].cpu()
            for x in data.data.tensors["x"].split(100)
        ],
        dim=1,
    ).double()
    each = [
        (draws[..., target] * scale[..., target], y[:, target] * scale[..., target])
        for target in range(y.shape[-1])
    ]
    row = {
        "rmse": float(metrics.rmse(moments.mean * scale, y * scale)),
        "log_predictive": float(log_density.mean()),
        "crps": float(np.mean([float(metrics.crps(*pair).mean()) for pair in each])),
        "coverage_90": float(
            np.mean([float(metrics.coverage(*pair, level=0.9).mean()) for pair in each])
        ),
        "width_90": float(
            np.mean([float(metrics.interval_width(pair[0], level=0.9).mean()) for pair in each])
        ),
    }
    places = task.y_mean[split].double()
    low, high = torch.quantile(draws, torch.tensor([0.05, 0.95]).to(draws), dim=0)
    observed = y * scale + places
    return row, {
        "log_predictive": log_density.numpy(),
        **{
            name: value.cpu().numpy()
            for name, value in {
                "observed": observed,
                "mean": moments.mean.double() * scale + places,
                "deviation": moments.total.double().sqrt() * scale,
                "lower": low * scale + places,
                "upper": high * scale + places,
                "rank": (draws < y).double().mean(0),
            }.items()
        },
    }


def _classes(
    model: Callable,
    guide: Callable,
    data: Batches,
    num_samples: int,
    unknown: Tensor | None,
    task: Task,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    y = data.data.tensors["y"]
    moments = pv.predict_moments(model, guide, data, num_samples=num_samples, site="y")
    probs = moments.mean / moments.mean.sum(-1, keepdim=True)
    correct = metrics.accuracy(probs, y)
    row = {
        "accuracy": float(correct.double().mean()),
        "error_percent": 100.0 * (1.0 - float(correct.double().mean())),
        "nll": float(metrics.nll(probs, y).mean()),
        "brier": float(metrics.brier(probs, y).mean()),
        "ece": float(metrics.calibration_error(probs, y)),
        "ece_adaptive": float(metrics.calibration_error(probs, y, adaptive=True)),
    }
    arrays = {
        "probs": probs.float().numpy(),
        "y": y.numpy(),
        "entropy": moments.total.float().numpy(),
    }
    if unknown is not None:
        other = pv.predict_moments(
            model,
            guide,
            Batches(DictDataset(x=unknown[0]), 1000),
            num_samples=num_samples,
            site="y",
        )
        row |= {
            "ood_auroc": float(metrics.auroc(moments.total, other.total)),
            "ood_aupr": float(metrics.aupr(moments.total, other.total)),
        }
        if num_samples > 1:  # with one weight sample the mutual information is zero
            row["ood_auroc_mi"] = float(metrics.auroc(moments.epistemic, other.epistemic))
        arrays["entropy_unknown"] = other.total.float().numpy()
    if task.image_shape is not None:
        arrays["rotation_accuracy"] = np.array(
            [_turned(model, guide, data, angle, num_samples, task) for angle in ANGLES]
        )
    return row, arrays


def _turned(
    model: Callable, guide: Callable, data: Batches, angle: float, num_samples: int, task: Task
) -> float:
    """Accuracy on test images rotated by an angle."""
    x, y = (data.data.tensors[name][:TURNED] for name in ("x", "y"))
    images = x.reshape(-1, *(task.image_shape or ()))
    turn = math.radians(angle)
    matrix = x.new_tensor(
        [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]
    )
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, align_corners=False).flatten(1)
    moments = pv.predict_moments(
        model, guide, {"x": turned}, num_samples=min(num_samples, 20), site="y"
    )
    return float((moments.mean.argmax(-1) == y).double().mean())
