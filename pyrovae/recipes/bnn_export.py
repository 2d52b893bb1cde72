"""The prediction of a trained Bayesian net written in a format of other programs."""

from pathlib import Path

import torch
from torch import Tensor

from pyrovae.recipes.bnn_graph import PredictorGraph
from pyrovae.recipes.bnn_prediction import ClassPrediction
from pyrovae.recipes.bnn_predictor import scales_of
from pyrovae.recipes.graph_export import Graph, Written, write_graphs
from pyrovae.recipes.graph_formats import Format
from pyrovae.recipes.trained_bnn import TrainedBnn


def export_predictor(
    run: TrainedBnn,
    file_format: Format,
    folder: Path,
    *,
    num_samples: int | None = None,
    seed: int = 0,
    max_data: int = 1000,
) -> list[Written]:
    """Write `predictor`, one graph that holds S draws of the weights and gives what
    `run.predict(x, num_samples=, seed=)` gives, and a JSON file as `graph_export.export`.

    num_samples: S, by default as many as for the scores of the run. Raises: Refusal for --method
    laplace, and where the graph does not agree on at most `max_data` test data.
    """
    draws = run.predictor.num_samples if num_samples is None else num_samples
    graph = _graph(run, draws, seed, max_data)
    facts = {
        "data": run.run["data"]["name"],
        "method": run.run["arguments"]["method"],
        "kind": run.run["data"]["kind"],
        "num_samples": draws,
        "seed": seed,
        "columns": list(run.layout.columns),
        "target": run.run["data"].get("target"),
        "classes": list(run.layout.classes),
    }
    return write_graphs([graph], facts, file_format, folder)


def _graph(run: TrainedBnn, draws: int, seed: int, max_data: int) -> Graph:
    rows = _rows(run, max_data)
    found, inputs = run.predict(rows, num_samples=draws, seed=seed), {"x": _units(run)}
    module = PredictorGraph(run, num_samples=draws, seed=seed)
    if isinstance(found, ClassPrediction):
        names = {
            **inputs,
            "probs": "probabilities, in the order of classes",
            **dict.fromkeys(("entropy", "aleatoric", "epistemic"), "nats"),
        }
        expected = found.probs, found.entropy, found.aleatoric, found.epistemic
        return Graph("predictor", module, names, rows, expected)
    spread = "standard deviation in the units of y"
    names = {
        **inputs,
        "mean": "units of y",
        **dict.fromkeys(("total", "aleatoric", "epistemic"), spread),
    }
    expected = found.mean, found.total, found.aleatoric, found.epistemic
    return Graph("predictor", module, names, rows, expected, run.layout.scale("y_scale"))


def _rows(run: TrainedBnn, max_data: int) -> Tensor:
    """Test data in the user's units."""
    x = run.data("test").data.tensors["x"][:max_data].cpu()
    scales = scales_of(run.run["data"], 0)
    if run.layout.image_shape is not None:
        return x.reshape(-1, *run.layout.image_shape)
    if "x_mean" not in scales:
        return x if run.run["data"].get("levels") == 256 else x.double()
    mean, scale = (torch.tensor(scales[name]).double() for name in ("x_mean", "x_scale"))
    return x.double() * scale + mean


def _units(run: TrainedBnn) -> str:
    if run.layout.image_shape is not None or run.run["data"].get("levels") == 256:
        return "pixels in [0, 1] (uint8 divided by 255)"
    named = f": {', '.join(run.layout.columns)}" if run.layout.columns else ""
    return f"features in their own units, as in the data of the run{named}"
