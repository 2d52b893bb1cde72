"""Time per effective sample of Markov chains: Pyro's NUTS, the same compiled by pyrovae,
pyrovae's NUTS and ChEES-HMC of many chains at once and, if it is installed, NumPyro's NUTS, in turns
in one process.

    python scripts/benchmark_mcmc.py schools logistic --out runs/mcmc

prints, for each posterior, milliseconds per effective sample (warm-up included, compiling apart;
the smallest bulk ESS of ArviZ over all numbers), the largest R-hat, and the ratio to NumPyro: all
medians over rounds, ratios within a round; and writes them to mcmc.json. Look at R-hat first: chains that
do not mix have no effective number.

Posteriors: schools (eight schools, not centred), logistic (500 data, 20 weights), hierarchical
(20 groups), funnel (Neal's, 10 dims), bnn (50 tanh units; the effective number is that of the
function at 9 inputs).
"""

import dataclasses
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Annotated

import arviz
import command_line
import numpy as np
import pyro
import torch
import tyro
import xarray
from benchmark import machine
from benchmark_mcmc_models import Draws, Posterior, posteriors
from benchmark_works import numpyro_is_here
from pyro.infer import NUTS
from script_context import script_context
from tqdm.auto import tqdm

from pyrovae.bnn.samplers import Chains, chees, mcmc, nuts
from pyrovae.core.atomic_write import write_atomically
from pyrovae.export import to_inference_data
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder, Some, Threads
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.tables import markdown_table

WORKS = ("schools", "logistic", "hierarchical", "funnel", "bnn")
EAGER, COMPILED = "Pyro's NUTS", "Pyro's NUTS, compiled"
TOGETHER, CHEES = "NUTS of many chains", "ChEES-HMC"
NUMPYRO, VECTORIZED = "NumPyro's NUTS", "NumPyro's NUTS, vectorized"
Peer = Callable[[int], tuple[Draws, float, float]]
"""From a seed: draws, seconds of warm-up and sampling, seconds before them."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    works: Annotated[tuple[str, ...], tyro.conf.Positional, Some()] = WORKS
    """Some of schools, logistic, hierarchical, funnel, bnn."""
    rounds: Count = 5
    """Runs of each peer; medians are taken over them."""
    eager_rounds: Count = 1
    """Runs of Pyro's NUTS, eager and compiled, which are slow."""
    chains: Count = 4
    """Chains of NUTS."""
    warmup: Count = 500
    """Iterations of warm-up of each chain."""
    samples: Count = 500
    """Draws of each chain of NUTS."""
    eager_draws: Count = 200
    """Warm-up and draws of each of two chains of Pyro's NUTS, eager and compiled."""
    many: Count = 64
    """Chains of ChEES-HMC, of NUTS of many chains and of NumPyro's vectorized NUTS."""
    many_samples: Count = 200
    """Draws of each of these."""
    threads: Threads = 1
    """CPU threads; the process is pinned to as many cores."""
    out: OutFolder | None = None
    """Folder of mcmc.json."""

    def __post_init__(self) -> None:
        bounds.check(self)


def peers(name: str, posterior: Posterior, b: Benchmark) -> dict[str, Peer]:
    def ours(run: Callable[..., Chains], **options: object) -> Peer:
        def peer(seed: int) -> tuple[Draws, float, float]:
            pyro.set_rng_seed(seed)
            begun: list[float] = []

            def progress(iteration: int) -> None:
                if not begun:  # captured, compiled and started
                    begun.append(time.perf_counter())

            start = time.perf_counter()
            chains = run(posterior.model, posterior.batch, progress=progress, **options)
            seconds = time.perf_counter() - begun[0]
            draws = {key: value.transpose(0, 1).numpy() for key, value in chains.draws.items()}
            return draws, seconds, begun[0] - start

        return peer

    def one_by_one(compile: str) -> Peer:
        few = dict(num_samples=b.eager_draws, warmup=b.eager_draws, num_chains=2)
        return ours(
            lambda model, batch, **kw: mcmc(model, batch, NUTS, **kw), compile=compile, **few
        )

    many = dict(num_chains=b.many, warmup=b.warmup, num_samples=b.many_samples)
    found = {
        EAGER: one_by_one("off"),
        COMPILED: one_by_one("on"),
        TOGETHER: ours(nuts, compile="on", **many),
        CHEES: ours(chees, compile="on", **many),
    }
    if numpyro_is_here():
        batch = {key: value.numpy() for key, value in posterior.batch.items()}
        found[NUMPYRO] = _numpyro(name, batch, b.chains, b.warmup, b.samples, "sequential")
        found[VECTORIZED] = _numpyro(name, batch, b.many, b.warmup, b.many_samples, "vectorized")
    return found


