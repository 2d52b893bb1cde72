"""The references of the benchmark: the same work in plain PyTorch, and in Pyro as in its
examples."""

import math
import time
from collections.abc import Callable, Iterator

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

Step = Callable[[Tensor], object]
"""One training step on a batch x."""


def mlp(*sizes: int) -> nn.Sequential:
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


class Vae(nn.Module):
    """Encoder and decoder; the negative bound of K particles in nats per datum, the KL of one
    particle in closed form."""

    def __init__(self, x: int, h: int, z: int, particles: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.particles = mlp(x, h, 2 * z), mlp(z, h, x), particles

    def forward(self, x: Tensor) -> Tensor:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        if self.particles == 1:
            z = loc + log_scale.exp() * torch.randn_like(loc)
            kl = 0.5 * ((2 * log_scale).exp() + loc * loc - 1 - 2 * log_scale).sum()
            return (
                F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") + kl
            ) / len(x)
        noise = torch.randn(self.particles, *loc.shape, device=x.device)
        z = loc + log_scale.exp() * noise
        log_px = -F.binary_cross_entropy_with_logits(
            self.decoder(z), x.expand(self.particles, *x.shape), reduction="none"
        )
        log_w = log_px.sum(-1) + (0.5 * (noise**2 - z**2) + log_scale).sum(-1)
        return -(log_w.logsumexp(0) - math.log(self.particles)).mean()


def by_hand(loss: nn.Module, *, compiled: bool = False) -> Step:
    """Uses torch's fused Adam; the loss is accumulated on its device."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3, fused=True)
    evaluate, total = torch.compile(loss) if compiled else loss, [0.0]

    def step(*batch: Tensor) -> None:
        value = evaluate(*batch)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        total[0] = total[0] + value.detach()

    return step


def in_a_graph(loss: nn.Module, *example: Tensor) -> Step:
    """The whole step as one CUDA graph with static inputs, as in the documentation of torch."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3, fused=True, capturable=True)
    places, total = [value.clone() for value in example], torch.zeros((), device=example[0].device)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        value = loss(*places)
        value.backward()
        optimizer.step()
        total.add_(value.detach())

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def step(*batch: Tensor) -> None:
        for place, value in zip(places, batch):
            place.copy_(value)
        graph.replay()

    return step


def svi_vae(x: int, h: int, z: int, particles: int, device: torch.device) -> Step:
    """examples/vae/vae.py of Pyro: pyro.module, probabilities from a sigmoid, SVI and its Adam."""
    encoder, decoder = (
        mlp(x, h, 2 * z).to(device),
        nn.Sequential(*mlp(z, h, x), nn.Sigmoid()).to(device),
    )

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            latent = pyro.sample(
                "z", dist.Normal(x.new_zeros(len(x), z), x.new_ones(len(x), z)).to_event(1)
            )
            pyro.sample(
                "x", dist.Bernoulli(decoder(latent), validate_args=False).to_event(1), obs=x
            )

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    from pyro.infer import RenyiELBO

    many = {"num_particles": particles, "vectorize_particles": True, "max_plate_nesting": 1}
    elbo = Trace_ELBO() if particles == 1 else RenyiELBO(alpha=0, **many)
    return SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo).step


