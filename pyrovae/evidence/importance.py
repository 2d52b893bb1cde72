"""Importance-sampled log p(x), with an honest error bar and a verdict on whether to trust it."""
from collections.abc import Callable, Sequence

import pyro.distributions as dist
import torch
from pyro.poutine import Trace

from pyrovae.check import check
from pyrovae.errors import PairError
from pyrovae.evidence.blocks import Blocks
from pyrovae.evidence.defensive import Mixture
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.setting import derived_seed, evaluation, peek, tile_size
from pyrovae.evidence.weights import WeightSummary
from pyrovae.feed import Data, retile, size_of
from pyrovae.plates import DATA
from pyrovae.replays import Compile
from pyrovae.traces import base_distribution, for_batch, is_auxiliary, run_guide, run_model, sample_sites, tied_to_rows

BLOCK = 250
"""Particles that are drawn together, from a seed of their own."""


def log_evidence(model: Callable, guide: Callable, data: Data, *, num_particles: int, defensive: float = 0.0,
                 chunk: int = 500, compile: Compile = "auto", names: Sequence[str] | None = None,
                 plate: str = DATA, progress: Callable[[int], object] | None = None) -> Evidence:
    r"""Estimate log p(x_i) = log (1/K) \sum_k p(x_i, z_k) / q(z_k | x_i), z_k ~ q, for each datum, in nats.

    data: an iterable of dict batches (of tuples with `names`), or one batch. num_particles: K. chunk: the most
    particles that enter the model at once; lower it where a large decoder runs out of memory. compile: replay a captured
    graph in place of the programs, "auto" after they ran for 15 seconds (see `fit`). progress: called after each block with
    the number of log-weights (particles x data) that it added, such as the `update` of a tqdm bar of total K N.

    Runs in eval mode without gradients and leaves parameters, flags and buffers as they were; takes one draw from
    torch's generator as its seed. For one seed the result depends neither on `chunk` nor on how the data were
    batched, up to rounding: particles are drawn in blocks of a fixed size, each for a fixed tile of data and from a
    seed of its own. (Autoguides have parameters for each row of a batch, so their batches stay as they come.) Memory
    does not grow with K but for the 3 sqrt(K) largest weights a datum. K = 1 is the ELBO.

    defensive: a share a of the particles (to the nearest whole number) that come from the prior, for guides that
    miss mass. All are then weighed by the mixture, p(x, z) / ((1 - a) q(z | x) + a p(z)), which is unbiased and
    cannot exceed p(x | z) / a; `elbo` is the mixture's, and `se`, which takes the particles for draws from one density,
    is on the safe side.

    Raises: PairError for a pair without per-datum evidence (sites outside the plate, guides without a density,
    enumerated or subsampled sites; for `defensive` also guides that cannot score what they did not draw), for data
    outside the likelihood's support and for all that `check` refuses.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8; k-hat: Vehtari et al. 2024, arXiv:1507.02646;
    defensive: Hesterberg 1995, Technometrics 37(2); Veach & Guibas 1995, SIGGRAPH (the balance heuristic).

    Example:
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead, NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
        >>> log_evidence(model, guide, {"x": torch.ones(3, 4)}, num_particles=100).log_px.shape
        torch.Size([3])
    """
    if num_particles < 1 or chunk < 1:
        raise ValueError(f"num_particles={num_particles} and chunk={chunk}, wanted at least 1 of each.")
    blocks = Blocks(model, guide, chunk, plate, compile)
    mixture = Mixture(model, defensive, num_particles, chunk, plate) if defensive else None
    block = min(num_particles, BLOCK)
    summaries = []
    with evaluation(model, guide) as seed:
        first, stream = peek(data, names, model, guide)
        check(model, guide, first, num_data=2 ** 62, plate=plate)
        look = run_guide(for_batch(guide, first), first, 2)
        refuse_point_masses(look)
        _refuse_flat_priors(run_model(model, look, first, 2))
        if mixture:
            mixture.check(guide, first)
        tiles = stream if tied_to_rows(guide, plate) else retile(stream, tile_size(block))
        for index, tile in enumerate(tiles):
            summaries.append(WeightSummary(num_particles))
            torch.manual_seed(derived_seed(seed, index, num_particles))
            tile_guide = for_batch(guide, tile)
            for start in range(0, num_particles, block):
                torch.manual_seed(derived_seed(seed, index, start))
                stop = min(start + block, num_particles)
                summaries[-1].add(mixture.log_weights(tile_guide, tile, start, stop) if mixture else
                                  blocks(tile_guide, tile, stop - start))
                if progress is not None:
                    progress((stop - start) * size_of(tile))
    return Evidence.of(summaries)


def refuse_point_masses(guide_trace: Trace) -> None:
    """`guide_trace` holds two particles: a Delta is a density only where it passes on an auxiliary draw."""
    sites = sample_sites(guide_trace, observed=False)
    spread = any(is_auxiliary(site) and site["mask"] is not False for site in sites.values())
    for name, site in sites.items():
        if isinstance(base_distribution(site["fn"]), dist.Delta):
            if not spread or torch.equal(site["value"][0], site["value"][1]):
                raise PairError(f"the guide's site {name!r} is a Delta, which has no density to weigh against: importance "
                                "sampling needs a guide that spreads, e.g. NormalHead.")


def _refuse_flat_priors(model_trace: Trace) -> None:
    for name, site in sample_sites(model_trace, observed=False).items():
        if isinstance(base_distribution(site["fn"]), dist.ImproperUniform):
            raise PairError(f"latent site {name!r} has a flat prior, whose density is known but for a constant, and so is "
                            "log p(x). Use a proper prior, e.g. StandardNormal.")
