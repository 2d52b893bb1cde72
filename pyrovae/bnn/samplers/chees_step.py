"""One transition of many HMC chains and its adaptation, as functions of tensors."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyrovae.bnn.samplers.hmc import DIVERGENT
from pyrovae.core.types import Batch

ADAPTED = (
    "log_step",
    "mean_log_step",
    "error",
    "anchor",
    "log_length",
    "mean_log_length",
    "speed",
)
"""What is adapted besides scales, each a number: the logarithms of step size and trajectory length
and their running means, the state of dual averaging, and Adam's mean square of the gradient."""
KEPT = ("q", "energy", "gradient", "center", "variance", *ADAPTED)
RATE, DECAY, LARGEST = 0.05, 0.95, 0.35
"""Adam on the logarithm of the trajectory length: rate, decay of the mean square, largest step."""


def transition(target: float, max_leapfrogs: int) -> Callable[[Batch], dict[str, Tensor]]:
    r"""End a path of all chains (accept, adapt) and begin the next.

    In the batch: `q`, `energy`, `gradient` where the path began, `total` its energy there, `new_q`,
    `new_p`, `new_energy`, `new_gradient` where it ended; `step` (D,), `time` (its length), the
    numbers `ADAPTED`, `center` and `variance` (D,); `count`, the number of the iteration; `adapt`,
    whether this path adapts; `final`, whether the next one has the mean step size and length; and
    `fraction`, the share of the trajectory length that the next path takes.
    """

    def run(batch: Batch) -> dict[str, Tensor]:
        state = dict(batch)
        end = state["new_p"] + 0.5 * state["step"] * state["new_gradient"]
        change = state["total"] - state["new_energy"] - 0.5 * end.square().sum(1)
        accept = torch.nan_to_num(change, nan=-torch.inf).clamp(max=0.0).exp()
        adapted = _adapted(state, accept, end, target)
        state = {
            name: torch.where(state["adapt"] > 0, adapted.get(name, value), value)
            for name, value in state.items()
        }
        taken = torch.rand_like(accept) < accept
        for name in ("q", "energy", "gradient"):
            pick = taken if state[name].dim() == 1 else taken[:, None]
            state[name] = torch.where(pick, state["new_" + name], state[name])
        begun = _begin(state, max_leapfrogs)
        kept = {name: state[name] for name in KEPT}
        return kept | begun | {"accept": accept, "diverged": ~(change > -DIVERGENT)}

    return run


def _begin(state: dict[str, Tensor], max_leapfrogs: int) -> dict[str, Tensor]:
    """Momenta after half a kick, and the length of the next path."""
    final = state["final"] > 0
    size = torch.where(final, state["mean_log_step"], state["log_step"]).exp()
    length = torch.where(final, state["mean_log_length"], state["log_length"]).exp()
    time = state["fraction"] * length
    step = size * state["variance"].sqrt()
    p = torch.randn_like(state["q"])
    return {
        "p": p - 0.5 * step * state["gradient"],
        "total": state["energy"] + 0.5 * p.square().sum(1),
        "step": step,
        "time": time,
        "leapfrogs": (time / size).ceil().clamp(1, max_leapfrogs),
    }


def _adapted(
    state: dict[str, Tensor], accept: Tensor, end: Tensor, target: float
) -> dict[str, Tensor]:
    """`ADAPTED` and the scales after this path."""
    count, chains = state["count"], len(accept)
    harmonic = chains / (1.0 / accept).sum()
    error = state["error"] + (target - harmonic - state["error"]) / (count + 10.0)
    log_step = state["anchor"] - count.sqrt() / 0.05 * error
    weight = count**-0.75
    slope = _criterion_slope(state, accept, end)
    speed = DECAY * state["speed"] + (1.0 - DECAY) * slope.square()
    scale = (speed / (1.0 - DECAY**count)).sqrt().clamp(min=1e-20)
    log_length = state["log_length"] + (RATE * slope / scale).clamp(-LARGEST, LARGEST)
    log_length = torch.maximum(log_length, log_step)  # at least one leapfrog step
    center, variance = _moments(state)
    return {
        "error": error,
        "log_step": log_step,
        "mean_log_step": state["mean_log_step"] + weight * (log_step - state["mean_log_step"]),
        "speed": speed,
        "log_length": log_length,
        "mean_log_length": state["mean_log_length"]
        + weight * (log_length - state["mean_log_length"]),
        "center": center,
        "variance": variance,
    }


def _criterion_slope(state: dict[str, Tensor], accept: Tensor, end: Tensor) -> Tensor:
    """The gradient of E[(|x' - E x'|^2 - |x - E x|^2)^2] / 4 in the logarithm of the trajectory
    length, x the positions over their scales (equation 12 of the paper, weighted by acceptance)."""
    scale = state["variance"].sqrt()
    kept = (accept > 0) & end.isfinite().all(1)
    weight = torch.where(kept, accept, 0.0)
    share = weight / weight.sum().clamp(min=1e-20)
    x, new = state["q"] / scale, torch.where(kept[:, None], state["new_q"] / scale, 0.0)
    new = torch.where(kept[:, None], new - (share[:, None] * new).sum(0), 0.0)
    growth = new.square().sum(1) - (x - x.mean(0)).square().sum(1)
    along = (new * torch.where(kept[:, None], end, 0.0)).sum(1)
    slope = state["time"] * (share * torch.where(kept, growth, 0.0) * along).sum()
    return torch.where(slope.isfinite(), slope, 0.0)


def _moments(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Running mean and variance over chains and iterations, later ones weighing more."""
    rate = 3.0 / (state["count"] + 3.0)
    mean = state["q"].mean(0)
    shift = mean - state["center"]
    spread = (state["q"] - mean).square().mean(0)
    variance = (1.0 - rate) * (state["variance"] + rate * shift.square()) + rate * spread
    return state["center"] + rate * shift, variance.clamp(min=1e-20)
