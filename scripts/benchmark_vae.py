"""Time the training of a VAE against the same loop written by hand in PyTorch, and against Pyro's own SVI.

All run in one process, in epochs that take turns, on the IWAE paper's 784-200-200-50 tanh net with Adam and the same
dynamically binarised minibatches; the medians of their ratios are printed. The hand-written loop takes the KL in closed
form and uses the same fused Adam; `fit` includes its checks, logging and history.
"""
import statistics
import time
from collections.abc import Callable

import pyro
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from tqdm.auto import trange

import pyrovae as pv
from pyrovae.data import Batches, DictDataset, dynamic
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

X, Z, H = 784, 50, [200, 200]


def nets(device: torch.device) -> tuple[MLP, MLP]:
    return MLP(X, H, 2 * Z, nn.Tanh).to(device), MLP(Z, H, X, nn.Tanh).to(device)


def hand_written(data: Batches, device: torch.device) -> Callable[[], float | None]:
    """An epoch as one would write it, the loss read back once a step."""
    encoder, decoder = nets(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)

    def run() -> None:
        for batch in data:
            x = batch["x"]
            loc, log_scale = encoder(x).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = 0.5 * ((2 * log_scale).exp() + loc * loc - 1 - 2 * log_scale).sum()
            loss = (reconstruction + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return run


def pair(device: torch.device) -> tuple[pv.Model, pv.Guide]:
    encoder, decoder = nets(device)
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(decoder), "z")).to(device)
    return model, pv.Guide(z=pv.Node(NormalHead(encoder), "x")).to(device)


def with_fit(data: Batches, device: torch.device, elbo: type) -> Callable[[], float | None]:
    """The seconds of an epoch of `pyrovae.fit`, the second of two: the first of a run also checks the data."""
    loss = pv.ElboLoss(*pair(device), elbo=elbo())
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3, fused=True)
    return lambda: pv.fit(loss, data, epochs=2, optimizer=optimizer)[-1]["seconds"]


def with_svi(data: Batches, device: torch.device) -> Callable[[], float | None]:
    """An epoch of Pyro's own loop on the same pair."""
    svi = SVI(*pair(device), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())

    def run() -> None:
        for batch in data:
            svi.step(**batch)

    return run


def main(batch_size: int = 100, steps: int = 600, rounds: int = 5, threads: int = 1, device: str = "cpu") -> None:
    """Run the benchmark.

    Args:
        batch_size: data in a step.
        steps: steps in an epoch.
        rounds: epochs of each; medians are over these.
        threads: CPU threads.
        device: cpu or cuda.
    """
    torch.set_num_threads(threads)
    where = torch.device(device)
    data = Batches(DictDataset(x=torch.rand(batch_size * steps, X) ** 6), batch_size, shuffle=True,
                   transform=dynamic).to(where)  # grey pixels of MNIST's mean
    blocks = {"hand-written PyTorch": hand_written(data, where),
              "pyrovae.fit, Trace_ELBO": with_fit(data, where, Trace_ELBO),
              "pyrovae.fit, TraceMeanField_ELBO": with_fit(data, where, TraceMeanField_ELBO),
              "pyro.infer.SVI, Trace_ELBO": with_svi(data, where)}
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    for i in trange(rounds + 1, desc="rounds"):
        for name, block in blocks.items():
            start = time.perf_counter()
            own = block()
            if where.type == "cuda":
                torch.cuda.synchronize()
            if i:  # the first round warms up
                seconds[name].append(own or time.perf_counter() - start)
    unit = seconds["hand-written PyTorch"]
    print(f"batch {batch_size}, {threads} thread(s), {device}, torch {torch.__version__}, pyro {pyro.__version__}; "
          f"medians of {rounds} epochs of {steps} steps")
    for name, times in seconds.items():
        ratio = statistics.median(t / u for t, u in zip(times, unit))
        print(f"{name:34s} {1e3 * statistics.median(times) / steps:7.2f} ms a step   {ratio:.2f} x hand-written")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
