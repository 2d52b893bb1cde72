"""Run a model under many draws of the weights, some of them at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from pyrovae.bnn.local_reparameterization import layers_draw
from pyrovae.capture.auto import AutoCapture, Compile
from pyrovae.capture.user_code import uses_user_code
from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.broadcasting import Particles
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import Uncondition
from pyrovae.core.modules import find_modules
from pyrovae.core.provenance import are_noted, narrow, skip_weight_sampling
from pyrovae.core.target_shapes import check_event_shape
from pyrovae.core.traces import (
    Batch,
    is_auxiliary,
    plate_frame,
    run_model,
    sample_sites,
    set_up,
)
from pyrovae.core.types import nodes_of

ROWS = 4096
"""Rows (draws x data) that pass through the nets at once: enough to keep the processor busy,
small in memory."""


DRAW = "draw of "


Read = TypeVar("Read")


def site_of(trace: Trace, name: str | None, plate: str) -> torch.distributions.Distribution:
    sites = {
        key: site
        for key, site in nodes_of(trace).items()
        if site["type"] == "sample" and plate_frame(site, plate) is not None
    }
    if name is None and len(sites) == 1:
        name = next(iter(sites))
    if name not in sites:
        raise PairError(
            f"site={name!r}, expected one of the model's sites in plate {plate!r}: {sorted(sites)}."
        )
    return sites[name]["fn"]


def run_draws(
    model: Callable,
    guide: Callable,
    data: Data,
    num_samples: int,
    names: Sequence[str] | None,
    plate: str,
    read: Callable[[Trace, int], Read],
    compile: Compile,
    *,
    redraw: bool,
) -> Iterator[Iterator[Read]]:
    """Yield `read(trace)` for each batch and each chunk of the same S draws of the weights.
    `redraw`: observed sites are drawn from the model too."""
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}, expected at least one draw.")
    lean, known, model = (
        layers_draw(model, guide),
        _broadcast(model, guide),
        Uncondition(())(model) if redraw else model,
    )
    draws, particles, is_first = poutine.Trace(), Particles(), True

    def program(inputs: Batch) -> Read:
        """Inputs with the prefix `DRAW` are draws of the weights, the others are data."""
        part = draws.copy()
        values = {
            name.removeprefix(DRAW): value
            for name, value in inputs.items()
            if name.startswith(DRAW)
        }
        for name, value in values.items():
            nodes_of(part)[name] = {**nodes_of(draws)[name], "value": value}
        size = len(next(iter(values.values()))) if values else num_samples
        batch = {name: value for name, value in inputs.items() if not name.startswith(DRAW)}
        return read(particles.run_model(model, part, batch, size), size)

    replay = AutoCapture(
        program, find_modules(model, guide).values(), compile="off" if are_noted() else compile
    )
    for batch in batches(data, names, exemplar_of(model, guide)):
        if is_first:
            is_first = False
            with skip_weight_sampling() if lean else nullcontext():
                draws, particles = _draw(model, guide, batch, num_samples, plate, known)
        rows = ROWS if particles.model_broadcasts else 1
        yield (
            replay({**batch, **part})
            for part in _parts(draws, max(1, rows // size_of(batch)), num_samples)
        )


def _draw(
    model: Callable, guide: Callable, batch: Batch, num_samples: int, plate: str, known: bool
) -> tuple[Trace, Particles]:
    set_up(guide, batch)
    look = run_model(model, poutine.Trace(), batch)
    for site in sample_sites(look, observed=True).values():
        check_event_shape(site)
    targets = set(sample_sites(look, observed=True)) | {
        name
        for name, site in nodes_of(look).items()
        if site["type"] == "sample" and plate_frame(site, plate) is not None
    }
    cause = None
    try:
        inputs = {name: value for name, value in batch.items() if name not in targets}
        particles = Particles() if known else Particles.of(model, guide, batch, inputs=inputs)
        draws = particles.run_guide(guide, inputs, num_samples)
        local = [
            name
            for name, site in sample_sites(draws, observed=False).items()
            if plate_frame(site, plate) is not None
        ]
    except Exception as error:
        local, cause = (
            sorted(targets - set(batch)),
            error,
        )  # the guide did not get the data that it needs
        if not local:
            raise
    if local:
        raise PairError(
            f"latent sites {sorted(local)} lie in plate {plate!r}, one for each datum, so a guide has to read "
            "the data it predicts. For log p(x) of such models use log_evidence."
        ) from cause
    shared = {
        name
        for name, site in sample_sites(look, observed=False).items()
        if name not in targets and not is_auxiliary(site)
    }
    if missing := sorted(shared - nodes_of(draws).keys()):
        raise PairError(
            f"the guide has no draws of the model's latent sites {missing}, which would be drawn from their prior. Add "
            "them to the guide (pv.Joint), or hold them fixed by pyro.condition(model, data={...})."
        )
    return draws, particles


def _broadcast(model: Callable, guide: Callable) -> bool:
    """Whether the programs are known to broadcast over draws: pyrovae's own parts do, under
    weights that all data share."""
    return all(
        isinstance(program, nn.Module) and not uses_user_code(program)
        for program in (model, guide)
    )


def _parts(draws: Trace, step: int, num_samples: int) -> Iterator[dict[str, Tensor]]:
    """Chunks of at most `step` draws; a single chunk where there are no draws."""
    sites = sample_sites(draws, observed=False)
    step = step if sites else num_samples
    for start in range(0, num_samples, step):
        yield {
            DRAW + name: narrow(site["value"], start, min(start + step, num_samples))
            for name, site in sites.items()
        }
