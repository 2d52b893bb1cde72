"""Turn the silent mistakes of a (model, guide, batch) into errors before the first step."""

from collections.abc import Callable, Mapping

import pyro
import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core._check_batch import check_batch
from pyrovae.core._check_rows import check_neighbours, check_rows, check_value
from pyrovae.core._check_sites import check_site, check_sites
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA
from pyrovae.core.support_checks import check_latent, check_support
from pyrovae.core.traces import no_latents, run_guide, run_model, sample_sites
from pyrovae.core.types import HasNumData, nodes_of

ANY_NUMBER = 2**62
"""Passed as N to checks of objectives that do not depend on the number of data."""


def check(
    model: Callable,
    guide: Callable | None,
    batch: Mapping[str, Tensor],
    *,
    num_data: int | None = None,
    plate: str = DATA,
) -> None:
    """Run the pair once on one batch and raise PairError for mistakes that would give wrong
    results.

    What is checked: the batch (tensors of one leading size B, finite); that both programs run;
    that the model observes the data of the batch, unchanged and not all masked, and the guide
    observes nothing; that both have the same latent sites, in the same plates, of the same event
    shape and scale, with overlapping supports; that log-probabilities follow the law of shapes,
    (B,) in plate "data" at dim -1; that data lie in the support of their likelihood (grey pixels
    under a Bernoulli do not); that N is known where sites lie outside the plate; that every
    log-probability is finite. Parameters, buffers and random streams
    stay as they are. The guide of a model without latents is None.

    Example:
        >>> try: check(model, guide, {"x": torch.full((3, 4), 0.5)})
        ... except PairError as error: print(error)  # doctest: +ELLIPSIS
        site 'x' is Bernoulli on {0, 1}, but the data hold grey values such as 0.5...
    """
    size = check_batch(batch)
    guide = no_latents if guide is None else guide
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
        check_sites(model_trace, guide_trace, batch)
        for site in sample_sites(model_trace, observed=True).values():
            check_support(site)
            check_rows(site, size, plate)
            check_value(site, batch)
        for name, site in sample_sites(model_trace, observed=False).items():
            if name in guide_trace.nodes:
                check_latent(site, nodes_of(guide_trace)[name])
        for role, trace in (("model", model_trace), ("guide", guide_trace)):
            for site in {
                **sample_sites(trace, observed=True),
                **sample_sites(trace, observed=False),
            }.values():
                check_site(role, site, size, num_data, plate)
        with preserve_state(modules, training=False):
            check_neighbours(model, run_guide(guide, batch), batch, size, plate)


def num_data_of(loss: object) -> int | None:
    """The number of data N that `check` assumes for a loss; `ANY_NUMBER` for one without
    `num_data`.

    `Trace_ELBO()(model, guide)` and `PyroLoss` keep the scales that the programs set, and
    `IwaeLoss` refuses sites outside the plate by itself.
    """
    return loss.num_data if isinstance(loss, HasNumData) else ANY_NUMBER


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
