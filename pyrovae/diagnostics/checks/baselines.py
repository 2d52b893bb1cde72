"""The fit beside cheap predictions of the same data: kernel ridge regression and principal
components."""

from collections.abc import Iterator

import torch
from pyro.distributions import Bernoulli, Categorical
from torch import Tensor

from pyrovae.core.traces import base_distribution
from pyrovae.diagnostics.checks.agreement import predicted_moments
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable, on_draws
from pyrovae.diagnostics.checks.units import active_units
from pyrovae.diagnostics.diagnosis import Finding, Severity

BETTER = 0.1
"""Share of the variance, or of the data classified, by which the baseline has to be better."""
ROWS = 500
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
WIDTHS = (0.3, 1.0, 3.0)
"""In units of the median distance between data."""


def regression(seen: Examination) -> Iterator[Finding]:
    """A fit whose error on its own training data is above the leave-one-out error of kernel ridge
    regression."""
    seen.need_unmasked()
    seen.need_shared()
    if seen.local or len(seen.observed) != 1:
        raise NotApplicable("not one observed site that is predicted from inputs")
    name, site = next(iter(seen.observed.items()))
    inputs = [
        value.double().flatten(1) if value.dim() > 1 else value.double()[:, None]
        for key, value in seen.batch.items()
        if key != name and value.is_floating_point()
    ]
    if not inputs:
        raise NotApplicable("the data have no inputs")
    x, y = torch.cat(inputs, 1)[:ROWS], site["value"][:ROWS]
    base = base_distribution(site["fn"])
    if isinstance(base, (Categorical, Bernoulli)) and seen.particles.model_broadcasts:
        yield from _classes(seen, site["fn"], base, x, y)
        return
    moments = predicted_moments(seen)
    if moments is None:
        raise NotApplicable("the observed site has no mean, or the model runs draw by draw")
    predicted = moments[0].mean(0)
    y = y.double().flatten(1) if y.dim() > 1 else y.double()[:, None]
    predicted = predicted.expand(seen.size, -1)[:ROWS]
    total = (y - y.mean(0)).square().sum()
    if total <= 0:
        raise NotApplicable("the targets are constant")
    own = 1 - ((y - predicted).square().sum() / total).item()
    other = max(1 - ((y - fit).square().sum() / total).item() for fit in _left_one_out(x, y))
    if other - own > BETTER:
        yield _finding(
            f"the posterior mean explains {own:.0%} of the variance of its training targets, kernel ridge regression "
            f"{other:.0%} of targets it was not fitted to"
        )


def reconstruction(seen: Examination) -> Iterator[Finding]:
    """A VAE that reconstructs its training data worse than as many principal components as it has
    active units."""
    seen.need_unmasked()
    seen.need_local()
    if seen.shared or len(seen.observed) != 1:
        raise NotApplicable("weights, or several observed sites")
    (site,) = seen.observed.values()
    x = site["value"].double().flatten(1)
    try:
        mean = on_draws(
            site["fn"].mean.double(), site["fn"], seen.num_draws, len(site["fn"].event_shape)
        )
    except (AttributeError, NotImplementedError) as error:
        raise NotApplicable("the observed site has no mean") from error
    active, _ = active_units(seen)
    decoded = mean.mean(0).flatten(1)
    centred = x - x.mean(0)
    total = centred.square().sum()
    if total <= 0 or decoded.shape != x.shape or not decoded.isfinite().all():
        raise NotApplicable("the data are constant, or the observed site has no mean")
    own = 1 - ((x - decoded).square().sum() / total).item()
    values = torch.linalg.svdvals(centred).square()
    other = (values[:active].sum() / total).item()
    if other - own > BETTER:
        yield _finding(
            f"reconstructions explain {own:.0%} of the variance of the data, the first {active} principal components "
            f"{other:.0%}, as many as there are active units",
            CODES,
        )


def _left_one_out(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Leave-one-out predictions of kernel ridge regression, `(N, T)`, over widths and ridges; of
    least squares, and of the mean."""
    scale = x.std(0)
    x = (x - x.mean(0)) / torch.where(scale > 0, scale, 1.0)
    centre = y.mean(0)
    distances = torch.cdist(x, x)
    middle = distances[distances > 0].median() if (distances > 0).any() else distances.new_ones(())
    kernels = [torch.exp(-0.5 * (distances / (width * middle)) ** 2) for width in WIDTHS]
    eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for kernel in [*kernels, x @ x.T / x.shape[1]]:
        for ridge in RIDGES:
            inverse = torch.linalg.inv(kernel + ridge * eye)
            yield y - (inverse @ (y - centre)) / inverse.diagonal()[:, None]


def _classes(
    seen: Examination, fn: torch.distributions.Distribution, base: object, x: Tensor, y: Tensor
) -> Iterator[Finding]:
    if isinstance(base, Categorical):
        probs = on_draws(base.probs.double(), fn, seen.num_draws, len(fn.event_shape) + 1).mean(0)
        probs = probs.expand(seen.size, *probs.shape[1:])[:ROWS]
        own = (probs.argmax(-1) == y).double()
        targets = torch.nn.functional.one_hot(y.long(), probs.shape[-1]).double()
        best = max(
            (fit.reshape(targets.shape).argmax(-1) == y).double().mean().item()
            for fit in _left_one_out(x, targets.flatten(1))
        )
    elif isinstance(base, Bernoulli):
        probs = on_draws(base.probs.double(), fn, seen.num_draws, len(fn.event_shape)).mean(0)
        own = (probs[:ROWS] > 0.5).double()
        flat = y.double().reshape(len(y), -1)
        own = (own.reshape(len(y), -1) == flat).double()
        best = max(
            ((fit > 0.5) == (flat > 0.5)).double().mean().item() for fit in _left_one_out(x, flat)
        )
    else:
        raise NotApplicable(
            "the observed site has neither classes nor a mean, or the model runs draw by draw"
        )
    share = own.mean().item()
    error = (share * (1 - share) / len(y)) ** 0.5
    if best - share > BETTER / 2 + 2 * error:
        yield _finding(
            f"the posterior mean classifies {share:.0%} of its training data rightly, kernel ridge regression {best:.0%} of "
            "data it was not fitted to"
        )


WEIGHTS = (
    "train the means longer or with a larger learning rate, start the scales smaller (init_scale=0.01), weigh the "
    "KL by 1/N and no more, standardise the inputs, or widen the net"
)
CODES = "train longer or with a larger learning rate, widen the nets, beta = 1 and no more"


def _finding(evidence: str, remedy: str = WEIGHTS) -> Finding:
    return Finding("underfitting", Severity.ERROR, evidence, remedy)
