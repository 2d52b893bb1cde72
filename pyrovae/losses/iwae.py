"""Importance-weighted bounds as losses: IWAE and Rényi's family, with three estimators of their
gradient."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn as nn
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.detach import frozen
from pyrovae.core.errors import PairError
from pyrovae.core.log_weights import log_joint, log_weights_of
from pyrovae.core.shapes import DATA
from pyrovae.core.support_checks import refuse_score_functions
from pyrovae.core.traces import for_batch, replay_guide, run_guide, run_model, sample_sites
from pyrovae.core.types import nodes_of
from pyrovae.losses._datum_weight import datum_weight
from pyrovae.losses.base import hold
from pyrovae.losses.elbo_terms import Terms, read_terms

Gradient = Literal["plain", "stl", "dreg"]


class IwaeLoss(nn.Module):
    r"""Negative importance-weighted bound in nats per datum, -1/(1 - alpha) log (1/K) \sum_k
    w_k^{1 - alpha}.

    With w_k = p(x, z_k) / q(z_k | x) and z_k ~ q: alpha = 0 is the IWAE bound, alpha = 1 the ELBO
    of K draws, between them lie Rényi's bounds; alpha < 0 may exceed log p(x). `loss.terms` holds
    the parts of the ELBO on the same draws.

    gradient: an estimator of the same objective's gradient; the value does not depend on it.
        "plain": the derivative of the bound on the draws, with the score of q, whose mean is zero
            and whose variance is not.
        "stl": without that score (sticking the landing): no noise at the exact posterior. Unbiased
            for alpha = 1 or K = 1; for an IWAE bound of several particles it is biased, and "dreg"
            is not.
        "dreg": doubly reparameterised: the guide's path derivatives have weight
            alpha v_k + (1 - alpha) v_k^2, where v_k is w_k^{1 - alpha}, normalised. Unbiased for
            every alpha and K, without noise at the exact posterior.
        Far from the posterior any of the three may have the least variance. The last two score the
        guide's draws again, which takes an inverse autoregressive flow several passes.

    A `poutine.scale` around model and guide weights the bound of each datum; all sites of a datum
    have to have the same scale.

    Raises: PairError for sites outside the plate (their weight belongs to no single datum), and
    for unequal scales; TypeError for latent sites that are not reparameterised, whose gradient
    would miss a term; ValueError for num_particles < 1.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8; Li & Turner 2016,
    arXiv:1602.02311; STL: Roeder, Wu & Duvenaud 2017, arXiv:1703.09194; DReG: Tucker et al. 2019,
    arXiv:1810.04152, alpha as in its derivation with w replaced by w^{1 - alpha}.

    Example:
        >>> IwaeLoss(model, guide, num_particles=5, gradient="dreg")(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        num_particles: int,
        gradient: Gradient = "plain",
        alpha: float = 0.0,
        plate: str = DATA,
    ) -> None:
        super().__init__()
        self.model, self.guide = model, guide
        self.found = hold(self, model, guide)
        if num_particles < 1:
            raise ValueError(f"num_particles={num_particles}, expected at least 1.")
        if gradient not in get_args(Gradient):
            raise ValueError(
                f"gradient={gradient!r}, expected one of {', '.join(get_args(Gradient))}."
            )
        if not math.isfinite(alpha):
            raise ValueError(
                f"alpha={alpha}, expected a finite order; 0 is the IWAE bound, 1 the ELBO."
            )
        self.num_particles, self.gradient, self.alpha, self.plate = (
            num_particles,
            gradient,
            float(alpha),
            plate,
        )
        self.terms: Terms | None = None

    def forward(self, **batch: Tensor) -> Tensor:
        guide = for_batch(self.guide, batch)
        guide_trace = run_guide(guide, batch, self.num_particles)
        refuse_score_functions(guide_trace, "IwaeLoss")
        if self.gradient == "plain" or not torch.is_grad_enabled():
            model_trace = run_model(self.model, guide_trace, batch, self.num_particles)
            log_w = log_weights_of(model_trace, guide_trace, self.num_particles, plate=self.plate)
            loss = -(datum_weight(model_trace, guide_trace) * self._bound(log_w)).mean()
        else:
            draws, scale_gradients = _boundary(guide_trace)
            with frozen(guide):
                guide_trace = replay_guide(guide, draws, batch, self.num_particles)
                log_joint(
                    guide_trace, self.num_particles, plate=self.plate
                )  # cached in the trace; flows run their nets here
            model_trace = run_model(self.model, draws, batch, self.num_particles)
            log_w = log_weights_of(model_trace, guide_trace, self.num_particles, plate=self.plate)
            v = ((1 - self.alpha) * log_w.detach()).softmax(0)
            if self.gradient == "dreg":
                scale_gradients(self.alpha + (1 - self.alpha) * v)
            weight = datum_weight(model_trace, guide_trace)
            surrogate = -(weight * (v * log_w).sum(0)).mean()
            loss = surrogate - surrogate.detach() - (weight * self._bound(log_w.detach())).mean()
        terms = read_terms([(model_trace, guide_trace)], self.plate, None, self.num_particles)
        if terms is None:
            raise PairError(
                "IwaeLoss cannot weigh sites that are enumerated in parallel; use ElboLoss with TraceEnum_ELBO."
            )
        self.terms = terms.detach()
        return loss

    def _bound(self, log_w: Tensor) -> Tensor:
        order = 1 - self.alpha
        if not order:
            return log_w.mean(0)
        return ((order * log_w).logsumexp(0) - math.log(self.num_particles)) / order

    def extra_repr(self) -> str:
        return (
            f"num_particles={self.num_particles}, gradient={self.gradient!r}, alpha={self.alpha:g}"
        )


def _boundary(guide_trace: Trace) -> tuple[Trace, Callable[[Tensor], None]]:
    """The guide's draws as inputs of the densities, and a function that sets a factor for their
    gradients.

    The factor `(K, B)` multiplies the gradient of the densities with respect to each site once,
    and not again where it flows through the draws of a hierarchical guide.
    """
    factor: list[Tensor] = []
    draws = guide_trace.copy()
    for name, site in sample_sites(guide_trace, observed=False).items():
        value = site["value"]
        if value.requires_grad:
            event_dim = len(site["fn"].event_shape)
            value = value.view_as(value)
            value.register_hook(
                lambda gradient, event_dim=event_dim: (
                    gradient * factor[0][(...,) + (None,) * event_dim] if factor else gradient
                )
            )
        nodes_of(draws)[name] = {**site, "value": value}
    return draws, factor.append