class BayesByBackprop(nn.Module):
    """A mean-field network with one weight sample per step and the closed-form KL to N(0, 1)
    (Blundell et al. 2015)."""

    def __init__(self, sizes: tuple[int, ...], num_data: int) -> None:
        super().__init__()
        shapes = [shape for a, b in zip(sizes, sizes[1:]) for shape in ((b, a), (b,))]
        self.num_data = num_data
        self.loc = nn.ParameterList(0.05 * torch.randn(shape) for shape in shapes)
        self.log_scale = nn.ParameterList(torch.full(shape, -4.0) for shape in shapes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        kl, h, last = 0.0, x, len(self.loc) - 2
        for i in range(0, len(self.loc), 2):
            weight, bias = (self.draw(j) for j in (i, i + 1))
            h = F.linear(h, weight, bias)
            h = h if i == last else torch.relu(h)
            kl = kl + self.kl(i) + self.kl(i + 1)
        return F.cross_entropy(h, y) + kl / self.num_data

    def draw(self, i: int) -> Tensor:
        return self.loc[i] + self.log_scale[i].exp() * torch.randn_like(self.loc[i])

    def kl(self, i: int) -> Tensor:
        return (
            0.5
            * ((2 * self.log_scale[i]).exp() + self.loc[i] ** 2 - 1 - 2 * self.log_scale[i]).sum()
        )


def predict_by_hand(net: BayesByBackprop, x: Tensor, draws: int) -> Tensor:
    """Class probabilities from one forward pass for each weight sample."""
    total, last = 0.0, len(net.loc) - 2
    for _ in range(draws):
        h = x
        for i in range(0, len(net.loc), 2):
            h = F.linear(h, net.draw(i), net.draw(i + 1))
            h = h if i == last else torch.relu(h)
        total = total + h.softmax(-1)
    return total / draws


def pyro_bnn(
    sizes: tuple[int, ...], num_data: int, device: torch.device
) -> tuple[Callable, AutoNormal]:
    """Weights as PyroSamples, as in the tutorial of Pyro on Bayesian regression."""
    from pyro.nn import PyroModule, PyroSample

    class Net(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = PyroModule[nn.ModuleList](
                [PyroModule[nn.Linear](a, b) for a, b in zip(sizes, sizes[1:])]
            )
            for layer in self.layers:
                layer.weight = PyroSample(
                    dist.Normal(0.0, 1.0).expand(layer.weight.shape).to_event(2)
                )
                layer.bias = PyroSample(dist.Normal(0.0, 1.0).expand(layer.bias.shape).to_event(1))

        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            for layer in self.layers[:-1]:
                x = torch.relu(layer(x))
            logits = self.layers[-1](x)
            with pyro.plate("data", num_data, subsample_size=len(x)):
                pyro.sample("y", dist.Categorical(logits=logits), obs=y)
            return logits

    net = Net().to(device)
    return net, AutoNormal(net, init_scale=0.02)


def svi_bnn(sizes: tuple[int, ...], num_data: int, device: torch.device) -> Step:
    return SVI(
        *pyro_bnn(sizes, num_data, device), pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO()
    ).step


def predictive_bnn(sizes: tuple[int, ...], x: Tensor, draws: int) -> Callable[[], Tensor]:
    net, guide = pyro_bnn(sizes, len(x), x.device)
    guide(x, torch.zeros(len(x), dtype=torch.long, device=x.device))
    predictive = Predictive(net, guide=guide, num_samples=draws, return_sites=("_RETURN",))
    return lambda: predictive(x)["_RETURN"].softmax(-1).mean(0)


def evidence_by_hand(vae: Vae, x: Tensor, particles: int, chunk: int = 250) -> Tensor:
    """log p(x) by a loop over chunks of particles, with one pass of the encoder."""
    loc, log_scale = vae.encoder(x).chunk(2, -1)
    log_w = []
    for size in _chunks(particles, chunk):
        noise = torch.randn(size, *loc.shape, device=x.device)
        z = loc + log_scale.exp() * noise
        log_px = -F.binary_cross_entropy_with_logits(
            vae.decoder(z), x.expand(size, *x.shape), reduction="none"
        ).sum(-1)
        log_w.append(log_px + (0.5 * (noise**2 - z**2) + log_scale).sum(-1))
    return torch.cat(log_w).logsumexp(0) - math.log(particles)


def evidence_by_traces(model: Callable, guide: Callable, x: Tensor, particles: int) -> Tensor:
    """log p(x) by a pair of traces for each datum and particle."""
    from pyro import poutine

    log_w = []
    for _ in range(particles):
        guide_trace = poutine.trace(guide).get_trace(x=x)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x=x)
        log_w.append(model_trace.log_prob_sum() - guide_trace.log_prob_sum())
    return torch.stack(log_w).logsumexp(0) - math.log(particles)


def products(
    x: int, h: int, z: int, rows: int, device: torch.device
) -> list[Callable[[], Tensor]]:
    """The matrix products of a decoder on this number of rows: a lower bound on its time."""
    shapes = [(rows, z, h), (rows, h, x)]
    pairs = [
        (torch.rand(m, k, device=device), torch.rand(n, k, device=device)) for m, k, n in shapes
    ]
    return [lambda a=a, b=b: torch.mm(a, b.t()) for a, b in pairs]


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
