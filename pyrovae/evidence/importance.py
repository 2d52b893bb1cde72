"""Importance-sampled log p(x), with an honest error bar and a verdict on whether to trust it."""

from collections.abc import Callable, Iterator, Sequence

import torch

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import Data, rebatch, size_of
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import Batch, for_batch, no_latents, tied_to_rows
from pyrovae.evidence.checked_pair import CheckedPair
from pyrovae.evidence.defensive import Mixture
from pyrovae.evidence.exact import exact_evidence
from pyrovae.evidence.particles import Blocks
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.runtime import derived_seed, evaluation, first_batch, tile_size
from pyrovae.evidence.weight_summary import WeightSummary

BLOCK = 250
"""Particles that are drawn together, with one seed."""


def log_evidence(
    model: Callable,
    guide: Callable | None,
    data: Data,
    *,
    num_particles: int | None = None,
    defensive: float = 0.0,
    chunk: int = 500,
    compile: Compile = "auto",
    names: Sequence[str] | None = None,
    plate: str | None = DATA,
    progress: Callable[[int], object] | None = None,
) -> Evidence:
    r"""Estimate log p(x_i) = log (1/K) \sum_k p(x_i, z_k) / q(z_k | x_i), z_k ~ q, for each datum,
    in nats.

    guide: None for a model without latents, whose log p(x) is computed exactly. Discrete latents
    that the model marks with `infer={"enumerate": "parallel"}` and the guide leaves out are summed
    out (see `Marginal`); where none is left, log p(x) is exact as well, and K plays no part.
    data: an iterable of dict batches (of tuples with `names`), or one batch. num_particles: K.
    chunk: the most particles that enter the model at once; lower it where a large decoder runs out
    of memory. compile: replay a captured graph in place of the programs, "auto" after they ran for
    15 seconds (see `fit`). progress: called after each block with the number of log-weights
    (particles x data) that it added, such as the `update` of a tqdm bar of total K N.

    Runs in eval mode without gradients and leaves parameters, flags and buffers as they were;
    takes one draw from torch's generator as its seed. For one seed the result depends neither on
    `chunk` nor on how the data were batched, up to rounding: particles are drawn in blocks of a
    fixed size, each for a fixed tile of data and from a seed of its own. (Autoguides have
    parameters for each row of a batch, so their batches stay as they come.) Memory does not grow
    with K but for the 3 sqrt(K) largest weights a datum. K = 1 is the ELBO.

    defensive: a share a of the particles (to the nearest whole number) that come from the prior,
    for guides that miss mass. All are then weighed by the mixture, p(x, z) / ((1 - a) q(z | x) + a
    p(z)), which is unbiased and cannot exceed p(x | z) / a; `elbo` is the mixture's, and `se`,
    which takes the particles for draws from one density, is on the safe side.

    plate: the plate over data; None for the joint log p(x_1, ..., x_B) of one batch, with sites
    that its data share (weights, effects of groups): an `Evidence` of one entry.

    Where the support of a likelihood depends on latent values (x ~ Uniform(0, z)), draws that
    leave data outside weigh 0, and `elbo` is -inf.

    Raises: PairError for a pair without per-datum evidence (sites outside the plate, guides
    without a density, or with enumerated or subsampled sites; for `defensive` also guides that cannot
    score what they did not draw, and programs that do not broadcast), for several batches under
    `plate=None`, for data outside a likelihood's support that is the same for all draws and for
    all that `check` refuses.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8; k-hat: Vehtari et al.
    2024, arXiv:1507.02646;
    defensive: Hesterberg 1995, Technometrics 37(2); Veach & Guibas 1995, SIGGRAPH (the balance
        heuristic).

    Example:
        >>> log_evidence(model, guide, {"x": torch.ones(3, 4)}, num_particles=100).log_px.shape
        torch.Size([3])
    """
    guide = no_latents if guide is None else guide
    if num_particles is None:
        if guide is not no_latents:
            raise ValueError("num_particles is missing: the number K of draws of the guide.")
        num_particles = 1
    if num_particles < 1 or chunk < 1:
        raise ValueError(
            f"num_particles={num_particles} and chunk={chunk}, expected at least 1 of each."
        )
    if defensive and plate is None:
        raise ValueError(
            f"defensive={defensive} with plate=None: draws from the prior hardly ever meet all data together, "
            "so they are mixed in for each datum alone. Leave defensive at 0."
        )
    block = min(num_particles, BLOCK)
    summaries = []
    with evaluation(model, guide) as seed:
        first, stream = first_batch(data, names, model, guide)
        pair = CheckedPair.of(model, guide, first, plate=plate, defensive=bool(defensive))
        if pair.exact:
            return exact_evidence(pair.model, stream, plate, progress)
        mixture = (
            Mixture(pair.model, defensive, num_particles, chunk, plate)
            if defensive and plate is not None
            else None
        )
        blocks = Blocks(pair.model, guide, chunk, plate, compile, pair.particles)
        if plate is None:
            stream = iter([_only(stream)])
        tiles = (
            stream
            if plate is None or tied_to_rows(guide, plate)
            else rebatch(stream, tile_size(block))
        )
        for index, tile in enumerate(tiles):
            summaries.append(WeightSummary(num_particles))
            torch.manual_seed(derived_seed(seed, index, num_particles))
            tile_guide = for_batch(guide, tile)
            for start in range(0, num_particles, block):
                torch.manual_seed(derived_seed(seed, index, start))
                stop = min(start + block, num_particles)
                summaries[-1].add(
                    mixture.log_weights(tile_guide, tile, start, stop)
                    if mixture
                    else blocks(tile_guide, tile, stop - start)
                )
                if progress is not None:
                    progress((stop - start) * size_of(tile))
    return Evidence.of(summaries)


def _only(stream: Iterator[Batch]) -> Batch:
    batch = next(stream)
    if next(stream, None) is not None:
        raise PairError(
            "plate=None estimates the joint log p of one batch, but the data yield several. Their joint "
            "evidence is not the sum of theirs, since they share latent values: pass all data as one batch."
        )
    return batch
