"""The ELBO of traces whose latent draws are all reparameterised: one tensor, with no detour
through Python numbers."""

import torch
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from pyrovae.core.traces import base_distribution, sample_sites
from pyrovae.core.types import Site, nodes_of, sum_of

KNOWN = (Trace_ELBO, TraceMeanField_ELBO)
"""The estimators whose loss is computed here from the traces, so that a step can be vmapped and
captured as a graph."""


def is_pathwise(guide_trace: Trace) -> bool:
    return all(
        site["fn"].has_rsample for site in sample_sites(guide_trace, observed=False).values()
    )


def negative_elbo(model_trace: Trace, guide_trace: Trace, *, closed_form: bool) -> Tensor:
    """Minus the sum of scaled log-probabilities of the model, less those of the guide; for
    `closed_form` with the KLs of sites by formula.

    Equal to `Trace_ELBO` and `TraceMeanField_ELBO`, gradients included, except for the log-density
    of a `Delta`, which Pyro's closed form leaves out.
    """
    model, guide = _samples(model_trace), _samples(guide_trace)
    loss: Tensor | float = 0.0
    for name, site in model.items():
        kl = closed_form_kl(site, guide[name]) if closed_form and not site["is_observed"] else None
        if kl is None:
            loss = (
                loss
                - site["log_prob_sum"]
                + (guide.pop(name)["log_prob_sum"] if name in guide else 0.0)
            )
        else:
            mask, scale = guide[name]["mask"], guide[name]["scale"]
            loss = loss + torch.as_tensor(scale_and_mask(kl, scale=scale, mask=mask)).sum()
            del guide[name]
    return loss + sum_of(site["log_prob_sum"] for site in guide.values())  # auxiliary sites


def _samples(trace: Trace) -> dict[str, Site]:
    return {name: site for name, site in nodes_of(trace).items() if site["type"] == "sample"}


def closed_form_kl(model_site: Site, guide_site: Site) -> Tensor | None:
    """KL(q || p) of one site in the shape of its batch, without scale and mask; None where there
    is no formula."""
    if isinstance(base_distribution(guide_site["fn"]), Delta):
        # Pyro's formula leaves out the log_density, e.g. the Jacobian of an autoguide's positive
        # site
        return None
    try:
        return kl_divergence(guide_site["fn"], model_site["fn"])
    except NotImplementedError:
        return None
