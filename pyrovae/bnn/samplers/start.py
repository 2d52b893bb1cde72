"""Where chains start, and with which step size."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.potential import Potential
from pyrovae.core.types import Batch

RADIUS = 2.0
"""Chains start uniformly in this cube on the unconstrained scale, as in Stan and Pyro."""
TRIES = 100


def starts(
    potential: Potential, num_chains: int, values: Mapping[str, Tensor] | None, jitter: float
) -> Tensor:
    """Positions `(C, D)` of finite energy and gradient: near `values`, or uniformly around 0.

    Raises: ValueError where one of them is found for no chain in 100 tries.
    """
    center = potential.origin
    if values is not None:
        center = potential.position(values)

    def draw() -> Tensor:
        like = center.expand(num_chains, -1)
        if values is not None:
            return center + jitter * torch.randn_like(like)
        return RADIUS * (2.0 * torch.rand_like(like) - 1.0)

    q = draw()
    for _ in range(TRIES):
        energy, gradient = potential.value_and_gradient(q)
        fine = energy.isfinite() & gradient.isfinite().all(1)
        if bool(fine.all()):
            return q
        q = torch.where(fine[:, None], q, draw())
    unknown = [
        name
        for name, value in potential.batch.items()
        if isinstance(value, Tensor) and not value.isfinite().all()
    ]
    remedy = "Pass start=, e.g. the values of a trained PointEstimate."
    if unknown:
        remedy = f"The data {unknown} hold NaN or infinite values: put numbers in their place, and mask these."
    elif values is not None:
        remedy = "Pass another start=, within the supports of its sites, or a smaller jitter."
    raise ValueError(
        f"{int((~fine).sum())} of {num_chains} chains found no point of finite density and gradient in {TRIES} "
        f"tries. {remedy}"
    )


def reasonable_step(
    potential: Potential, kick: Callable[[Batch], list[Tensor]], q: Tensor
) -> float:
    """A power of 2 at which one leapfrog step of all chains is accepted with a mean probability of
    about 0.8, as in algorithm 4 of Hoffman & Gelman 2014."""
    energy, gradient = potential.value_and_gradient(q)

    def accepts(step: float) -> bool:
        p = torch.randn_like(q)
        batch = {"q": q, "p": p - 0.5 * step * gradient, "step": torch.full_like(q[0], step)}
        _, end, new, push = kick(batch)
        end = end + 0.5 * step * push
        change = energy - new + 0.5 * (p.square() - end.square()).sum(1)
        return float(torch.nan_to_num(change, nan=-torch.inf).clamp(max=0.0).exp().mean()) > 0.8

    step, grows = 1.0, accepts(1.0)
    for _ in range(50):
        if accepts(step) != grows:
            break
        step *= 2.0 if grows else 0.5
    return step
