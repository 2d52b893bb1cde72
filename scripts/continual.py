r"""Continual learning: a sequence of tasks, each with the posterior of the previous one as its prior.

    python scripts/continual.py --problem permuted-mnist --out runs/permuted
    python scripts/continual.py --problem permuted-digits --tasks 3 --epochs 50 --batch-size 64
    python scripts/continual.py --problem regression-stream --tasks 5 --sort-by 2 --hidden 50 \
        --epochs 200 --batch-size 16 --methods vcl,together,plain --out runs/stream

writes continual.json, continual.md and figures. Run again with the same command, it continues with
the missing methods.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import command_line
import pyro
import torch
import tyro
from progress import progress_bar, say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae import metrics
from pyrovae.data import Batches
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import OutFolder
from pyrovae.recipes.continual_learners import Online, Plain, Together, coreset_size, nothing
from pyrovae.recipes.continual_settings import ContinualSettings
from pyrovae.recipes.continual_tasks import Stream, load_stream
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, write_result
from pyrovae.recipes.resumed_settings import as_json
from pyrovae.recipes.tables import markdown_table, write_markdown

METHODS = {
    "vcl": Online,
    "vcl-coreset": lambda stream, s, device: Online(
        stream, s, device, coreset=coreset_size(stream, s)
    ),
    "together": Together,
    "plain": Plain,
}
METRICS = {"accuracy": "mean accuracy", "log_predictive": "log p(y|x), nats", "rmse": "RMSE"}
Result = dict[str, list]


@dataclasses.dataclass(frozen=True)
class Continual:
    settings: ContinualSettings
    methods: str = "vcl,vcl-coreset,plain"
    """Comma-separated names of: vcl (variational continual learning), vcl-coreset (with a coreset
    of each task), plain (maximum likelihood on each task in turn), together (one fit to all data so
    far)."""
    out: Annotated[OutFolder, tyro.conf.arg(help="folder of the results")] = Path("runs/continual")

    def __post_init__(self) -> None:
        bounds.check(self)


def main(c: Continual) -> dict[str, Result]:
    s, methods = c.settings, several("--methods", c.methods, METHODS)
    torch.set_num_threads(s.threads or 1)
    device = choose_device(s.device)
    stream = load_stream(
        s.problem, tasks=s.tasks, dataset=s.dataset, sort_by=s.sort_by, seed=s.seed
    )
    if stream.heads > 1 and "together" in methods:
        raise Refusal(
            f"--methods together: the tasks of {s.problem} have heads of their own, so they cannot be fitted together."
        )
    if "vcl-coreset" in methods:
        coreset_size(stream, s)  # before other methods are trained
    with owned(c.out):
        results = results_of(methods, stream, c, device)
        table = markdown(results)
        write_markdown(c.out / "continual.md", table)
        plots.save(figures(results, stream), c.out / "figures")
    say(
        f"{stream.name}: after each task, {s.epochs} epochs each\n\n{table}\nfigures: {c.out / 'figures'}"
    )
    return results


def results_of(
    methods: list[str], stream: Stream, c: Continual, device: torch.device
) -> dict[str, Result]:
    """The results of all methods: those in --out, and new ones for the others."""
    s, path = c.settings, c.out / "continual.json"
    done = find_result(path) or {"settings": as_json(s), "results": {}}
    if changed := sorted(
        name for name, value in as_json(s).items() if done["settings"].get(name) != value
    ):
        raise Refusal(
            f"{c.out} holds results of other settings ({', '.join(changed)}); choose another --out."
        )
    for method in methods:
        if method not in done["results"]:
            pyro.set_rng_seed(s.seed)
            done["results"][method] = run(METHODS[method], stream, s, device, method)
            write_result(path, done)
    return {method: done["results"][method] for method in methods}


def run(
    make: Callable, stream: Stream, s: ContinualSettings, device: torch.device, method: str
) -> Result:
    """Metric -> its mean over the tasks so far, after each task; {metric}_each -> its value for
    each task; seconds of training."""
    learner, result = make(stream, s, device), {"seconds": []}
    progress = progress_bar(range(stream.num_tasks), desc=method, unit="task")
    for task in progress:
        start = time.perf_counter()
        learner.learn(task, stream.train(task))
        seen = stream.tests(task)
        pairs = learner.pairs(seen)
        result["seconds"].append(time.perf_counter() - start)
        rows = [score(pair, index, stream, s) for pair, index in zip(pairs, seen)]
        for name in rows[0]:
            values = [row[name] for row in rows]
            result.setdefault(name, []).append(sum(values) / len(values))
            result.setdefault(f"{name}_each", []).append(values)
            progress.set_postfix(
                {name: f"{result[name][-1]:.4g}" for name in rows[0] if name in result}
            )
    return result


def score(
    pair: tuple[Callable, Callable], task: int, stream: Stream, s: ContinualSettings
) -> dict[str, float]:
    data = stream.test(task)
    batches, y = Batches(data, 1000), data.tensors["y"]
    count = 1 if pair[1] is nothing else s.num_samples
    moments = pv.predict_moments(*pair, batches, num_samples=count, site="y")
    if stream.kind == "classification":
        return {"accuracy": float(metrics.accuracy(moments.mean, y).double().mean())}
    log_density = (
        pv.log_predictive(*pair, batches, num_samples=count).mean()
        - torch.tensor(stream.y_scale).log()
    )
    return {
        "log_predictive": float(log_density),
        "rmse": float(metrics.rmse(moments.mean * stream.y_scale, y.double() * stream.y_scale)),
    }


def markdown(results: dict[str, Result]) -> str:
    """A table for each metric: methods by tasks."""
    names = [name for name in METRICS if name in next(iter(results.values()))]
    return "\n".join(_table(METRICS[name], name, results) for name in names)


def _table(title: str, name: str, results: dict[str, Result]) -> str:
    count = len(next(iter(results.values()))[name])
    return markdown_table(
        [f"{title} after task", *(str(task + 1) for task in range(count)), "seconds"],
        [
            [
                method,
                *(f"{value:.4g}" for value in result[name]),
                f"{sum(result['seconds']):.0f}",
            ]
            for method, result in results.items()
        ],
    )


def figures(results: dict[str, Result], stream: Stream) -> dict[str, object]:
    return {
        name: plots.comparison(
            {
                method: plots.Line(range(1, stream.num_tasks + 1), result[name])
                for method, result in results.items()
            },
            "tasks seen",
            label,
            title=stream.name,
        )
        for name, label in METRICS.items()
        if name in next(iter(results.values()))
    }


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Continual, __doc__))
