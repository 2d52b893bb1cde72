"""Whether values, parameters and supports of sites fit together."""

import math

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.core.errors import PairError
from pyrovae.core.moving_support import ZeroOutside, base_support
from pyrovae.core.shapes import DATA_DIM
from pyrovae.core.target_shapes import check_event_shape
from pyrovae.core.traces import base_distribution, sample_sites
from pyrovae.core.types import Site, base_of

BOUNDED = (
    constraints.interval,
    constraints.half_open_interval,
    constraints.greater_than,
    constraints.greater_than_eq,
    constraints.less_than,
)
CIRCULAR = (dist.VonMises, dist.SineBivariateVonMises)
"""Densities of angles, normalised over one turn although their `support` is the whole line."""


def check_support(site: Site) -> None:
    """Raise PairError where an observed value lies outside the support of its likelihood, or has
    another shape."""
    check_event_shape(site)
    value = site["value"]
    good = lies_in_support(site)
    if good is None or bool(good.all()):
        return
    base, support = base_distribution(site["fn"]), site["fn"].support
    if isinstance(base, dist.Beta) and bool(support.check(value).all()):
        ends = int(((value == 0) | (value == 1)).sum())
        raise PairError(
            f"site {site['name']!r} is a Beta on the open interval (0, 1), but {ends} of {value.numel()} values "
            "are exactly 0 or 1, where its density is 0 or infinite. Use ContinuousBernoulliHead, which takes "
            "them; or dequantise 8-bit pixels, x = (255 x + u) / 256 with u uniform on (0, 1); or shrink the "
            "data to x = (x (N - 1) + 0.5) / N for N data."
        )
    low, high = float(value.min()), float(value.max())
    outside = value[~base_support(support).check(value)].flatten()
    example = f"{float(outside[0]):.4g}" if len(outside) else f"{high:.4g}"
    text = f"site {site['name']!r} is {type(base).__name__} "
    if low != low:
        text += "and its data hold NaN. Remove or impute them before training."
    elif base_support(support) is constraints.boolean and 0 <= low and high <= 1:
        text += (
            f"on {{0, 1}}, but the data hold grey values such as {example}; that is not a density. Binarise the "
            "data (dynamic, static or threshold), or use ContinuousBernoulliHead."
        )
    elif (
        low >= 0
        and 1 < high <= 255
        and isinstance(base, (dist.Bernoulli, dist.ContinuousBernoulli))
    ):
        text += f"on [0, 1], but the data reach {high:g}: they look like 0-255 pixels. Divide by 255 first."
    elif (
        isinstance(base_support(support), constraints.integer_interval) and 0 <= low and high <= 1
    ):
        text += (
            f"on whole levels, {base_support(support)}, but the data hold grey values such as {example}. Make them "
            "levels, e.g. by the data set's as_levels()."
        )
    else:
        text += (
            f"with support {base_support(support)}, but the data lie in [{low:g}, {high:g}], e.g. {example}. "
            "Change the likelihood or the scale of the data."
        )
    raise PairError(text)


def lies_in_support(site: Site) -> Tensor | None:
    """For each observed value whether it lies in the support; None where that is not defined,
    because of a mask or a distribution without a support."""
    if masks_of(site) or isinstance(site["fn"], ZeroOutside):
        return None
    try:
        good = site["fn"].support.check(site["value"])
    except (NotImplementedError, ValueError, RuntimeError):
        return None
    if isinstance(
        base_distribution(site["fn"]), dist.Beta
    ):  # torch includes 0 and 1 in its support
        return good & ((site["value"] > 0) & (site["value"] < 1)).all()
    return good


def check_parameters(role: str, site: Site) -> None:
    """Raise PairError where a distribution has parameters that it does not allow."""
    base = base_distribution(site["fn"])
    for name, constraint in (
        base.arg_constraints if isinstance(base, Distribution) else {}
    ).items():
        value = base.__dict__.get(name)
        if isinstance(value, Tensor) and not torch.isfinite(value).all():
            raise PairError(
                f"{role} site {site['name']!r} has non-finite {name} in {describe(site['fn'])}. Look at the "
                "scale of the inputs (nets.Standardized) and at the initial parameters."
            )
        if (
            isinstance(value, Tensor)
            and not constraints.is_dependent(constraint)
            and not constraint.check(value).all()
        ):
            raise PairError(
                f"{role} site {site['name']!r} has {name} in [{float(value.min()):g}, {float(value.max()):g}], "
                f"but {type(base).__name__} expects {constraint}. Map the net's output there, e.g. by exp or "
                "logits=, and look at the scale of the inputs (nets.Standardized)."
            )


