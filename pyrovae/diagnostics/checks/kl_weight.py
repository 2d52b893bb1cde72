"""The weight of the KL of shared latent values: 1/N, if the objective knows N."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import constraints

from pyrovae.core.log_weights import log_joint
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import sample_sites
from pyrovae.core.types import Site, nodes_of
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.checks.scales import guide_scales
from pyrovae.diagnostics.diagnosis import Finding, Severity

MOST = 2.5
"""Times its weight that the KL may seem to have."""
LEAST_DETERMINED = 2.0
"""Effective number of parameters below which the weight cannot be told."""
ERRORS = 3.0


def kl_weight(seen: Examination) -> Iterator[Finding]:
    """N as the loss states it, or the weight of the KL for which the scales are stationary."""
    seen.need_shared()
    if seen.loss is not None:
        if seen.stated is None:
            yield _finding(
                f"the loss has no num_data, and the pair is fitted to {seen.num_data} data"
            )
            return
        if not seen.num_data / 1.5 <= seen.stated <= seen.num_data * 1.5:
            yield _finding(
                f"the loss has num_data={seen.stated}, but the pair is fitted to {seen.num_data} data: the KL of the "
                f"weights has {seen.num_data / seen.stated:.3g} times its weight"
            )
        return
    seen.need_trained()
    if not seen.particles.model_broadcasts or not guide_scales(seen):
        raise NotApplicable("the guide has no scales of normals, or the model runs draw by draw")
    weight, error, determined = stationary_weight(seen)
    if determined < LEAST_DETERMINED:
        raise NotApplicable(f"the data determine {determined:.1f} weights, too few to tell")
    if weight - ERRORS * error > MOST:
        yield _finding(
            f"the scales of the guide are what they would be if the KL of the weights had {weight:.1f} +- {error:.1f} times "
            f"its weight, i.e. for about {seen.num_data / weight:.0f} data in place of {seen.num_data}"
        )


def stationary_weight(seen: Examination) -> tuple[float, float, float]:
    r"""The weight kappa of the KL at which rescaling the posterior about its mean changes nothing,
    its standard error, and the effective number of well-determined weights.

    With w_c = m + c (w - m), d/dc E_q[log p(D | w_c)] = kappa d/dc KL at c = 1, so kappa =
    -E[(w - m) . grad log p(D | w)] / (d + E[(w - m) . grad log p(w)]). The denominator is MacKay's
    gamma, sum_j 1 - sigma_j^2 / s_j^2 for normal priors of scale s_j. Draws are reflected about m, which is exact for
    symmetric guides and removes the noise of gradients at m."""
    names = [name for name, site in seen.shared.items() if _is_real(site)]
    if not names:
        raise NotApplicable("no shared real latent values")
    dims = sum(seen.shared[name]["fn"].event_shape.numel() for name in names)
    likelihood, prior = zip(*(_slopes(seen, names, sign) for sign in (1.0, -1.0)))
    pull = -torch.stack(likelihood).mean(0) * (seen.num_data / seen.size)
    room = dims + torch.stack(prior).mean(0)
    determined = room.mean().item()
    weight = pull.mean().item() / determined if determined > 0 else 0.0
    error = ((pull - weight * room).std() / len(pull) ** 0.5).item() / max(determined, 1e-9)
    return weight, error, determined


def _slopes(seen: Examination, names: list[str], sign: float) -> tuple[Tensor, Tensor]:
    """d/dc of log p(D, z | w_c) and of log p(w_c) at c = 1, `(K,)` each, of draws or of their mirror
    images."""
    draws = seen.posterior.copy()
    with torch.enable_grad(), preserve_state(find_modules(seen.model).values(), random=False):
        stretch = torch.ones(seen.num_draws, dtype=torch.float64).requires_grad_()
        for name in names:
            value = seen.shared[name]["value"]
            mean = value.mean(0)
            by = stretch.to(value).reshape(-1, *[1] * (value.dim() - 1))
            nodes_of(draws)[name] = {
                **nodes_of(draws)[name],
                "value": mean + sign * by * (value - mean),
            }
        trace = seen.particles.run_model(seen.model, draws, seen.batch, seen.num_draws)
        prior, rest = (
            trace.copy(),
            trace.copy(),
        )  # latent values of single data depend on w, as data do
        for name in sample_sites(trace, observed=False):
            del nodes_of(rest if name in seen.shared else prior)[name]
        likelihood = log_joint(rest, seen.num_draws, plate=None)
        slopes = [
            torch.autograd.grad(part.sum(), stretch, retain_graph=True, allow_unused=True)[0]
            if part.requires_grad
            else None
            for part in (likelihood, log_joint(prior, seen.num_draws, plate=None, observed=False))
        ]
    zero = torch.zeros(seen.num_draws, dtype=torch.float64)
    first, second = (zero if slope is None else slope.detach().cpu() for slope in slopes)
    return first, second


def _is_real(site: Site) -> bool:
    support = site["fn"].support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support in (constraints.real, constraints.real_vector)


def _finding(evidence: str) -> Finding:
    return Finding(
        "N not stated",
        Severity.ERROR,
        evidence,
        "pass num_data=N, the number of training data (not of a batch, and not 1), to the loss; in a hand-written "
        "objective divide the KL of the weights by N where the likelihood is a mean over data",
    )
