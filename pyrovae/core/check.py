"""Turn the silent mistakes of a (model, guide, batch) into errors before the first step."""

from collections.abc import Callable, Iterable, Mapping

import pyro
import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.moving_support import ZeroOutside
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA, DATA_DIM
from pyrovae.core.support import (
    check_latent,
    check_parameters,
    check_support,
    describe,
    masks_of,
    refuse_other_plate,
)
from pyrovae.core.traces import (
    is_auxiliary,
    log_prob,
    plate_frame,
    run_guide,
    run_model,
    sample_sites,
)
from pyrovae.core.types import Site, nodes_of

ANY_NUMBER = 2**62
"""Of data: for checks where the number N has no part in what is computed."""


def check(
    model: Callable,
    guide: Callable,
    batch: Mapping[str, Tensor],
    *,
    num_data: int | None = None,
    plate: str = DATA,
) -> None:
    """Run the pair once on one batch and raise PairError for what would train or evaluate wrongly.

    What is checked: the batch (tensors of one leading size B, finite); that both programs run;
    that the model observes data, as they are in the batch and not all masked, and the guide does
    not; that both have the same latent sites, in the same plates, of the same event shape and
    scale, with overlapping supports; that log-probabilities follow the law of shapes, (B,) in
    plate "data" at dim -1; that data lie in the support of their likelihood (grey pixels under a
    Bernoulli do not); that N is known where sites lie outside the plate; that every
    log-probability is finite. Parameters, buffers and random streams stay as they are.

    Example:
        >>> try: check(model, guide, {"x": torch.full((3, 4), 0.5)})
        ... except PairError as error: print(error)  # doctest: +ELLIPSIS
        site 'x' is Bernoulli on {0, 1}, but the data hold grey values such as 0.5...
    """
    size = check_batch(batch)
    for name, program in (("model", model), ("guide", guide)):
        if not callable(program):
            raise PairError(
                f"the {name} is {type(program).__name__}, expected a callable that takes the batch as "
                "keywords."
            )
    if model is guide:
        raise PairError(
            "model and guide are the same object; the guide is a second program that samples the model's "
            "latent sites given data."
        )
    if num_data is not None and num_data < size:
        raise PairError(
            f"num_data={num_data} is less than the {size} data of one batch; N counts the whole training "
            "set, not its batches."
        )
    modules = list(find_modules(model, guide).values())
    with torch.no_grad(), pyro.validation_enabled(False), preserve_state(modules):
        guide_trace = _run("guide", lambda: run_guide(guide, batch), batch)
        model_trace = _run("model", lambda: run_model(model, guide_trace, batch), batch)
        _check_sites(model_trace, guide_trace, batch)
        for site in sample_sites(model_trace, observed=True).values():
            check_support(site)
            _check_rows(site, size, plate)
            _check_value(site, batch)
        for name, site in sample_sites(model_trace, observed=False).items():
            if name in guide_trace.nodes:
                check_latent(site, nodes_of(guide_trace)[name])
        for role, trace in (("model", model_trace), ("guide", guide_trace)):
            for site in {
                **sample_sites(trace, observed=True),
                **sample_sites(trace, observed=False),
            }.values():
                _check_site(role, site, size, num_data, plate)
        with preserve_state(modules, training=False):
            _check_neighbours(model, run_guide(guide, batch), batch, size, plate)


def num_data_of(loss: object) -> int | None:
    """N for `check`, as a loss on a pair knows it; no limit for a loss that asks for none:
    `Trace_ELBO()(model, guide)` and `PyroLoss` minimise what the pair says as it is written,
    `IwaeLoss` refuses sites outside the plate by itself."""
    return getattr(loss, "num_data", ANY_NUMBER)


def check_batch(batch: Mapping[str, Tensor]) -> int:
    """The leading size B of a batch; raises PairError for what is no batch of finite tensors."""
    if not isinstance(batch, Mapping):
        raise PairError(
            f"a batch is {type(batch).__name__}, expected a mapping from site names to tensors, "
            "e.g. {'x': images}; for tuples pass names=('x', 'y')."
        )
    sizes = {}
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            raise PairError(
                f"batch[{name!r}] is {type(value).__name__}, expected a tensor (B, *event)."
            )
        if not value.dim():
            raise PairError(
                f"batch[{name!r}] is a scalar, expected a leading data dimension (B, *event)."
            )
        sizes[name] = len(value)
        bad = ~torch.isfinite(value)
        if bad.any():
            row = (
                int(bad.flatten(1).any(1).nonzero()[0])
                if value.dim() > 1
                else int(bad.nonzero()[0])
            )
            raise PairError(
                f"batch[{name!r}] holds {int(bad.sum())} NaN or infinite values, the first in row {row}. "
                "Remove or impute them before training."
            )
    if not sizes or 0 in sizes.values():
        raise PairError(f"the batch is empty ({sizes}); expected at least one datum.")
    if len(set(sizes.values())) > 1:
        raise PairError(
            f"tensors of one batch differ in leading size, {sizes}; each row is one datum."
        )
    return next(iter(sizes.values()))


def _run(role: str, run: Callable[[], Trace], batch: Mapping[str, Tensor]) -> Trace:
    try:
        return run()
    except PairError:
        raise
    except Exception as error:
        shapes = ", ".join(
            f"{name}: {tuple(value.shape)} {value.dtype}" for name, value in batch.items()
        )
        reason = str(error).partition("\n")[0]  # Pyro appends a table of shapes
        raise PairError(
            f"the {role} fails on this batch ({shapes}) with {type(error).__name__}: {reason}"
        ) from error


