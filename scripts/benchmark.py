"""Time pyrovae against hand-written PyTorch, the training loops of Pyro, and NumPyro, in
interleaved rounds in one process.

    python scripts/benchmark.py train evidence --out runs/benchmark

prints medians, and medians of the ratios within a round, and writes them to benchmark.json.
NumPyro is included if it is installed. Compilation starts from an empty cache; the first case
includes the start-up time of the compiler.

Works: train (VAE steps), tiny (a step with negligible arithmetic), bnn (steps of a Bayesian net),
evidence (log p(x)), predict (predictions of a Bayesian net), import; and profile, a breakdown of
the time of a captured step.
"""

import dataclasses
import json
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import benchmark_works as works
import command_line
import pyro
import torch
import tyro
from script_context import script_context
from tqdm.auto import tqdm

import pyrovae as pv
from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder, Positive, Some, Threads
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.tables import markdown_table

WORKS = ("train", "tiny", "bnn", "evidence", "predict", "import")
PROFILE = "profile"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    works: Annotated[tuple[str, ...], tyro.conf.Positional, Some()] = WORKS
    """Some of train, tiny, bnn, evidence, predict, import, profile."""
    rounds: Count = 9
    """Timed blocks of each peer; medians are taken over them."""
    seconds: Positive = 0.5
    """Approximate duration of a block of steps."""
    threads: Threads = 1
    """CPU threads; the process is pinned to as many cores."""
    device: str = "cpu"
    """cpu, or cuda, where a hand-written CUDA graph is included and NumPyro is not."""
    out: OutFolder | None = None
    """Folder of benchmark.json."""

    def __post_init__(self) -> None:
        bounds.check(self)


def cases(b: Benchmark) -> dict[str, Callable[[], tuple[works.Times, dict[str, float]]]]:
    def train(
        batch_size: int, particles: int = 1, x: int = 784, h: int = 400, z: int = 50
    ) -> Callable:
        steps = max(10, round(b.seconds / (3e-4 + 6e-5 * batch_size * particles * x / 784)))
        return lambda: works.train(x, h, z, batch_size, particles, steps, b.rounds, device)

    device = choose_device(b.device)
    steps_of_bnn = max(10, round(b.seconds / 0.02))
    every = {
        "train": {
            **{f"VAE 784-400-50, a step, B = {size}": train(size) for size in (32, 128, 256)},
            **{f"the same, IWAE k = 5, B = {size}": train(size, 5) for size in (32, 128)},
        },
        "tiny": {"VAE 8-4-2, a step, B = 8": train(8, x=8, h=4, z=2)},
        "bnn": {
            "mean-field 784-400-400-10, a step, B = 128": lambda: works.bnn(
                128, steps_of_bnn, b.rounds, device
            )
        },
        "evidence": {
            f"log p(x) of 16 images, K = {k}": lambda k=k: works.evidence(
                k, b.rounds, device=device
            )
            for k in (1000, 5000)
        },
        "predict": {
            f"784-400-400-10, 100 draws, N = {n}": lambda n=n: works.predict(
                n, 100, b.rounds, device
            )
            for n in (1, 100, 1000)
        },
        "import": {"import": lambda: works.imports(b.rounds)},
    }
    if PROFILE in b.works and device.type != "cpu":
        raise Refusal("profile runs on a CPU only; drop it, or use --device cpu.")
    unknown = sorted(set(b.works) - {*every, PROFILE})
    if unknown:
        raise Refusal(f"unknown works {unknown}; expected some of {', '.join((*WORKS, PROFILE))}.")
    return {
        name: case for work in b.works if work != PROFILE for name, case in every[work].items()
    }


def profiles(peak: float) -> str:
    """Breakdowns of the time of a step, as Markdown tables."""
    from benchmark_profile import CASES, bandwidth, where_time_goes

    speed, tables = bandwidth(), []
    for name, case in CASES.items():
        spent = where_time_goes(case, peak, speed)
        rows = [
            [kind, f"{value:.2f}", f"{value / spent['a step']:.0%}"]
            for kind, value in spent.items()
        ]
        tables.append(markdown_table([name, "ms", "share"], rows))
    return f"copies run at {speed / 1e9:.0f} GB/s\n\n" + "\n".join(tables).rstrip("\n")


def table(
    name: str, times: works.Times, facts: dict[str, float], peak: float
) -> tuple[str, dict[str, object]]:
    """The results of one case, as a Markdown table and as numbers."""
    unit = next(
        (peer for peer in ("hand-written PyTorch", "import pyro") if peer in times),
        next(iter(times)),
    )
    rows = {
        peer: {
            "seconds": statistics.median(seconds),
            "ratio": statistics.median(a / b for a, b in zip(seconds, times[unit])),
        }
        for peer, seconds in times.items()
    }
    lines = [
        [peer, _digits(1e3 * row["seconds"]), f"{row['ratio']:.2f}"] for peer, row in rows.items()
    ]
    if "flops" in facts:
        floor = facts["flops"] / peak
        facts = {**facts, "floor_seconds": floor}
        ratio = f"{floor / rows[unit]['seconds']:.2f}"
        lines.append(["its matrix products at the measured peak", _digits(1e3 * floor), ratio])
    lines += [
        [f"compiling, {fact.removeprefix('compile_seconds ')}", _digits(1e3 * value), ""]
        for fact, value in facts.items()
        if fact.startswith("compile_seconds")
    ]
    text = markdown_table([name, "ms", f"x {unit}"], lines).rstrip("\n")
    return text, {"peers": rows, "facts": facts, "unit": unit}


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def machine(threads: int, device: str) -> str:
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    gpu = f"{torch.cuda.get_device_name(device)}, " if torch.device(device).type == "cuda" else ""
    return (
        f"{gpu}{model} ({torch.backends.cpu.get_cpu_capability()}), {threads} thread(s), torch {torch.__version__}, "
        f"pyro {pyro.__version__}"
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main(b: Benchmark) -> dict[str, object]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[: b.threads])  # NumPyro uses all available cores
    torch.set_num_threads(b.threads)
    cache = tempfile.TemporaryDirectory()  # so that nothing is compiled in advance
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    warnings.simplefilter("ignore", pv.CollapseWarning)  # the data are noise
    todo, peak, results = cases(b), works.peak(choose_device(b.device)), {}
    print(
        f"{machine(b.threads, b.device)}; matrix products up to {peak / 1e9:.0f} GFLOP/s; medians of {b.rounds} rounds\n"
    )
    for name, case in tqdm(todo.items(), unit="case"):
        works.clear()
        text, results[name] = table(name, *case(), peak)
        tqdm.write(text + "\n")
    if PROFILE in b.works:
        print(profiles(peak))
    if b.out is not None:
        write_atomically(
            b.out / "benchmark.json",
            (
                json.dumps(
                    {
                        "machine": machine(b.threads, b.device),
                        "rounds": b.rounds,
                        "peak_flops": peak,
                        "cases": results,
                    },
                    indent=1,
                )
                + "\n"
            ).encode(),
        )
    return results


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Benchmark, __doc__))
