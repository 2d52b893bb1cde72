"""log p(x) from below and from above, on data simulated from the model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import device_of
from pyrovae.core.detach import frozen
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import Batch, for_batch, run_guide
from pyrovae.core.types import nodes_of
from pyrovae.evidence.ais_path import (
    AnnealedDensity,
    Annealing,
    GradientCache,
    Schedule,
    check_path,
    sigmoidal,
)
from pyrovae.evidence.densities import values_of
from pyrovae.evidence.result import Evidence, standard_error
from pyrovae.evidence.runtime import derived_seed, evaluation, tile_size
from pyrovae.evidence.weight_summary import WeightSummary


@dataclass(frozen=True)
class Sandwich:
    """Two bounds on log p(x) of simulated data, in nats; both hold in expectation, and the truth
    lies between."""

    lower: Evidence
    """From forward chains, as `annealed_importance` gives it."""
    upper: Tensor
    """-log of the backward chains' mean estimate of 1 / p(x), `(N,)`."""
    upper_se: Tensor
    """Monte Carlo standard error of `upper` (jackknife over chains, which all begin at one exact
    draw)."""
    data: dict[str, Tensor]
    """The simulated data and their conditions, `(N, *event)` each."""

    @property
    def gap(self) -> Tensor:
        """`upper - lower`, `(N,)`: its mean bounds how far either is from log p(x), on average
        over such data."""
        return self.upper - self.lower.log_px

    @property
    def mean_gap(self) -> float:
        return self.gap.mean().item()

    @property
    def mean_gap_se(self) -> float:
        """Standard error of `mean_gap` over data; NaN for one datum."""
        return standard_error(self.gap)

    def __str__(self) -> str:
        return (
            f"{self.lower.mean:.3f} <= log p(x) <= {self.upper.mean():.3f} nats on average over N = {len(self.upper)} "
            f"simulated data; gap {self.mean_gap:.3f} +- {self.mean_gap_se:.3f} (C = {self.lower.num_particles} chains)"
        )


def bidirectional(
    model: Callable,
    num_data: int,
    *,
    observed: str | Sequence[str] = "x",
    conditions: Mapping[str, Tensor] | None = None,
    guide: Callable | None = None,
    num_chains: int = 16,
    num_steps: int = 1000,
    num_leapfrog: int = 10,
    pilot_chains: int = 4,
    schedule: Schedule = sigmoidal,
    progress: Callable[[Iterable], Iterable] | None = None,
    compile: Compile = "auto",
    plate: str = DATA,
) -> Sandwich:
    r"""Bound log p(x) from both sides on data simulated from the model (bidirectional Monte
    Carlo), in nats per datum.

    (z*, x) ~ p(z, x) makes z* an exact draw from p(z | x). Forward chains, from q0 to the
    posterior, give log (1/C) \sum_c w_c, below log p(x) in expectation; chains that start at z*
    and run backward estimate 1 / p(x) without bias, and -log of their mean is above it. A gap of g
    nats shows that `annealed_importance` with these settings is at most g too low, on average over
    such data. Data that the model would not make can be harder.

    observed: the sites that are data, by name. conditions: what else the batch holds, `(num_data,
    ...)` each. A model that does not take `num`, as `Model` does, to say how many data to make
    reads that off the conditions: give it placeholders for its observed sites there, whose values
    are not used. The other arguments are those of `annealed_importance`.

    Raises: PairError where the model cannot simulate the observed sites, and as
    `annealed_importance` does.
    Source: Grosse, Ghahramani & Adams 2015, arXiv:1511.02543; for decoders: Wu et al. 2017,
    arXiv:1611.04273.

    Example:
        >>> bidirectional(model, 3, num_chains=4, num_steps=10, num_leapfrog=2).gap.shape
        torch.Size([3])
    """
    annealing = Annealing(num_chains, num_steps, num_leapfrog, pilot_chains, schedule, progress)
    programs = (model,) if guide is None else (model, guide)
    slopes = GradientCache(model, guide, compile)
    lower, upper = [], []
    with evaluation(*programs) as seed, frozen(*programs):
        torch.manual_seed(derived_seed(seed))
        data, latent = simulate(
            model,
            num_data,
            [observed] if isinstance(observed, str) else observed,
            conditions or {},
        )
        check_path(model, guide, data, plate)
        size = tile_size(num_chains)
        for index, start in enumerate(range(0, num_data, size)):
            tile, exact = (
                {name: value[start : start + size] for name, value in part.items()}
                for part in (data, latent)
            )
            torch.manual_seed(derived_seed(seed, index))
            path = AnnealedDensity(
                model, None if guide is None else for_batch(guide, tile), tile, plate, slopes
            )
            steps = annealing.steps(path)
            end = path.layout.pack(
                {name: value.unsqueeze(0) for name, value in exact.items()}
            ).expand(num_chains, -1, -1)
            lower.append(WeightSummary(num_chains))
            lower[-1].add(annealing.log_weights(path, path.draw(num_chains), steps))
            upper.append(WeightSummary(num_chains))
            upper[-1].add(annealing.log_weights(path, end, steps, backward=True))
    inverse = Evidence.of(upper)
    return Sandwich(
        Evidence.of(lower),
        -inverse.log_px,
        inverse.se,
        {name: value.cpu() for name, value in data.items()},
    )


def simulate(
    model: Callable, num_data: int, observed: Sequence[str], conditions: Batch
) -> tuple[Batch, Batch]:
    """Simulated data with their conditions, and the latent values that generated them."""
    device = device_of(model)
    given = {
        name: value if device is None else value.to(device) for name, value in conditions.items()
    }
    call: Mapping[str, Any] = given if set(observed) <= set(given) else {"num": num_data, **given}
    try:
        trace = run_guide(poutine.uncondition(model), call)
    except TypeError as error:
        wording = ", ".join(f"{name}=..." for name in call)
        raise PairError(
            f"the model cannot be asked for data by model({wording}): {error}. Let it take num, or give "
            f"placeholders for {sorted(observed)}, (num_data, *event), as conditions."
        ) from error
    values = values_of(trace)
    absent = set(observed) - set(values)
    fixed = {
        name
        for name in set(values) - set(observed)
        if nodes_of(trace)[name]["infer"].get("was_observed")
    }
    if absent or fixed:
        raise PairError(
            f"observed={sorted(observed)}, but the model "
            + (f"has no sites {sorted(absent)}" if absent else f"observes {sorted(fixed)} too")
            + ". Name all sites that are data."
        )
    data = {**given, **{name: values.pop(name) for name in observed}}
    sizes = {name: len(value) for name, value in {**data, **values}.items()}
    if set(sizes.values()) != {num_data}:
        raise PairError(
            f"num_data={num_data}, but the leading sizes of what the model made, and of the conditions, are "
            f"{sizes}."
        )
    return data, values