def _check_sites(model_trace: Trace, guide_trace: Trace, batch: Mapping[str, Tensor]) -> None:
    observed = sample_sites(model_trace, observed=True)
    if not observed:
        raise PairError(
            f"the model observes nothing: its sites are {sorted(sample_sites(model_trace, observed=False))} "
            f"and the batch names {sorted(batch)}. Name the data after the site they observe."
            + _misspelt(sample_sites(model_trace, observed=False), batch)
        )
    if all(
        any(not torch.as_tensor(mask).any() for mask in masks_of(site))
        for site in observed.values()
    ):
        raise PairError(
            f"all values of the observed sites {sorted(observed)} are masked away, so nothing ties the latent "
            "values to the data and the ELBO is -KL. A mask is True where a value counts."
        )
    if sample_sites(guide_trace, observed=True):
        raise PairError(
            f"the guide observes {sorted(sample_sites(guide_trace, observed=True))}; a guide only samples. "
            "Are model and guide in the wrong order?"
        )
    latent = {
        name
        for name, site in sample_sites(model_trace, observed=False).items()
        if site["infer"].get("enumerate") is None
    }
    guided = {
        name
        for name, site in sample_sites(guide_trace, observed=False).items()
        if not is_auxiliary(site)
    }
    if latent - guided:
        raise PairError(
            f"the guide misses latent sites {sorted(latent - guided)} of the model (it has "
            f"{sorted(guided)}); they would be drawn from the prior and never fitted."
            + _misspelt(latent - guided, batch)
        )
    if guided - set(sample_sites(model_trace, observed=False)):
        extra = sorted(guided - set(sample_sites(model_trace, observed=False)))
        raise PairError(
            f"the guide samples {extra}, which the model does not (its latent sites are {sorted(latent)}). "
            "Rename them, or mark them infer={'is_auxiliary': True}."
        )


def _misspelt(sites: Iterable[str], batch: Mapping[str, Tensor]) -> str:
    return "".join(
        f" The batch key {key!r} differs from site {site!r} in case alone: spell them alike to observe it."
        for key in batch
        for site in sites
        if key != site and key.lower() == site.lower()
    )


def _check_site(role: str, site: Site, size: int, num_data: int | None, plate: str) -> None:
    name, inside = site["name"], plate_frame(site, plate)
    if inside is None and site["is_observed"]:
        refuse_other_plate(site, size, plate)
    if inside is None and num_data is None:
        raise PairError(
            f"{role} site {name!r} lies outside plate {plate!r}, so its weight in a minibatch needs the "
            f"number of data N: pass num_data=N (not the batch size, here {size}), or plate='...' if your "
            "plate has another name."
        )
    if inside is not None and (inside.dim != DATA_DIM or inside.size != size):
        raise PairError(
            f"{role} site {name!r} lies in plate {plate!r} of size {inside.size} at dim {inside.dim}, but the "
            f"batch has {size} data, expected at dim {DATA_DIM}. Open pyro.plate({plate!r}, {size}, dim=-1)."
        )
    check_parameters(role, site)
    try:
        value = log_prob(site)
    except (ValueError, RuntimeError, IndexError) as error:
        raise PairError(
            f"{role} site {name!r} cannot score its value of shape {tuple(site['value'].shape)} under "
            f"{describe(site['fn'])}: {error}"
        ) from error
    frames = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
    expected = tuple(frames.get(dim, 1) for dim in range(min(frames, default=0), 0))
    if tuple(value.shape) != expected:
        raise PairError(
            f"{role} site {name!r} has log-probabilities of shape {tuple(value.shape)}, expected {expected}, one "
            f"for each datum, from {describe(site['fn'])}. Move the other dims into the event with "
            ".to_event()."
        )
    if isinstance(site["fn"], ZeroOutside):
        value = value[value != -torch.inf]
    if not torch.isfinite(value).all():
        raise PairError(
            f"{role} site {name!r} has {int((~torch.isfinite(value)).sum())} non-finite log-probabilities of "
            f"{value.numel()} under {describe(site['fn'])}. Look at the scale of the inputs (nets.Standardized) "
            "and at the initial parameters."
        )


def _check_rows(site: Site, size: int, plate: str) -> None:
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


def _check_value(site: Site, batch: Mapping[str, Tensor]) -> None:
    """A site of a batch key's name observes its rows in their order; what a model makes of each
    row is its own affair."""
    name, value = site["name"], site["value"]
    data = batch.get(name, value)
    if data.shape != value.shape or masks_of(site):
        return
    rows, observed = data.reshape(len(data), -1).to(value.dtype), value.reshape(len(value), -1)
    moved = int((rows != observed).any(-1).sum())
    if moved and torch.equal(rows.sort(0).values, observed.sort(0).values):
        raise PairError(
            f"site {name!r} observes the rows of batch[{name!r}] in another order ({moved} of {len(rows)} are "
            "not their own), so each datum's latent values explain another's. Observe "
            f"batch[{name!r}] as it is, and shuffle the data before they enter the batch."
        )


def _check_neighbours(
    model: Callable, guide_trace: Trace, batch: Mapping[str, Tensor], size: int, plate: str
) -> None:
    """Score the first half of the rows alone, on the same latent values: nothing may change."""
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
    except Exception:  # a program that only takes batches of this size cannot be asked
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
    """Whether the model draws numbers outside its sites: then no two runs agree, be the rows
    others or the same."""
    again = (nodes_of(run_model(model, guide_trace, batch))[site["name"]] for _ in range(4))
    return not all(_close(log_prob(site), log_prob(other)) for other in again)


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-3, atol=1e-2)
