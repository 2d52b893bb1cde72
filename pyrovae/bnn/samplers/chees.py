"""HMC of many chains at once that adapts its trajectory length (ChEES-HMC)."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.chees_step import ADAPTED, transition
from pyrovae.bnn.samplers.hmc import leapfrog
from pyrovae.bnn.samplers.potential import Potential
from pyrovae.bnn.samplers.replayed import Replayed, elsewhere
from pyrovae.bnn.samplers.stacked_chains import Chains
from pyrovae.bnn.samplers.start import reasonable_step, starts
from pyrovae.capture.auto import Compile


def chees(
    model: Callable,
    batch: Mapping[str, Tensor],
    *,
    num_samples: int,
    warmup: int,
    num_chains: int = 64,
    target: float = 0.651,
    max_leapfrogs: int = 1000,
    start: Mapping[str, Tensor] | None = None,
    jitter: float = 0.0,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""Draws of p(sites | batch) by HMC with `num_chains` chains that move together: all continuous
    latent sites of any Pyro model, given all N data at once.

    A leapfrog step of all chains is one graph, accepting, adapting and drawing momenta another.
    Over `warmup` iterations the chains, pooled, adapt the step size (dual averaging, so that the
    harmonic mean of their acceptance probabilities becomes `target`), the trajectory length (along
    the gradient of the ChEES criterion) and the scale of each number; then all three are fixed.
    The share of the length that a path takes follows a Halton sequence. Exact up to Monte Carlo
    error if it mixes: look at R-hat over chains.

    num_samples: draws of each chain. A few chains adapt badly; 64 cost little more than one.
    max_leapfrogs: the longest path.
    start: the value of each latent site where chains begin, and jitter, the standard deviation of
        the normal noise that each adds to it on the unconstrained scale; by default they begin
        uniformly in (-2, 2) there.
    compile: "on" captures and compiles both graphs at once, "auto" after some seconds, "off" never;
        where it cannot be done the log says why, and the chains run eagerly.
    progress: called after each iteration, warm-up included, with its number.

    Raises: ValueError for numbers below 1, discrete latent sites, a density that is random, and
    where no point of finite density is found to start at; PairError for targets that would be
    broadcast.
    Source: Hoffman, Radul & Sountsov 2021, AISTATS (PMLR 130:3907); difference: positions are
    divided by the standard deviations of the pooled chains.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model() -> None:
        ...     pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        >>> chees(model, {}, num_samples=3, warmup=5, num_chains=8).draws["w"].shape
        torch.Size([3, 8, 3])
    """
    if min(num_samples, num_chains, max_leapfrogs) < 1 or warmup < 0:
        raise ValueError(
            f"num_samples={num_samples}, num_chains={num_chains}, max_leapfrogs={max_leapfrogs}, warmup={warmup}, "
            "expected at least 1 of the first three, and a warm-up of at least 0."
        )
    potential = Potential(model, batch)
    # where torch.vmap refuses the model, its operations would be recorded once for each chain
    path_compile = compile if potential.batched else "off"
    kick = Replayed(
        leapfrog(potential.value_and_gradient),
        potential.modules,
        compile=path_compile,
        probe=elsewhere,
    )
    turn = Replayed(transition(target, max_leapfrogs), compile=compile)
    with torch.no_grad():
        q = starts(potential, num_chains, start, jitter)
        state = _at_rest(potential, q, reasonable_step(potential, kick, q))
        kept, halton = [], van_der_corput()
        for iteration in range(warmup + num_samples + 1):  # ends one path and begins the next
            total = state["total"]
            state |= _numbers(
                q,
                count=max(iteration, 1),
                adapt=1 <= iteration <= warmup,
                final=iteration >= warmup > 0,
                fraction=next(halton),
            )
            state |= turn(state)
            if iteration > warmup:
                kept.append((state["q"], state["accept"], total, state["diverged"]))
            if iteration > 0:
                progress(iteration - 1)
            if iteration < warmup + num_samples:
                _path(state, kick)
    q, accept, energy, divergent = (torch.stack(parts) for parts in zip(*kept))
    final = state["mean_log_step" if warmup else "log_step"].exp()
    return Chains(potential.sites(q), accept, energy, divergent, final.expand(num_chains).clone())


def _path(state: dict[str, Tensor], kick: Replayed[list[Tensor]]) -> None:
    q, p, step = state["q"], state["p"], state["step"]
    for _ in range(int(state["leapfrogs"])):
        q, p, energy, gradient = kick({"q": q, "p": p, "step": step})
    state |= {"new_q": q, "new_p": p, "new_energy": energy, "new_gradient": gradient}


def _at_rest(potential: Potential, q: Tensor, step: float) -> dict[str, Tensor]:
    """The state before the first path: as after a path of no length, which is accepted."""
    energy, gradient = potential.value_and_gradient(q)
    adapted = dict.fromkeys(ADAPTED, 0.0) | {
        "log_step": torch.tensor(step).log().item(),
        "anchor": torch.tensor(10.0 * step).log().item(),
    }
    scale = torch.ones_like(q[0])
    return {
        **{"q": q, "energy": energy, "gradient": gradient, "total": energy},
        **{"new_q": q, "new_energy": energy, "new_gradient": gradient},
        **{"new_p": -0.5 * step * gradient, "step": step * scale, "time": q.new_zeros(())},
        **{"center": q.mean(0), "variance": scale},
        **{name: q.new_tensor(value) for name, value in adapted.items()},
    }


def _numbers(like: Tensor, **values: float) -> dict[str, Tensor]:
    return {name: like.new_tensor(float(value)) for name, value in values.items()}


def van_der_corput() -> Iterator[float]:
    """The Halton sequence of base 2: 1/2, 1/4, 3/4, 1/8, ...

    Example:
        >>> sequence = van_der_corput()
        >>> [next(sequence) for _ in range(3)]
        [0.5, 0.25, 0.75]
    """
    index = 0
    while True:
        index += 1
        value, share, rest = 0.0, 0.5, index
        while rest:
            value, share, rest = value + share * (rest % 2), share / 2, rest // 2
        yield value
