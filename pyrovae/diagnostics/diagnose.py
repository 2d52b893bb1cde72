"""A doctor for fitted pairs: what went wrong, by what it is seen, and what to change."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyro
import torch
from torch import Tensor, nn

from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.broadcasting import Particles
from pyrovae.core.check import ANY_NUMBER, check, num_data_of
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.core.traces import tied_to_rows
from pyrovae.diagnostics.checks import (
    agreement,
    baselines,
    calibration,
    kl_weight,
    learning,
    prior_predictive,
    scales,
    tails,
    units,
)
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Diagnosis, Finding, Severity
from pyrovae.losses.base import unwrap

Check = Callable[[Examination], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "posterior collapse": units.collapse,
    "weights at their prior": units.weights_at_prior,
    "scales": scales.scales_at_start,
    "number of data": kl_weight.kl_weight,
    "agreement of draws": agreement.draws_agree,
    "use of the latent variables": agreement.prior_draws_decode_alike,
    "calibration": calibration.calibration,
    "importance weights of data": tails.of_single_data,
    "importance weights of shared draws": tails.of_shared_draws,
    "prior predictive": prior_predictive.replicates,
    "aggregate posterior": prior_predictive.aggregate_posterior,
    "fit beside kernel ridge regression": baselines.regression,
    "fit beside principal components": baselines.reconstruction,
    "movement of the KL": learning.kl_moves,
    "end of training": learning.stopped_early,
    "learning rate": learning.step_size,
}
"""The checks in the order in which they are made."""
ORDER = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


@flush_subnormals()
def diagnose(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    history: Sequence[Mapping[str, float]] | None = None,
    loss: nn.Module | None = None,
    num_data: int | None = None,
    start: Mapping[str, Tensor] | None = None,
    held_out: Data | None = None,
    max_data: int = 512,
    num_draws: int = 200,
    num_steps: int = 100,
    seed: int = 0,
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> Diagnosis:
    r"""Look for faults of a fitted Bayesian neural network or VAE, each with the evidence seen and
    the change that helps.

    data: the training data, as for `fit`; at most `max_data` of them, chosen at random, are looked at.
    history: what `fit` returned; without it, nothing is said of the KL's movement and the learning rate.
    loss: the objective of training (`ElboLoss(..., num_data=N)`); without it, it is taken for the ELBO of
        all data, and a forgotten N is told from the scales of the weights alone.
    num_data: N, where `data` are a part of the training data.
    start: standard deviations of the guide at the start of training, by site; without them, scales
        that all have one value are taken for untrained.
    held_out: data that were not fitted, for the calibration of Bayesian nets: training data show
        only gross miscalibration.
    num_draws: K, of posterior and prior. num_steps: short steps of Adam, to see what they gain; 0
        leaves these checks out.

    Checks that do not apply, or lack what they need, are listed in `Diagnosis.skipped` with the reason.
    Parameters, their gradients, buffers, flags, random streams and Pyro's store are afterwards what they
    were; equal seeds give equal results.

    Raises: PairError for all that `check` refuses.

    Example:
        >>> found = diagnose(model, guide, {"x": torch.eye(4)}, num_draws=50)
        >>> "underfitting" in found.names, found.skipped["learning rate"]
        (True, 'needs history=, what fit returns')
    """
    if num_draws < 50 or max_data < 2:
        raise ValueError(
            f"num_draws={num_draws} and max_data={max_data}, expected at least 50 draws and 2 data."
        )
    modules = list(find_modules(model, guide, *([] if loss is None else [loss])).values())
    store = pyro.get_param_store()
    stored = set(store.keys())
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    with (
        torch.no_grad(),
        pyro.validation_enabled(False),
        preserve_state(modules, training=False, seed=seed),
    ):
        whole = list(batches(data, names, exemplar_of(model, guide)))
        count = sum(size_of(batch) for batch in whole)
        check(model, guide, whole[0], num_data=ANY_NUMBER, plate=plate)
        batch = whole[0] if tied_to_rows(guide, plate) else _rows(whole, count, max_data)
        stated = None if loss is None else num_data_of(unwrap(loss))
        seen = Examination(
            model,
            guide,
            batch,
            num_data or count,
            plate,
            num_draws,
            num_steps,
            history,
            start,
            num_data or count if stated == ANY_NUMBER else stated,
            loss,
            _held_out(held_out, names, model, guide, max_data),
            Particles.of(model, guide, batch),
        )
        for name, make in CHECKS.items():
            try:
                findings += make(seen)
            except NotApplicable as reason:
                skipped[name] = str(reason)
            except (PairError, NotImplementedError) as error:
                skipped[name] = f"{type(error).__name__}: {error}"
    for name in set(store.keys()) - stored:
        del store[name]
    findings = list({(found.name, found.evidence): found for found in findings}.values())
    return Diagnosis(sorted(findings, key=lambda found: ORDER.index(found.severity)), skipped)


def _rows(whole: list[dict[str, Tensor]], count: int, most: int) -> dict[str, Tensor]:
    """All data as one batch, or `most` of them at random."""
    batch = {name: torch.cat([part[name] for part in whole]) for name in whole[0]}
    if count <= most:
        return batch
    index = torch.randperm(count)[:most]
    return {name: value[index.to(value.device)] for name, value in batch.items()}


def _held_out(
    data: Data | None, names: Sequence[str] | None, model: Callable, guide: Callable, most: int
) -> dict[str, Tensor] | None:
    if data is None:
        return None
    whole = list(batches(data, names, exemplar_of(model, guide)))
    return _rows(whole, sum(size_of(batch) for batch in whole), most)
