"""A breakdown of the time of a captured step, and lower bounds on it."""

import time
from collections.abc import Callable

import benchmark_references as references
import benchmark_works as works
import torch
import torch.nn as nn
from torch.profiler import profile

import pyrovae as pv
from pyrovae.data import Batches, DictDataset, dynamic

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "onednn", "_linear_pointwise"),
    "random numbers": ("normal_", "uniform_", "random_", "bernoulli_", "exponential_"),
    "Adam": ("_fused_adam_", "_fused_adamw_"),
    "everything else of the model, in compiled kernels": ("Call CompiledFxGraph",),
    "data: gather, compare, copy": ("index_select", "index", "lt", "copy_", "cat", "stack"),
}
"""Names of operations by kind; the rest is Python and small operations."""


def vae() -> tuple[nn.Module, Batches, float]:
    """A loss, its data, and the FLOPs of the matrix products of a step."""
    data = Batches(
        DictDataset(x=torch.rand(60 * 128, 784) ** 6), 128, shuffle=True, transform=dynamic
    )
    batch = data.take(128)
    return (
        works.vae_loss(784, 400, 50, 1),
        data,
        works.flops(references.Vae(784, 400, 50, 1), batch),
    )


def bnn() -> tuple[nn.Module, Batches, float]:
    data = Batches(
        DictDataset(x=torch.rand(60 * 128, 784), y=torch.arange(60 * 128) % 10), 128, shuffle=True
    )
    return (
        works.bnn_loss(),
        data,
        works.flops(references.BayesByBackprop(works.BNN, works.NUM_DATA), data.take(128)),
    )


CASES: dict[str, Callable[[], tuple[nn.Module, Batches, float]]] = {
    "VAE 784-400-50, B = 128": vae,
    "mean-field 784-400-400-10, B = 128": bnn,
}


def where_time_goes(
    case: Callable[[], tuple[nn.Module, Batches, float]], peak: float, bandwidth: float
) -> dict[str, float]:
    """Milliseconds per step by kind, in all without the profiler, and the lower bounds."""
    loss, data, flops = case()
    watch, found = profile(activities=[torch.profiler.ProfilerActivity.CPU]), []

    def hook(run: object) -> None:
        if run.epoch == 3:
            watch.__enter__()
            found.append(time.perf_counter())
        elif run.epoch == 4:
            found.append(time.perf_counter() - found[0])
            watch.__exit__(None, None, None)

    history, steps = pv.fit(loss, data, epochs=9, compile="on", hooks=[hook]), len(data)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in watch.key_averages():
        name = event.key.removeprefix("aten::").removeprefix("mkldnn::").removeprefix("pyrovae::")
        for kind, names in KINDS.items():
            if name in names or any(part in name for part in names if " " in part):
                spent[kind] += event.self_cpu_time_total / 1e3 / steps
    whole = 1e3 * min(history["seconds"][4:]) / steps
    scale = whole / (1e3 * found[1] / steps)  # the overhead of the profiler is spread evenly
    spent = {kind: scale * value for kind, value in spent.items()}
    count = sum(parameter.numel() for parameter in loss.parameters() if parameter.requires_grad)
    return {
        **spent,
        "Python and small operations": whole - sum(spent.values()),
        "a step": whole,
        "floor: matrix products at the measured peak": 1e3 * flops / peak,
        "floor: weights, moments and gradients through memory once (28 bytes a parameter)": 28e3
        * count
        / bandwidth,
    }


def bandwidth(size: int = 2**21) -> float:
    """Bytes per second when copying arrays of 8 MiB, which exceed the cache, like the weights and
    moments of a layer."""
    a, b = torch.rand(size), torch.rand(size)
    return 2 * 4 * size / min(references.seconds(lambda: a.copy_(b)) for _ in range(20))
