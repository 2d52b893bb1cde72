"""Files and tables of the scores of methods."""

import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyrovae as pv
from pyrovae.core.atomic_write import write_atomically
from pyrovae.core.batching import device_of
from pyrovae.recipes.bnn_scores import Scores, Summary
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import Trained
from pyrovae.recipes.results import read_arrays, read_result, write_arrays, write_result
from pyrovae.recipes.tables import markdown_table

METRICS = {
    "rmse": "RMSE",
    "log_predictive": "log p(y given x)",
    "crps": "CRPS",
    "coverage_90": "coverage of 90 %",
    "width_90": "width of 90 %",
    "accuracy": "accuracy",
    "error_percent": "error %",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "ece_adaptive": "ECE, equal mass",
    "ood_auroc": "OOD AUROC",
    "ood_auroc_mi": "OOD AUROC by MI",
    "ood_aupr": "OOD AUPR",
    "temperature": "temperature",
    "nll_scaled": "NLL, scaled",
    "brier_scaled": "Brier, scaled",
    "ece_scaled": "ECE, scaled",
    "width_factor": "width factor",
    "log_predictive_scaled": "log p(y given x), scaled",
    "coverage_90_scaled": "coverage of 90 %, scaled",
    "r_hat": "R-hat",
    "ess": "ESS",
    "train_seconds": "seconds a network",
}


def to_arviz(
    trained: Trained, task: Task, path: Path, *, num_data: int = 1000, num_samples: int = 200
) -> None:
    """Write posterior samples of the first network on its training data as an ArviZ file, at least
    one of each chain; more than 10,000 weights are left out."""
    model, guide = trained.pairs[0]
    chains, own = trained.chains, trained.num_chains
    samples = own * min(trained.num_samples // own, max(1, num_samples // own))
    batch = {
        name: value[0, :num_data].to(device_of(model, guide))
        for name, value in task.train.tensors.items()
    }
    draws = pv.posterior_draws(model, guide, batch, num_samples=samples)
    size = sum(value[0].numel() for value in draws["posterior"].values())
    draws["posterior"] = {
        name: value.squeeze(1)
        for name, value in draws["posterior"].items()
        if not name.startswith("_") and size <= 10_000
    }
    dims = {
        name: [f"{name}_dim_{index}" for index in range(value.dim() - 1)]
        for name, value in draws["posterior"].items()
    }
    if not draws["posterior"]:
        del draws["posterior"]
    if chains is not None and trained.num_samples == samples:
        draws["sample_stats"] = {
            name: value[:, :own].T.flatten() for name, value in chains.sample_stats().items()
        }
    data = pv.to_inference_data(
        draws, dims={name: names for name, names in dims.items() if names}, num_chains=own
    )
    with TemporaryDirectory() as folder:  # its writer is not atomic
        data.to_netcdf(str(Path(folder) / path.name))
        write_atomically(path, (Path(folder) / path.name).read_bytes())


def markdown(results: dict[str, dict[str, Summary]]) -> str:
    """A table of methods by metrics: mean ± standard error."""
    names = [name for name in METRICS if any(name in result for result in results.values())]
    return markdown_table(
        ["method", *(METRICS[name] for name in names)],
        [
            [method, *(_cell(name, result.get(name)) for name in names)]
            for method, result in results.items()
        ],
    )


def _cell(name: str, entry: Summary | None) -> str:
    if entry is None:
        return "–"
    mean, se = entry["mean"], entry["se"]
    digits = max(0, min(4, 3 - math.floor(math.log10(abs(mean))))) if mean else 3
    together = name == "train_seconds" and se == 0.0  # one figure for all networks
    return f"{mean:.{digits}f}" + ("" if se is None or together else f" ± {se:.{digits}f}")


def save_scores(scores: Scores, path: Path, facts: dict, *, files: Iterable[Path] = ()) -> None:
    """Write the rows and arrays of one method, and the digests of `files` that belong to them, so
    that a comparison can be continued."""
    arrays = path.with_suffix(".npz")
    write_arrays(arrays, scores.arrays)
    write_result(path, {**facts, "rows": scores.rows}, files=[arrays, *files])


def read_scores(path: Path) -> Scores:
    return Scores(read_result(path)["rows"], read_arrays(path.with_suffix(".npz")))