def _numpyro(name: str, batch: Draws, chains: int, warmup: int, samples: int, method: str) -> Peer:
    from benchmark_mcmc_numpyro import numpyro_nuts

    run = numpyro_nuts(name, batch, chains, warmup, samples, method)
    compiling: list[float] = []

    def timed(seed: int) -> tuple[Draws, float]:
        start = time.perf_counter()
        draws = run(seed)
        return draws, time.perf_counter() - start

    def peer(seed: int) -> tuple[Draws, float, float]:
        if not compiling:
            compiling.append(timed(seed)[1])
        draws, seconds = timed(seed)
        return draws, seconds, max(0.0, compiling[0] - seconds)

    return peer


def _read(draws: Draws) -> xarray.Dataset:
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.items()}
    dims = {
        name: [f"{name}_dim_{index}" for index in range(value.ndim - 1)]
        for name, value in flat.items()
    }
    chains = len(next(iter(draws.values())))
    named = {name: names for name, names in dims.items() if names}
    return to_inference_data({"posterior": flat}, dims=named, num_chains=chains)["posterior"]


def measure(posterior: Posterior, run: Peer, seed: int) -> dict[str, float]:
    draws, seconds, before = run(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains that stand still
        data = _read(posterior.read(draws))
        sizes = arviz.ess(data).data_vars.values()
        spreads = arviz.rhat(data).data_vars.values()
    ess = min(float(np.nan_to_num(size, nan=1.0).min()) for size in sizes)
    r_hat = max(float(np.nan_to_num(spread, nan=np.inf).max()) for spread in spreads)
    return {
        "ms_per_ess": 1e3 * seconds / ess,
        "seconds": seconds,
        "ess": ess,
        "r_hat": r_hat,
        "compile_seconds": before,
    }


def compare(name: str, posterior: Posterior, b: Benchmark) -> dict[str, list[dict[str, float]]]:
    """The measures of each round by peer."""
    found: dict[str, list[dict[str, float]]] = {}
    todo = peers(name, posterior, b)
    for index in range(b.rounds):
        for peer, run in todo.items():
            if peer in (EAGER, COMPILED) and index >= b.eager_rounds:
                continue
            found.setdefault(peer, []).append(measure(posterior, run, index))
    return found


def summary(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of each peer; compiling is that of the first round."""
    rows = {}
    for peer, measures in rounds.items():
        row = {key: statistics.median(m[key] for m in measures) for key in measures[0]}
        row["compile_seconds"] = measures[0]["compile_seconds"]
        if NUMPYRO in rounds:
            row["ratio"] = statistics.median(
                one["ms_per_ess"] / other["ms_per_ess"]
                for one, other in zip(measures, rounds[NUMPYRO])
            )
        rows[peer] = row
    return rows


def table(name: str, rows: dict[str, dict[str, float]]) -> str:
    head = [
        name,
        "ms per effective sample",
        "x NumPyro",
        "ESS",
        "R-hat",
        "seconds",
        "compiling, s",
    ]
    lines = [
        [
            peer,
            f"{row['ms_per_ess']:.3g}",
            f"{row['ratio']:.3g}" if "ratio" in row else "",
            f"{row['ess']:.0f}",
            f"{row['r_hat']:.3f}",
            f"{row['seconds']:.2f}",
            f"{row['compile_seconds']:.1f}",
        ]
        for peer, row in rows.items()
    ]
    return markdown_table(head, lines).rstrip("\n")


def overall(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Medians over posteriors of the ratios to NumPyro and to Pyro."""
    lines = []
    for peer in (COMPILED, TOGETHER, CHEES):
        for other in (EAGER, NUMPYRO, VECTORIZED):
            ratios = [
                rows[peer]["ms_per_ess"] / rows[other]["ms_per_ess"]
                for rows in results.values()
                if other in rows
            ]
            if ratios:
                lines.append(f"{peer}: {statistics.median(ratios):.3g} x {other}")
    return "median over posteriors of the time per effective sample\n" + "\n".join(lines)


def main(b: Benchmark) -> dict[str, object]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[: b.threads])
    torch.set_num_threads(b.threads)
    todo, results = posteriors(), {}
    if unknown := sorted(set(b.works) - set(todo)):
        raise Refusal(f"unknown works {unknown}; expected some of {', '.join(WORKS)}.")
    print(f"{machine(b.threads, 'cpu')}; medians of {b.rounds} rounds\n")
    for name in tqdm(b.works, unit="posterior"):
        results[name] = summary(compare(name, todo[name], b))
        tqdm.write(table(name, results[name]) + "\n")
    print(overall(results))
    if b.out is not None:
        facts = {"machine": machine(b.threads, "cpu"), "rounds": b.rounds, "posteriors": results}
        write_atomically(b.out / "mcmc.json", (json.dumps(facts, indent=1) + "\n").encode())
    return results


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Benchmark, __doc__))
