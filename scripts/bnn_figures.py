"""Pictures that set methods side by side."""
import dataclasses
from collections.abc import Mapping

import torch
from bnn_methods import train
from bnn_report import ANGLES, Scores
from bnn_settings import BnnSettings
from bnn_task import load_task
from matplotlib.figure import Figure

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae import metrics
from pyrovae.data import gap1d_function


def figures(scores: Mapping[str, Scores], kind: str) -> dict[str, Figure]:
    """Reliability, entropies and rotation of classifiers, from the first network of each method."""
    if kind == "regression":
        return {}
    probs = {name: (torch.from_numpy(s.arrays["probs"]), torch.from_numpy(s.arrays["y"])) for name, s in scores.items()}
    result = {"reliability": plots.reliability_diagram({name: metrics.reliability(*pair) for name, pair in probs.items()})}
    with_unknown = {name: (s.arrays["entropy"], s.arrays["entropy_unknown"]) for name, s in scores.items()
                    if "entropy_unknown" in s.arrays}
    if with_unknown:
        classes = next(iter(probs.values()))[0].shape[1]
        result["entropies"] = plots.entropy_histograms(with_unknown, num_classes=classes)
    turned = {name: plots.Line(torch.tensor(ANGLES), torch.from_numpy(s.arrays["rotation_accuracy"]))
              for name, s in scores.items() if "rotation_accuracy" in s.arrays}
    if turned:
        result["rotation"] = plots.comparison(turned, "rotation in degrees", "accuracy")
    return result


STEPS = 3000
"""Of training on the set with a gap."""


def bands(methods: tuple[str, ...], s: BnnSettings) -> Figure:
    """Each method trained on a 1-D set with a gap."""
    s = dataclasses.replace(s, dataset="gap", splits=None, seeds=1, hidden=(50, 50), activation="relu",
                            noise="shared", steps=STEPS, batch_size=32, lr=1e-2, sampler_lr=None, valid_fraction=0.0,
                            adversarial=0.0, prior="normal", prior_scale=0.5, laplace="last-layer", rate=0.02)
    task = load_task(s)
    x = torch.linspace(-5.0, 5.0, 200)
    panels = {}
    for method in methods:
        trained = train(method, s, task)
        x_own, y_own = task.train.tensors["x"][0], task.train.tensors["y"][0]
        x_mean, x_scale = task.x_stats
        moments = pv.predict_moments(*trained.pairs[0], {"x": (x.unsqueeze(1) - x_mean) / x_scale},
                                     num_samples=max(trained.num_samples, 1), site="y")
        scale, mean = task.y_scale[0], task.y_mean[0]
        panels[method] = plots.Bands(x, (moments.mean * scale + mean).squeeze(1).float(),
                                     (moments.epistemic.sqrt() * scale).squeeze(1).float(),
                                     (moments.total.sqrt() * scale).squeeze(1).float(),
                                     (x_own * x_scale + x_mean).squeeze(1), (y_own * scale + mean).squeeze(1),
                                     gap1d_function(x))
    return plots.regression_bands(panels)
