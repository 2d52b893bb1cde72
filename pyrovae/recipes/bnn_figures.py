"""Figures that compare methods."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae import metrics
from pyrovae.data import gap1d_function
from pyrovae.recipes import nesting
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_method import Method
from pyrovae.recipes.bnn_scores import ANGLES, TURNED, Scores
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import train
from pyrovae.recipes.refusal import Refusal


def figures(scores: Mapping[str, Scores], task: Task) -> dict[str, Figure]:
    """Predictions of the first network of each method on its test data."""
    return (regression if task.kind == "regression" else classification)(scores, task)


def regression(scores: Mapping[str, Scores], task: Task) -> dict[str, Figure]:
    """Predicted against observed values, residuals and coverage, in the units of the data, with
    one panel per method and target."""
    panels = {}
    for name, s in scores.items():
        if "rank" not in s.arrays:  # of an earlier version
            continue
        for target in range(s.arrays["observed"].shape[1]):
            label = name if s.arrays["observed"].shape[1] == 1 else f"{name}, y[{target}]"
            panels[label] = plots.Predictions(
                *(s.arrays[field][:, target] for field in plots.Predictions._fields)
            )
    if not panels:
        return {}
    num = len(next(iter(panels.values())).observed)
    title = name_of(task, num)
    return {
        "predictions": plots.predicted_observed(panels, title=title),
        "residuals": plots.residuals(panels, title=title),
        "coverage": plots.coverage(panels, title=title),
    }


def classification(scores: Mapping[str, Scores], task: Task) -> dict[str, Figure]:
    """Reliability diagram, entropies of in- and out-of-distribution data, accuracy by rotation."""
    probs = {
        name: (torch.from_numpy(s.arrays["probs"]), torch.from_numpy(s.arrays["y"]))
        for name, s in scores.items()
    }
    num = len(next(iter(probs.values()))[1])
    title = name_of(task, num)
    result = {
        "reliability": plots.reliability_diagram(
            {name: metrics.reliability(*pair) for name, pair in probs.items()}, title=title
        )
    }
    with_unknown = {
        name: (s.arrays["entropy"], s.arrays["entropy_unknown"])
        for name, s in scores.items()
        if "entropy_unknown" in s.arrays
    }
    if with_unknown:
        classes = next(iter(probs.values()))[0].shape[1]
        result["entropies"] = plots.entropy_histograms(
            with_unknown, num_classes=classes, title=title
        )
    turned = {
        name: plots.Line(torch.tensor(ANGLES), torch.from_numpy(s.arrays["rotation_accuracy"]))
        for name, s in scores.items()
        if "rotation_accuracy" in s.arrays
    }
    if turned:
        result["rotation"] = plots.comparison(
            turned, "rotation in degrees", "accuracy", title=name_of(task, min(num, TURNED))
        )
    return result


def name_of(task: Task, num: int) -> str:
    return f"{task.name}: {num} test data" + (
        f" of split 1 of {task.num_splits}" if task.num_splits > 1 else ""
    )


STEPS = 3000
"""Training steps on the toy data with a gap."""


def refuse_bands(asked: bool, task: Task) -> None:
    """Raise Refusal for --bands with a classification task."""
    if asked and task.kind != "regression":
        raise Refusal(
            f"--bands draws regression curves of a toy data set, but the targets of {task.name} are classes; drop it."
        )


def bands(methods: Iterable[Method], s: BnnSettings) -> Figure:
    """Train each method on toy data, a 1-D set with a gap, with settings tuned for it."""
    s = nesting.replace(
        s,
        dataset="gap",
        splits=None,
        seeds=1,
        hidden=(50, 50),
        activation="relu",
        noise="shared",
        steps=STEPS,
        batch_size=32,
        lr=1e-2,
        sampler_lr=None,
        adversarial=0.0,
        prior="normal",
        prior_scale=0.5,
        laplace="last-layer",
        rate=0.02,
    )
    task = load_task(s)
    x = torch.linspace(-5.0, 5.0, 200)
    panels = {}
    for method in methods:
        trained = train(method, s, task)
        x_own, y_own = task.train.tensors["x"][0], task.train.tensors["y"][0]
        x_mean, x_scale = (cast(Tensor, value)[0] for value in (task.x_mean, task.x_scale))
        moments = pv.predict_moments(
            *trained.pairs[0],
            {"x": (x.unsqueeze(1) - x_mean) / x_scale},
            num_samples=max(trained.num_samples, 1),
            site="y",
        )
        scale, mean = task.y_scale[0], task.y_mean[0]
        panels[method.name] = plots.Bands(
            x,
            (moments.mean * scale + mean).squeeze(1).float(),
            (moments.epistemic.sqrt() * scale).squeeze(1).float(),
            (moments.total.sqrt() * scale).squeeze(1).float(),
            (x_own * x_scale + x_mean).squeeze(1),
            (y_own * scale + mean).squeeze(1),
            gap1d_function(x),
        )
    title = f"A toy, y = x / 2 + sin(2x) + noise with a gap: {task.num_data} made-up data"
    return plots.regression_bands(panels, title=title)
