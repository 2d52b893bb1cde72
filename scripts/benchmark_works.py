"""The works of the benchmark: pyrovae and its peers in interleaved blocks."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import benchmark_references as references
import pyro
import torch
import torch.nn as nn
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, MeanField
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.data import Batches, DictDataset, dynamic
from pyrovae.heads import BernoulliHead, CategoricalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

OURS, EAGER = "pyrovae, captured", "pyrovae, not captured"
FLUSHED = "hand-written, subnormals flushed"
Times = dict[str, list[float]]
BNN = (784, 400, 400, 10)
NUM_DATA = 60_000
CPU = torch.device("cpu")
WARM = 2
"""Warm-up rounds."""


def pair(x: int, h: int, z: int) -> tuple[pv.Model, pv.Guide]:
    encoder, decoder = MLP(x, [h], 2 * z, nn.Tanh), MLP(z, [h], x, nn.Tanh)
    model = pv.Model(z=StandardNormal(z), x=pv.Node(BernoulliHead(decoder), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(encoder), "x"))


def numpyro_is_here() -> bool:
    return importlib.util.find_spec("numpyro") is not None


def train(
    x: int,
    h: int,
    z: int,
    batch_size: int,
    particles: int,
    steps: int,
    rounds: int,
    device: torch.device = CPU,
) -> tuple[Times, dict[str, float]]:
    """Seconds per step in interleaved blocks of `steps`; FLOPs per step, and seconds of
    compilation."""
    data = Batches(
        DictDataset(x=torch.rand(steps * batch_size, x) ** 6),
        batch_size,
        shuffle=True,
        transform=dynamic,
    ).to(device)
    peers = by_hand(lambda: references.Vae(x, h, z, particles), data.take(batch_size))
    peers["Pyro's SVI"] = references.svi_vae(x, h, z, particles, device)
    facts = {"flops": flops(references.Vae(x, h, z, particles).to(device), data.take(batch_size))}
    if numpyro_is_here() and device == CPU:
        from benchmark_numpyro import numpyro_step

        step, facts["compile_seconds NumPyro"] = numpyro_step(x, h, z, particles, batch_size)
        peers["NumPyro, jitted"] = lambda batch: step(batch.numpy())
    blocks = {
        name: lambda peer=peer: [peer(batch["x"]) for batch in data]
        for name, peer in peers.items()
    }
    blocks[EAGER] = _fit_block(vae_loss(x, h, z, particles).to(device), data)
    return _race(
        lambda: vae_loss(x, h, z, particles).to(device), data, blocks, rounds, steps, facts
    ), facts


def by_hand(
    make_loss: Callable[[], nn.Module], batch: dict[str, Tensor]
) -> dict[str, references.Step]:
    example = list(batch.values())
    losses = [make_loss().to(example[0].device) for _ in range(4)]
    peers = {
        "hand-written PyTorch": references.by_hand(losses[0]),
        "hand-written, torch.compile": references.by_hand(losses[1], compiled=True),
    }
    if example[0].is_cuda:
        return peers | {"hand-written, CUDA graph": references.in_a_graph(losses[3], *example)}
    return peers | {FLUSHED: references.by_hand(losses[2])}


def vae_loss(x: int, h: int, z: int, particles: int) -> nn.Module:
    if particles > 1:
        return pv.IwaeLoss(*pair(x, h, z), num_particles=particles)
    return pv.ElboLoss(*pair(x, h, z), elbo=TraceMeanField_ELBO())


def _fit_block(loss: nn.Module, data: Batches) -> Callable[[], float]:
    """The second epoch of a short run, since the first one also validates the data."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3, fused=True)
    return lambda: pv.fit(loss, data, epochs=2, optimizer=optimizer, compile="off")[-1]["seconds"]


def _race(
    make_loss: Callable[[], nn.Module],
    data: Batches,
    blocks: dict[str, Callable[[], object]],
    rounds: int,
    steps: int,
    facts: dict[str, float],
) -> Times:
    """Captured epochs of `fit`, interleaved with the blocks of the peers; a block may return its
    own measurement in seconds."""
    times: Times = {name: [] for name in blocks}

    def others(run: object) -> None:
        for name, block in blocks.items():
            with flush_subnormals(
                name == FLUSHED
            ):  # leave the modes of `fit`, which calls this hook
                start = time.perf_counter()
                own = block()
                references.wait()
                seconds = own if isinstance(own, float) else time.perf_counter() - start
            if run.epoch > WARM:
                times[name].append(seconds / steps)

    history = pv.fit(make_loss(), data, epochs=WARM + rounds, compile="on", hooks=[others])
    ours = [second / steps for second in history["seconds"]]
    facts["compile_seconds pyrovae"] = ours[0] * steps - ours[-1] * steps
    again = pv.fit(make_loss(), data, epochs=2, compile="on")[
        "seconds"
    ]  # another network, which the cache of the compiler holds
    facts["compile_seconds pyrovae, such a step again"] = again[0] - again[1]
    return {OURS: ours[WARM:], **times}


def bnn(
    batch_size: int, steps: int, rounds: int, device: torch.device = CPU
) -> tuple[Times, dict[str, float]]:
    """A step of a mean-field network with one weight sample for the batch."""
    data = Batches(
        DictDataset(
            x=torch.rand(steps * batch_size, BNN[0]), y=torch.arange(steps * batch_size) % BNN[-1]
        ),
        batch_size,
        shuffle=True,
    ).to(device)
    facts = {
        "flops": flops(references.BayesByBackprop(BNN, NUM_DATA).to(device), data.take(batch_size))
    }
    peers = by_hand(lambda: references.BayesByBackprop(BNN, NUM_DATA), data.take(batch_size))
    peers["Pyro's SVI"] = references.svi_bnn(BNN, NUM_DATA, device)
    blocks = {
        name: lambda peer=peer: [peer(batch["x"], batch["y"]) for batch in data]
        for name, peer in peers.items()
    }
    blocks[EAGER] = _fit_block(bnn_loss().to(device), data)
    return _race(lambda: bnn_loss().to(device), data, blocks, rounds, steps, facts), facts


