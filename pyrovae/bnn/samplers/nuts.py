"""The no-U-turn sampler of many chains at once, on any model."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.nuts_path import NutsPath
from pyrovae.bnn.samplers.potential import Potential
from pyrovae.bnn.samplers.stacked_chains import Chains, check_numbers
from pyrovae.bnn.samplers.start import starts
from pyrovae.bnn.samplers.warmup import Warmup
from pyrovae.capture.auto import Compile


def nuts(
    model: Callable,
    batch: Mapping[str, Tensor],
    *,
    num_samples: int,
    warmup: int,
    num_chains: int = 4,
    max_depth: int = 10,
    target: float = 0.8,
    start: Mapping[str, Tensor] | None = None,
    jitter: float = 0.0,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""Draws of p(sites | batch) by NUTS with `num_chains` chains side by side: all continuous latent
    sites of any Pyro model, given all N data at once.

    A path doubles, forward or backward in time, until it turns back, and the draw is one of its
    points, by their densities. A leapfrog step of all chains is one graph; chains whose path has
    turned wait for the others. Over `warmup` iterations each chain adapts its step size, so that the
    mean acceptance probability becomes `target`, and, if they are at least 20, all chains together
    the variance of each number, in windows; then both are fixed. Exact up to Monte Carlo error if it
    mixes: look at R-hat over chains.

    max_depth: a path has at most 2^max_depth - 1 leapfrog steps.
    `chees` says what start, jitter, compile and progress are. `mcmc` with Pyro's `NUTS` takes models
    with discrete sites, which it sums out, one chain after another.

    Shapes: draws `(S, C, *shape)` of C chains. Energies in nats.
    Raises: as `chees`.
    Source: Hoffman & Gelman 2014, arXiv:1111.4246; draws in proportion to densities and the
    criterion: Betancourt 2017, arXiv:1701.02434, appendix A; without recursion: Phan, Pradhan &
    Jankowiak 2019, arXiv:1912.11554, algorithm 2.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model() -> None:
        ...     pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        >>> nuts(model, {}, num_samples=3, warmup=5).draws["w"].shape
        torch.Size([3, 4, 3])
    """
    check_numbers(
        num_samples=num_samples, num_chains=num_chains, max_depth=max_depth, warmup=warmup
    )
    potential = Potential(model, batch)
    with torch.no_grad():
        path = NutsPath(
            starts(potential, num_chains, start, jitter),
            potential.value_and_gradient,
            potential.modules,
            max_depth,
            # where torch.vmap refuses the model, its operations would be recorded once for each chain
            compile if potential.batched else "off",
        )
        adapt = Warmup(path, warmup, None, target, pooled=True)
        kept = []
        for iteration in range(warmup + num_samples):
            moved = path(adapt.value)
            if iteration < warmup:
                adapt.update(moved.accept, last=iteration == warmup - 1)
            else:
                kept.append((path.q, *moved))
            progress(iteration)
    q, accept, energy, divergent = (torch.stack(parts) for parts in zip(*kept))
    return Chains(potential.sites(q), accept, energy, divergent, adapt.value)
