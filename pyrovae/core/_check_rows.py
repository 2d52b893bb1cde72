"""Whether each datum is observed as it is, and its density independent of the other rows."""

from collections.abc import Callable, Mapping

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA_DIM
from pyrovae.core.support_checks import masks_of
from pyrovae.core.traces import log_prob, plate_frame, run_model, sample_sites
from pyrovae.core.types import Site, nodes_of


def check_rows(site: Site, size: int, plate: str) -> None:
    fn, value = site["fn"], site["value"]
    rows = value.shape[: value.dim() - len(fn.event_shape)]
    inside = plate_frame(site, plate)
    if (
        inside is not None
        and inside.dim == DATA_DIM
        and size > 1
        and (not rows or rows[-1] != size)
    ):
        raise PairError(
            f"site {site['name']!r} observes a value of shape {tuple(value.shape)}, which would be repeated for "
            f"each of the {size} data. Observe one row for each datum, (B, *event)."
        )


def check_value(site: Site, batch: Mapping[str, Tensor]) -> None:
    """A site with the name of a batch key has to observe its rows in their order; any other change
    of a row is allowed."""
    name, value = site["name"], site["value"]
    data = batch.get(name, value)
    if data.shape != value.shape or masks_of(site):
        return
    rows, observed = data.reshape(len(data), -1).to(value.dtype), value.reshape(len(value), -1)
    moved = int((rows != observed).any(-1).sum())
    if moved and torch.equal(rows.sort(0).values, observed.sort(0).values):
        raise PairError(
            f"site {name!r} observes the rows of batch[{name!r}] in another order ({moved} of {len(rows)} are "
            "not their own), so the latent values of a datum explain another datum. Observe "
            f"batch[{name!r}] as it is, and shuffle the data before they enter the batch."
        )


def check_neighbours(
    model: Callable, guide_trace: Trace, batch: Mapping[str, Tensor], size: int, plate: str
) -> None:
    """Score the first half of the rows by itself, on the same latent values: no log-probability
    may change."""
    whole, half, part = run_model(model, guide_trace, batch), size // 2, guide_trace.copy()
    if not half or set(sample_sites(whole, observed=False)) - set(guide_trace.nodes):
        return
    for name, site in sample_sites(guide_trace, observed=False).items():
        inside, event_dim = plate_frame(site, plate), len(site["fn"].event_shape)
        if inside is not None:
            nodes_of(part)[name] = {
                **site,
                "value": site["value"].narrow(inside.dim - event_dim, 0, half),
            }
    try:
        alone = run_model(model, part, {name: value[:half] for name, value in batch.items()})
    except Exception:  # a program that only takes batches of this size cannot be tested
        return
    for name, site in sample_sites(whole, observed=True).items():
        inside, other = (
            plate_frame(site, plate),
            plate_frame(nodes_of(alone).get(name, site), plate),
        )
        if inside is not None and other is not None and other.size == half:
            together, apart = (
                log_prob(site).narrow(inside.dim, 0, half),
                log_prob(nodes_of(alone)[name]),
            )
            if together.shape != apart.shape or _close(together, apart):
                continue
            if not _is_noisy(model, guide_trace, batch, site):
                raise PairError(
                    f"the density of a datum at site {name!r} changes by up to "
                    f"{float((together - apart).abs().max()):.3g} nats with the other rows of its batch. A "
                    "net must act on each row alone: no statistics or permutations over dim 0 (BatchNorm in "
                    "train mode)."
                )


def _is_noisy(
    model: Callable, guide_trace: Trace, batch: Mapping[str, Tensor], site: Site
) -> bool:
    """Whether the model draws random numbers outside its sites, so that two runs on the same rows
    differ."""
    again = (nodes_of(run_model(model, guide_trace, batch))[site["name"]] for _ in range(4))
    return not all(_close(log_prob(site), log_prob(other)) for other in again)


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-3, atol=1e-2)