def bnn_loss() -> pv.ElboLoss:
    model, guide = bayesian()
    return pv.ElboLoss(model, guide, num_data=NUM_DATA, elbo=TraceMeanField_ELBO())


def flops(loss: nn.Module, batch: dict[str, Tensor]) -> float:
    """FLOPs of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        loss(**batch).backward()
    return float(counter.get_total_flops())


def bayesian() -> tuple[pv.Model, MeanField]:
    net = pv.Bayesian(MLP(BNN[0], BNN[1:-1], BNN[-1]))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    return model, MeanField(model, init_scale=0.02)


def evidence(
    particles: int,
    rounds: int,
    x: int = 784,
    h: int = 400,
    z: int = 50,
    device: torch.device = CPU,
) -> tuple[Times, dict[str, float]]:
    """Seconds for log p(x) of 16 data; the peers run between two batches of the estimate."""
    model, guide = (program.to(device) for program in pair(x, h, z))
    batch = (torch.rand(16, x, device=device) < 0.13).float()
    hand = references.Vae(x, h, z, 1).to(device)
    rows = references.products(x, h, z, 4000, device)
    passes = particles * len(batch) // 4000
    blocks: dict[str, Callable[[], object]] = {
        "matrix products alone": lambda: [product() for _ in range(passes) for product in rows],
        "hand-written PyTorch": lambda: references.evidence_by_hand(hand, batch, particles),
    }
    facts: dict[str, float] = {}
    if numpyro_is_here() and device == CPU:
        from benchmark_numpyro import numpyro_evidence

        evaluate, facts["compile_seconds NumPyro"] = numpyro_evidence(x, h, z, particles, 4000)
        blocks["NumPyro, jitted"] = lambda: evaluate(batch.numpy())
    times: Times = {name: [] for name in (OURS, *blocks)}

    def stream() -> Iterator[dict[str, Tensor]]:
        yield {"x": batch}  # inspected before the first estimate
        for index in range(WARM + rounds):
            start = time.perf_counter()
            yield {"x": batch}
            if index >= WARM:
                times[OURS].append(time.perf_counter() - start)
                with flush_subnormals(False):
                    for name, block in blocks.items():
                        times[name].append(references.seconds(block))

    with torch.no_grad():
        pv.log_evidence(model, guide, stream(), num_particles=particles, compile="on")
        one = (
            references.seconds(lambda: references.evidence_by_traces(model, guide, batch[:1], 100))
            / 100
        )
    times["a loop of traces"] = [one * particles * len(batch)]
    facts["image_samples_per_second"] = (
        particles * len(batch) / sorted(times[OURS])[len(times[OURS]) // 2]
    )
    return times, facts


def predict(
    num_data: int, draws: int, rounds: int, device: torch.device = CPU
) -> tuple[Times, dict[str, float]]:
    """Class probabilities of `num_data` images from `draws` weight samples."""
    model, guide = (program.to(device) for program in bayesian())
    x = torch.rand(num_data, BNN[0], device=device)
    net = references.BayesByBackprop(BNN, NUM_DATA).to(device)
    with torch.no_grad():
        kept = Empirical(
            {
                site.name: torch.stack([guide()[site.name] for _ in range(draws)])
                for site in guide.sites
            }
        )
    times: Times = {}
    predictive = references.predictive_bnn(BNN, x, draws)

    def ours(posterior: Callable, data: object) -> Tensor:
        return pv.predict_moments(model, posterior, data, num_samples=draws, compile="on").mean

    def local() -> Tensor:
        with pv.LocalReparameterization():
            return ours(guide, {"x": x})

    blocks = {
        "hand-written PyTorch": lambda: references.predict_by_hand(net, x, draws),
        "Pyro's Predictive": predictive,
        "pyrovae, marginals of each datum": local,
    }

    def stream() -> Iterator[dict[str, Tensor]]:
        for index in range(WARM + rounds):
            start = time.perf_counter()
            yield {"x": x}
            if index >= WARM:
                times.setdefault(OURS, []).append(time.perf_counter() - start)
                with torch.no_grad(), flush_subnormals(False):
                    for name, block in blocks.items():
                        times.setdefault(name, []).append(references.seconds(block))

    ours(kept, stream())
    return times, {}


def imports(rounds: int) -> tuple[Times, dict[str, float]]:
    times: Times = {"import pyro": [], "import pyrovae": []}
    for _ in range(rounds):
        for name, times_of in times.items():
            times_of.append(
                references.seconds(
                    lambda name=name: subprocess.run([sys.executable, "-c", name], check=True)
                )
            )
    return times, {}


def peak(device: torch.device) -> float:
    """FLOPs per second of large square matrix products in float32, by the faster implementation."""
    size = 2048 if device == CPU else 8192
    a, b = torch.rand(2, size, size, device=device)
    routes = [lambda: torch.mm(a, b)] + [lambda: torch.ops.pyrovae.onednn(a, b, None)] * (
        device == CPU
    )
    return 2 * size**3 / min(references.seconds(route) for route in routes for _ in range(5))


def clear() -> None:
    """Reset the global state of Pyro between works."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
