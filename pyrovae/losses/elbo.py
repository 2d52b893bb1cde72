"""The evidence lower bound as a loss."""

import warnings
from collections.abc import Callable

import torch.nn as nn
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.batching import size_of
from pyrovae.core.errors import CaptureError, PairError
from pyrovae.core.handlers import ScaleLogProb
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.recording import is_recording
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import for_batch, no_latents, sample_sites, set_up
from pyrovae.losses._estimators import evaluate, pathwise, usable, vectorized, with_traces
from pyrovae.losses._weighted_kl import WeightedKl, weighted_kl
from pyrovae.losses.base import hold
from pyrovae.losses.elbo_terms import Terms, read_terms
from pyrovae.losses.schedules import Schedule, weight_of


class ElboLoss(nn.Module):
    r"""Negative ELBO in nats per datum, -(E_q log p(x | z) - beta KL), by any of Pyro's ELBOs.

    `loss(**batch)` returns the scalar to minimise. Its scale does not depend on the size of the
    batch, and it is unbiased for the full-data objective. `loss.terms` then holds the terms of
    that evaluation at beta = 1.

    guide: None for a model without latents (flows, autoregressive densities), or whose latents are
        all summed out by `Marginal`: the loss is then -log p(x) itself.
    num_data: N, needed only where sites lie outside the data plate (Bayesian weights): their KL is
        weighted by 1/N.
    beta: weight of the KL; a number, or a schedule: a callable that is called at each evaluation,
        also by checks. One that counts steps should count in a buffer and only in train mode, as
        `LinearWarmup` does; its `value()` is recorded in histories.
    free_bits: nats of KL per datum that are not penalised at each latent site: its KL term is
        max(free_bits, KL) of the KL averaged over the batch (in closed form where `elbo` uses one;
        with the weights that a `poutine.scale` in the programs gives the data).
    elbo: the estimator, by default `Trace_ELBO()`. `TraceMeanField_ELBO()` uses the closed form
        of the KL where there is one; `Trace_ELBO(num_particles=5, vectorize_particles=True,
        max_plate_nesting=1)` averages five draws.
    plate: name of the plate over data, if yours is not called "data".

    Model and guide may be modules, methods or functions; modules that a function closes over are
    found and become part of the loss (`loss.parameters()`, `.to()`, `.eval()`).

    Raises: PairError for a site outside the plate while `num_data` is None, and for latents marked
    for enumeration under an estimator that draws them; TypeError for
    estimators that put the batch scale inside a logarithm (`RenyiELBO`) or freeze it
    (`JitTrace_ELBO`), and for free bits and `TraceMeanField_ELBO` without a pathwise gradient.
    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 8; beta: Higgins et al. 2017; free bits:
    Kingma et al. 2016, arXiv:1606.04934, eq. 15, a group being a site.

    Example:
        >>> import torch
        >>> ElboLoss(model, guide)(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable | None = None,
        *,
        num_data: int | None = None,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        elbo: ELBO | None = None,
        plate: str = DATA,
    ) -> None:
        super().__init__()
        self.model, self.guide = model, no_latents if guide is None else guide
        self.found = hold(
            self,
            model,
            self.guide,
            *([] if isinstance(beta, nn.Module) or not callable(beta) else [beta]),
        )
        if num_data is not None and num_data < 1:
            raise ValueError(
                f"num_data={num_data}, expected the number of data in the training set."
            )
        if free_bits < 0:
            raise ValueError(f"free_bits={free_bits}, expected nats per datum, at least 0.")
        self.num_data, self.beta, self.free_bits, self.plate = num_data, beta, free_bits, plate
        self.elbo = usable(Trace_ELBO() if elbo is None else elbo)
        self.terms: Terms | None = None

    def forward(self, **batch: Tensor) -> Tensor:
        loss, terms, _ = self.parts(batch)
        self.terms = terms and terms.detach()
        return loss

    def parts(
        self, batch: dict[str, Tensor], *, purpose: str | None = None
    ) -> tuple[Tensor, Terms | None, WeightedKl]:
        """The loss, its terms (None under enumeration) and, for a `purpose`, the weighted KL, all
        with their graph.

        `purpose` names what differentiates the KL separately, for the TypeError that is raised
        where the KL has no such derivative.
        """
        purpose = purpose or ("free_bits" if self.free_bits else None)
        guide = for_batch(self.guide, batch)
        if self.terms is None:
            set_up(guide, batch)
        if is_recording() and isinstance(self.elbo, TraceEnum_ELBO):
            raise CaptureError(
                "TraceEnum_ELBO reads the values of enumerated sites, which a capture cannot record."
            )
        beta = weight_of(self.beta)
        traces: list[tuple[Trace, Trace]] = []
        with (
            local_param_scope(),
            ScaleLogProb(self.plate, self.num_data, beta, size_of(batch)) as weights,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings(
                "ignore", "Encountered NaN: loss"
            )  # fit raises an error that says more
            warnings.filterwarnings(
                "ignore", "Found plate statements in guide but not model"
            )  # check compares the plates
            loss = evaluate(
                with_traces(self.elbo, traces, purpose or pathwise(self.elbo)),
                self.model,
                guide,
                batch,
            )
        _refuse_unsummed(traces)
        if weights.size is None:
            raise PairError("the pair has no sample sites, so there is nothing to train.")
        loss = loss / weights.size
        terms = read_terms(traces, self.plate, self.num_data, vectorized(self.elbo))
        if purpose and terms is None:
            raise TypeError(
                f"{purpose}: the KL of each site is needed, which enumeration sums out; use ElboLoss alone."
            )
        kl = (
            weighted_kl(
                traces,
                self.plate,
                self.num_data,
                vectorized(self.elbo),
                closed_form=isinstance(self.elbo, TraceMeanField_ELBO),
            )
            if purpose
            else {}
        )
        if self.free_bits:
            loss = loss + beta * sum(
                (self.free_bits * weight - value).clamp(min=0.0) for value, weight in kl.values()
            )
        return loss, terms, kl


def _refuse_unsummed(traces: list[tuple[Trace, Trace]]) -> None:
    """Raise PairError for latents of the model that nobody infers: drawn from the prior, they make
    a bound that is no ELBO."""
    for model, guide in traces:
        drawn = [
            name
            for name, site in sample_sites(model, observed=False).items()
            if name not in guide.nodes and "_enumerate_dim" not in site["infer"]
        ]
        if drawn:
            raise PairError(
                f"latent sites {drawn} of the model are not in the guide, and this estimator draws them from "
                "the prior. Where they are discrete, sum them out: ElboLoss(Marginal(model), guide), or "
                "elbo=TraceEnum_ELBO() with infer={'enumerate': 'parallel'}; else sample them in the guide."
            )
