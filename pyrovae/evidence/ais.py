"""log p(x) by annealed importance sampling, for posteriors that no guide covers."""

from collections.abc import Callable, Iterable, Sequence

import torch

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import Data, rebatch
from pyrovae.core.detach import frozen
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import for_batch
from pyrovae.evidence.ais_path import (
    AnnealedDensity,
    Annealing,
    GradientCache,
    Schedule,
    check_path,
    sigmoidal,
)
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.runtime import derived_seed, evaluation, first_batch, tile_size
from pyrovae.evidence.weight_summary import WeightSummary


def annealed_importance(
    model: Callable,
    data: Data,
    *,
    guide: Callable | None = None,
    num_chains: int = 16,
    num_steps: int = 1000,
    num_leapfrog: int = 10,
    pilot_chains: int = 4,
    schedule: Schedule = sigmoidal,
    progress: Callable[[Iterable], Iterable] | None = None,
    compile: Compile = "auto",
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> Evidence:
    r"""Estimate log p(x_i) of each datum by chains that end at the posterior, in nats.

    A chain passes through the densities f_b(z) = q0(z)^{1 - b} p(x, z)^b, from a draw of q0 at b =
    0 to b = 1, with one trajectory of Hamiltonian Monte Carlo at each b between, and weighs
    \prod_t f_{b_t}(z_t) / f_{b_{t-1}}(z_t). q0 is the prior, or the guide where one is given: then
    fewer steps do. The average weight is unbiased for p(x) whatever the number of steps, so
    `log_px` is a lower bound in expectation as it is in `log_evidence`; `num_particles` is the
    number of chains, and `se` says how far chains differ, not how far all of them may be from a
    mode they missed.

    num_chains: C. num_steps: T, the steps from b = 0 to 1. num_leapfrog: gradient steps a
    trajectory. schedule: from T to the T + 1 inverse temperatures, e.g. `sigmoidal` or `linear`.
    pilot_chains: chains that run first, to find for each temperature and datum the step size at
    which 65 % of trajectories are accepted; it is then held fixed, for sizes that depend on the
    chains they serve would make the estimate biased. progress: a wrapper of iterables such as
    tqdm, put round the temperatures of each pass. compile: as in `log_evidence`.

    Any number of real-valued latent sites in the data plate, of any event shapes. One run takes (C
    + pilot_chains) T num_leapfrog evaluations of the model's gradient a datum. Runs in eval mode,
    leaves parameters and their gradients alone, and takes one draw from torch's generator; for one
    seed the result does not depend on how the data were batched.

    Raises: PairError for latent sites that are bounded, discrete, masked, flat or outside the
    plate, for guides without a density at values they did not draw (Delta, autoguides), and for
    all that `check` refuses.
    Source: Neal 2001, Statistics and Computing 11(2); for decoders, and from the encoder: Wu et
    al. 2017, arXiv:1611.04273.

    Example:
        >>> annealed_importance(model, {"x": torch.ones(3, 4)}, num_chains=4, num_steps=10, num_leapfrog=2).log_px.shape
        torch.Size([3])
    """
    annealing = Annealing(num_chains, num_steps, num_leapfrog, pilot_chains, schedule, progress)
    programs = (model,) if guide is None else (model, guide)
    slopes = GradientCache(model, guide, compile)
    summaries = []
    with evaluation(*programs) as seed, frozen(*programs):
        first, stream = first_batch(data, names, *programs)
        check_path(model, guide, first, plate)
        for index, tile in enumerate(rebatch(stream, tile_size(num_chains))):
            torch.manual_seed(derived_seed(seed, index, 0))
            path = AnnealedDensity(
                model, None if guide is None else for_batch(guide, tile), tile, plate, slopes
            )
            steps = annealing.steps(path)
            torch.manual_seed(derived_seed(seed, index, 1))
            start = path.draw(num_chains)
            summaries.append(WeightSummary(num_chains))
            summaries[-1].add(annealing.log_weights(path, start, steps))
    return Evidence.of(summaries)