def check_latent(site: Site, guide_site: Site) -> None:
    """Raise PairError where model and guide disagree on the plates, scale, shape or support of a
    latent site."""
    name, fn, q = site["name"], site["fn"], guide_site["fn"]
    plates, guide_plates = (
        {plate_frame.name: plate_frame.dim for plate_frame in part["cond_indep_stack"]}
        for part in (site, guide_site)
    )
    if plates != guide_plates:
        raise PairError(
            f"latent site {name!r} lies in plates (name: dim) {plates} in the model and in {guide_plates} in "
            "the guide; they must agree."
        )
    scales = torch.broadcast_tensors(
        *(torch.as_tensor(part["scale"]).cpu().double() for part in (site, guide_site))
    )
    unequal = ~torch.isclose(*scales)
    if unequal.any():
        model_scale, guide_scale = (float(scale[unequal][0]) for scale in scales)
        raise PairError(
            f"latent site {name!r} is scaled by {model_scale:g} in the model and by {guide_scale:g} in the "
            "guide, so its terms do not make up a KL. Put poutine.scale around it in both, or weight the KL "
            "with ElboLoss(beta=...)."
        )
    if fn.event_shape != q.event_shape:
        raise PairError(
            f"latent site {name!r} has event shape {tuple(fn.event_shape)} in the model and "
            f"{tuple(q.event_shape)} in the guide; they must agree, e.g. with .to_event(1)."
        )
    if isinstance(base_distribution(q), dist.Delta):
        return
    if isinstance(support_of(fn), BOUNDED) and support_of(q) is constraints.real:
        raise PairError(
            f"latent site {name!r}: the guide draws values outside the model's support, {support_of(fn)} "
            f"({describe(fn)} in the model, {describe(q)} in the guide). Use a guide distribution with the "
            "model's support."
        )
    for source, target, words in (
        (q, fn, "the guide draws values outside the model's support, where p(z) = 0"),
        (
            fn,
            q,
            "the guide cannot reach all of the model's support, so estimates with it "
            "miss a part of p(x)",
        ),
    ):
        try:
            good = target.support.check(source(torch.Size([64]) if not source.batch_shape else ()))
        except (NotImplementedError, AttributeError):
            continue
        if not good.all():
            raise PairError(
                f"latent site {name!r}: {words} ({describe(fn)} in the model, {describe(q)} in the guide). "
                "Use a guide distribution with the model's support."
            )


def refuse_other_plate(site: Site, size: int, plate: str) -> None:
    """Raise PairError where an observed site lies in a plate of `size` data that has another name
    than `plate`."""
    other = next(
        (
            plate_frame.name
            for plate_frame in site["cond_indep_stack"]
            if plate_frame.dim == DATA_DIM and plate_frame.size == size
        ),
        None,
    )
    if other is not None:
        raise PairError(
            f"site {site['name']!r} is observed in plate {other!r}, which has the size of the batch, {size}, "
            f"but the plate over data is expected to be called {plate!r}. Pass plate={other!r}: only then does "
            "num_data (where weights lie outside it) scale the data up to the whole set."
        )


def support_of(fn: Distribution) -> constraints.Constraint | None:
    """The support of one element; None where the distribution defines none."""
    base = base_distribution(fn)
    if isinstance(base, CIRCULAR):
        return constraints.interval(-math.pi, math.pi)
    try:
        support = fn.support
    except (NotImplementedError, AttributeError):
        return None
    if support is None:
        return None
    support = base_support(support)
    if support is constraints.real and isinstance(base, dist.TransformedDistribution):
        # torch reports the codomain of the last transform, but one before it may bound the values
        return None
    return support


def masks_of(site: Site) -> list[Tensor | bool]:
    """The masks of a site and of its distribution: where one is False, the value need not lie in
    the support."""
    masks = [] if site["mask"] is None else [site["mask"]]
    fn: Distribution | None = site["fn"]
    while fn is not None:
        if isinstance(fn, dist.MaskedDistribution):
            masks.append(fn._mask)
        fn = base_of(fn)
    return masks


def describe(fn: Distribution) -> str:
    return f"{type(base_distribution(fn)).__name__}(batch {tuple(fn.batch_shape)}, event {tuple(fn.event_shape)})"


def refuse_score_functions(guide_trace: Trace, purpose: str) -> None:
    """Raise TypeError where a latent site has no pathwise gradient."""
    for name, site in sample_sites(guide_trace, observed=False).items():
        if not site["fn"].has_rsample:
            raise TypeError(
                f"{purpose} differentiates through the guide's draws, but latent site {name!r} is not "
                "reparameterised (a discrete one, say). Use ElboLoss, whose Trace_ELBO has a score-function "
                "gradient."
            )
