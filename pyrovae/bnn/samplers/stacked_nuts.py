"""The no-U-turn sampler on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

from torch import Tensor

from pyrovae.bnn.samplers.gibbs import Draw
from pyrovae.bnn.samplers.nuts_path import NutsPath
from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    check_numbers,
    point_of,
    run_chains,
)
from pyrovae.bnn.samplers.stacked_energy import StackedEnergy, on_device_of
from pyrovae.bnn.samplers.stacked_gibbs import StackedGibbs
from pyrovae.bnn.samplers.warmup import Warmup
from pyrovae.capture.auto import Compile
from pyrovae.losses.stacked import Stacked


def stacked_nuts(
    loss: Stacked,
    batch: Mapping[str, Tensor],
    *,
    num_data: int,
    num_samples: int,
    warmup: int,
    max_depth: int = 10,
    step_size: float | None = None,
    target: float = 0.8,
    thin: int = 1,
    draws: Mapping[str, Draw] | None = None,
    read: Read = point_of,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""NUTS of stacked chains with the energy U(w) = N * loss: a path doubles, forward or backward in
    time, until it turns back, and the draw is one of its points, by their densities.

    All chains take their leapfrog steps together, each until its own path has turned. `hmc` says
    what `loss`, `batch`, `read` and `thin` are.

    max_depth: a path has at most 2^max_depth - 1 leapfrog steps.
    step_size: where its adaptation begins; by default one at which a leapfrog step is accepted with
        a probability of about 0.8. Over `warmup` iterations each chain adapts its step size, so
        that the mean acceptance probability becomes `target`, and, if they are at least 20, the
        variance of each number, in windows; then both are fixed.
    draws: sites that are drawn from their conditionals given all others, as in `Gibbs`, after each
        path of the others: `{"variance": noise_variance()}`.
    compile: "on" captures and compiles a leapfrog step at once, "auto" after some seconds, "off"
        never.
    progress: called after each iteration, warm-up included, with its number.

    Of the chains, acceptance is the mean over the points of a path.

    Raises: as `hmc`; ValueError for `draws` of no site, of another shape, or that are no conditional.
    Source: Hoffman & Gelman 2014, arXiv:1111.4246; draws in proportion to densities and the
    criterion: Betancourt 2017, arXiv:1701.02434, appendix A; without recursion: Phan, Pradhan &
    Jankowiak 2019, arXiv:1912.11554, algorithm 2.

    Example:
        >>> import torch
        >>> from pyrovae import Bayesian, ElboLoss, Model, Node
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> def make() -> ElboLoss:
        ...     model = Model(y=Node(FixedScaleNormalHead(Bayesian(torch.nn.Linear(1, 1)), scale=0.5), "x"))
        ...     return ElboLoss(model, PointEstimate(model), num_data=8)
        >>> chains = Stacked([make() for _ in range(4)], shared=True)
        >>> data = {"x": torch.ones(8, 1), "y": torch.ones(8, 1)}
        >>> stacked_nuts(chains, data, num_data=8, num_samples=5, warmup=10).draws["w.weight"].shape
        torch.Size([5, 4, 1, 1])
    """
    check_numbers(
        num_data=num_data, num_samples=num_samples, max_depth=max_depth, thin=thin, warmup=warmup
    )
    batch = on_device_of(loss, batch)
    conditionals = StackedGibbs(loss, batch, draws or {})
    energy = StackedEnergy(loss, batch, num_data, held=conditionals.held)
    path = NutsPath(energy.position(), energy.value_and_gradient, [loss], max_depth, compile)

    def move(step: Tensor) -> Move:
        moved = path(step)
        energy.put(path.q)
        if conditionals():
            path.here = None
        return moved

    return run_chains(
        loss,
        move,
        Warmup(path, warmup, step_size, target),
        num_samples=num_samples,
        warmup=warmup,
        thin=thin,
        read=read,
        progress=progress,
    )
