"""Pyro's Markov chains (NUTS, HMC, random walks) on any model, one chain after another."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import pyro
import torch
from pyro import poutine
from pyro.infer import RandomWalkKernel
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import Transform, biject_to

from pyrovae.bnn.samplers.compiled_kernel import CompiledKernels, Wraps
from pyrovae.bnn.samplers.known_values import DrawKnown
from pyrovae.bnn.samplers.potential import uniform_start
from pyrovae.bnn.samplers.stacked_chains import Chains
from pyrovae.capture.auto import Compile
from pyrovae.core.batching import as_batch, exemplar_of
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.target_shapes import check_one_score_each
from pyrovae.core.traces import sample_sites
from pyrovae.core.types import Site, nodes_of

Kernel = Callable[[Callable], MCMCKernel]
"""Makes one of Pyro's kernels from a model."""


@runtime_checkable
class HasCache(Protocol):
    """A kernel that caches the potential energy and gradient at its position."""

    def clear_cache(self) -> None:
        """Clear the cache."""


class ChainKernel(Protocol):
    """What all of Pyro's kernels have beyond `MCMCKernel`."""

    initial_params: dict[str, Tensor]

    @property
    def transforms(self) -> Mapping[str, Transform]:
        """Transforms to the unconstrained scale, by site."""

    def potential_fn(self, params: Mapping[str, Tensor], /) -> Tensor:
        """-log p in nats."""

    def setup(self, warmup_steps: int, *args: object, **kwargs: object) -> None:
        """Called before the first step."""

    def sample(self, params: dict[str, Tensor], /) -> dict[str, Tensor]:
        """One step from `params`."""


def mcmc(
    model: Callable,
    batch: Mapping[str, Tensor],
    kernel: Kernel,
    *,
    num_samples: int,
    warmup: int,
    num_chains: int = 1,
    start: Mapping[str, Tensor] | None = None,
    jitter: float = 0.0,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""Draws of p(sites | batch) by one of Pyro's kernels: every latent site of `model`, given all
    N data at once.

    kernel: makes one from a model: `NUTS`, `lambda model: HMC(model, num_steps=20)`,
        `RandomWalkKernel`, or `lambda model: Gibbs(model, NUTS, variance=noise_variance())`.
    start: the value of each latent site where chains begin, e.g. `guide.values()` of a trained
        `PointEstimate(model)`; by default the kernel chooses (at random, on the unconstrained
        scale). jitter: standard deviation of the normal noise that each chain adds to it there (on
        the logarithm of positive sites).
    compile: whether HMC and NUTS, alone or within `Gibbs`, run on a potential that is captured and
        compiled with its gradient: "on" at once, "auto" after some seconds, "off" never. The draws are
        the same up to rounding. Of a model that cannot be captured, and of other kernels, the log says
        why they run eagerly.
    progress: called after each iteration, warm-up included, with its number; later chains count
        on.

    Parameters of the model that are no sites stay as they are. The chains run in this process on
    torch's global generator; Pyro's parameter store and settings are left alone. Of
    `sample_stats()`, energy is U + kinetic energy at the start of each path in nats (U alone for
    random walks), acceptance_rate what the step size is adapted by.

    Raises: ValueError for numbers below 1, for a `start` whose names or shapes are not those of the
    latent sites, and for a site whose support depends on others, which `chees` takes; PairError for
    targets that would be broadcast.
    Source: NUTS: Hoffman & Gelman 2014, arXiv:1111.4246; the implementations are Pyro's.

    Example:
        >>> from pyro.infer import NUTS
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> model = Model(y=Node(FixedScaleNormalHead(Bayesian(torch.nn.Linear(1, 1)), scale=0.5), "x"))
        >>> batch = {"x": torch.ones(8, 1), "y": torch.ones(8, 1)}
        >>> mcmc(model, batch, NUTS, num_samples=3, warmup=3, num_chains=2).draws["w.weight"].shape
        torch.Size([3, 2, 1, 1])
    """
    if min(num_samples, num_chains) < 1 or warmup < 0:
        raise ValueError(
            f"num_samples={num_samples}, num_chains={num_chains}, warmup={warmup}, expected at least 1 of the "
            "first two, and a warm-up of at least 0."
        )
    chains, compiled = [], CompiledKernels(model, compile=compile)
    batch = as_batch(batch, None, exemplar_of(model))
    with local_param_scope(), poutine.block(), pyro.validation_enabled(False):
        _refuse_moving_supports(model, batch)
        first = None if start is None else _unconstrained(model, batch, start)
        for chain in range(num_chains):
            begin = (
                None
                if first is None
                else {
                    name: value + jitter * torch.randn_like(value) for name, value in first.items()
                }
            )
            chains.append(
                _run(
                    cast(ChainKernel, compiled.prepare(kernel(DrawKnown()(model)))),
                    batch,
                    num_samples,
                    warmup,
                    begin,
                    _counted_on(progress, chain * (warmup + num_samples)),
                )
            )
    draws, accept, energy, divergent, step_size = zip(*chains)
    return Chains(
        {name: torch.stack([draw[name] for draw in draws], 1) for name in draws[0]},
        torch.stack(accept, 1),
        torch.stack(energy, 1),
        torch.stack(divergent, 1),
        torch.stack(step_size),
    )


def _counted_on(progress: Callable[[int], object], done: int) -> Callable[[int], object]:
    return lambda iteration: progress(done + iteration)


def changed(kernel: ChainKernel, params: Mapping[str, Tensor]) -> None:
    """Make a kernel continue from `params`, under a density that may have changed since."""
    if isinstance(kernel, RandomWalkKernel):
        kernel._energy_last = kernel.potential_fn(params)
    elif isinstance(kernel, HasCache):
        kernel.clear_cache()


def _refuse_moving_supports(model: Callable, batch: Mapping[str, Tensor]) -> None:
    """Raise ValueError for sites whose supports differ between two runs: Pyro's kernels map each site
    to the support that it had in their first run."""
    with preserve_state(find_modules(model).values()):
        runs = [
            prune_subsample_sites(
                poutine.trace(InitMessenger(uniform_start)(model)).get_trace(**batch)
            )
            for _ in range(2)
        ]
    for site in sample_sites(runs[0], observed=True).values():
        check_one_score_each(site)
    for name, site in sample_sites(runs[0], observed=False).items():
        support = site["fn"].support
        if support.is_discrete:
            continue
        own, other = biject_to(support), biject_to(nodes_of(runs[1])[name]["fn"].support)
        q = own.inv(site["value"].detach())
        if not torch.allclose(own(q), other(q)):
            raise ValueError(
                f"the support of site {name!r} depends on other sites, but Pyro's kernels keep the one of their "
                "first run, and would draw from another density. Use chees(model, batch, ...), which follows it, "
                "or sample a number of fixed support and scale it."
            )


def _unconstrained(
    model: Callable, batch: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    trace = prune_subsample_sites(poutine.trace(model).get_trace(**batch))
    sites = {
        name: site
        for name, site in sample_sites(trace, observed=False).items()
        if not site["fn"].has_enumerate_support
    }  # Pyro sums out enumerable sites
    expected = {name: tuple(site["value"].shape) for name, site in sites.items()}
    given = {name: tuple(value.shape) for name, value in start.items()}
    if given != expected:
        raise ValueError(
            f"the chains are to start at values of shapes {given}, but the latent sites have {expected}. "
            "Name each, and no other."
        )
    return {
        name: biject_to(site["fn"].support).inv(start[name].detach()).clone()
        for name, site in sites.items()
    }


def _run(
    kernel: ChainKernel,
    batch: Mapping[str, Tensor],
    num_samples: int,
    warmup: int,
    begin: dict[str, Tensor] | None,
    progress: Callable[[int], object],
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Constrained draws, acceptance, energy, divergence and step size of one chain."""
    if begin is not None:
        kernel.initial_params = begin
    kernel.setup(warmup, **batch)
    params = kernel.initial_params
    if begin is not None:
        params = begin
        changed(kernel, params)  # a random walk starts at a point of its own choice
    mover: Any = kernel.kernel if isinstance(kernel, Wraps) else kernel
    kept, accept, energy, before = [], [], [], 0.0
    for iteration in range(warmup + num_samples):
        potential = kernel.potential_fn(params) if iteration >= warmup else None
        with _Momentum() as momentum:
            params = kernel.sample(params)
        if potential is not None:
            count, mean = iteration - warmup + 1, float(mover._mean_accept_prob)
            accept.append(
                min(1.0, max(0.0, count * mean - (count - 1) * before))
            )  # Pyro keeps a running mean
            energy.append(potential.detach() + momentum.kinetic)
            kept.append(params)
            before = mean
        progress(iteration)
    draws = {name: torch.stack([params[name] for params in kept]).detach() for name in kept[0]}
    draws = {name: kernel.transforms[name].inv(value) for name, value in draws.items()}
    divergent = torch.zeros(num_samples, dtype=torch.bool)
    divergent[mover.diagnostics().get("divergences", [])] = True
    step_size = (
        math.exp(mover._log_step_size) if isinstance(mover, RandomWalkKernel) else mover.step_size
    )
    return draws, torch.tensor(accept), torch.stack(energy), divergent, torch.as_tensor(step_size)


class _Momentum(Messenger):
    """Read the momentum that HMC and NUTS draw, by `pyro.sample`, at the start of each path."""

    def __init__(self) -> None:
        super().__init__()
        self.kinetic: float | Tensor = 0.0

    def _pyro_post_sample(self, msg: Site) -> None:
        if msg["name"].startswith("r_t="):
            self.kinetic = self.kinetic + 0.5 * msg["value"].square().sum()
