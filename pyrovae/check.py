"""Turn the silent mistakes of a (model, guide, batch) into errors before the first step."""
from collections.abc import Callable, Mapping

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.errors import PairError
from pyrovae.plates import DATA, DATA_DIM
from pyrovae.traces import frame, is_auxiliary, log_prob, modules_of, run_guide, run_model, sample_sites
from pyrovae.untouched import untouched


def check(model: Callable, guide: Callable, batch: Mapping[str, Tensor], *, num_data: int | None = None,
          plate: str = DATA) -> None:
    """Run the pair once on one batch and raise PairError for what would train or evaluate wrongly.

    What is checked: the batch (tensors of one leading size B, finite); that both programs run; that the model
    observes data and the guide does not; that both have the same latent sites, of the same event shape, with
    overlapping supports; that log-probabilities follow the law of shapes, (B,) in plate "data" at dim -1; that data
    lie in the support of their likelihood (grey pixels under a Bernoulli do not); that N is known where sites lie
    outside the plate; that every log-probability is finite. Parameters, buffers and random streams stay as they are.

    Example:
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead, NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
        >>> try: check(model, guide, {"x": torch.full((3, 4), 0.5)})
        ... except PairError as error: print(error)  # doctest: +ELLIPSIS
        site 'x' is Bernoulli on {0, 1}, but the data hold grey values such as 0.5...
    """
    size = check_batch(batch)
    for name, program in (("model", model), ("guide", guide)):
        if not callable(program):
            raise PairError(f"the {name} is {type(program).__name__}, wanted a callable that takes the batch as keywords.")
    if model is guide:
        raise PairError("model and guide are the same object; the guide is a second program that samples the model's "
                        "latent sites given data.")
    if num_data is not None and num_data < size:
        raise PairError(f"num_data={num_data} is less than the {size} data of one batch; N counts the whole training "
                        "set, not its batches.")
    with torch.no_grad(), pyro.validation_enabled(False), untouched(modules_of(model, guide).values()):
        guide_trace = _run("guide", lambda: run_guide(guide, batch), batch)
        model_trace = _run("model", lambda: run_model(model, guide_trace, batch), batch)
        _check_sites(model_trace, guide_trace, batch)
        for site in sample_sites(model_trace, observed=True).values():
            check_support(site)
        for name, site in sample_sites(model_trace, observed=False).items():
            if name in guide_trace.nodes:
                _check_latent(site, guide_trace.nodes[name])
        for role, trace in (("model", model_trace), ("guide", guide_trace)):
            for site in trace.nodes.values():
                if site["type"] == "sample":
                    _check_site(role, site, size, num_data, plate)


def check_batch(batch: Mapping[str, Tensor]) -> int:
    """The leading size B of a batch; raises PairError for what is no batch of finite tensors."""
    if not isinstance(batch, Mapping):
        raise PairError(f"a batch is {type(batch).__name__}, wanted a mapping from site names to tensors, "
                        "e.g. {'x': images}; for tuples pass names=('x', 'y').")
    sizes = {}
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            raise PairError(f"batch[{name!r}] is {type(value).__name__}, wanted a tensor (B, *event).")
        if not value.dim():
            raise PairError(f"batch[{name!r}] is a scalar, wanted a leading data dimension (B, *event).")
        sizes[name] = len(value)
        bad = ~torch.isfinite(value)
        if bad.any():
            row = int(bad.flatten(1).any(1).nonzero()[0]) if value.dim() > 1 else int(bad.nonzero()[0])
            raise PairError(f"batch[{name!r}] holds {int(bad.sum())} NaN or infinite values, the first in row {row}. "
                            "Remove or impute them before training.")
    if not sizes or 0 in sizes.values():
        raise PairError(f"the batch is empty ({sizes}); wanted at least one datum.")
    if len(set(sizes.values())) > 1:
        raise PairError(f"tensors of one batch differ in leading size, {sizes}; each row is one datum.")
    return next(iter(sizes.values()))


def _run(role: str, run: Callable[[], Trace], batch: Mapping[str, Tensor]) -> Trace:
    try:
        return run()
    except PairError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name}: {tuple(value.shape)} {value.dtype}" for name, value in batch.items())
        raise PairError(f"the {role} fails on this batch ({shapes}) with {type(error).__name__}: {error}") from error


def _check_sites(model_trace: Trace, guide_trace: Trace, batch: Mapping[str, Tensor]) -> None:
    observed = sample_sites(model_trace, observed=True)
    if not observed:
        raise PairError(f"the model observes nothing: its sites are {sorted(sample_sites(model_trace, observed=False))} "
                        f"and the batch names {sorted(batch)}. Name the data after the site they observe.")
    if sample_sites(guide_trace, observed=True):
        raise PairError(f"the guide observes {sorted(sample_sites(guide_trace, observed=True))}; a guide only samples. "
                        "Are model and guide in the wrong order?")
    latent = {name for name, site in sample_sites(model_trace, observed=False).items()
              if site["infer"].get("enumerate") is None}
    guided = {name for name, site in sample_sites(guide_trace, observed=False).items()
              if not is_auxiliary(site)}
    if latent - guided:
        raise PairError(f"the guide misses latent sites {sorted(latent - guided)} of the model (it has "
                        f"{sorted(guided)}); they would be drawn from the prior and never fitted.")
    if guided - set(sample_sites(model_trace, observed=False)):
        extra = sorted(guided - set(sample_sites(model_trace, observed=False)))
        raise PairError(f"the guide samples {extra}, which the model does not (its latent sites are {sorted(latent)}). "
                        "Rename them, or mark them infer={'is_auxiliary': True}.")


def _check_site(role: str, site: dict, size: int, num_data: int | None, plate: str) -> None:
    name, inside = site["name"], frame(site, plate)
    if inside is None and num_data is None:
        raise PairError(f"{role} site {name!r} lies outside plate {plate!r}, so its weight in a minibatch needs the "
                        f"number of data N: pass num_data=N (not the batch size, here {size}), or plate='...' if your "
                        "plate has another name.")
    if inside is not None and (inside.dim != DATA_DIM or inside.size != size):
        raise PairError(f"{role} site {name!r} lies in plate {plate!r} of size {inside.size} at dim {inside.dim}, but the "
                        f"batch has {size} data, wanted at dim {DATA_DIM}. Open pyro.plate({plate!r}, {size}, dim=-1).")
    try:
        value = log_prob(site)
    except (ValueError, RuntimeError, IndexError) as error:
        raise PairError(f"{role} site {name!r} cannot score its value of shape {tuple(site['value'].shape)} under "
                        f"{_describe(site['fn'])}: {error}") from error
    wanted = tuple(f.size for f in sorted(site["cond_indep_stack"], key=lambda f: f.dim or 0) if f.vectorized)
    if tuple(value.shape) != wanted:
        raise PairError(f"{role} site {name!r} has log-probabilities of shape {tuple(value.shape)}, wanted {wanted}, one "
                        f"for each datum, from {_describe(site['fn'])}. Move the other dims into the event with "
                        ".to_event().")
    if not torch.isfinite(value).all():
        raise PairError(f"{role} site {name!r} has {int((~torch.isfinite(value)).sum())} non-finite log-probabilities of "
                        f"{value.numel()} under {_describe(site['fn'])}. Look at the scale of the inputs (nets.Standardized) and at the "
                        "initial parameters.")


def check_support(site: dict) -> None:
    """Raise PairError where an observed value lies outside the support of its likelihood."""
    value = site["value"]
    try:
        support = site["fn"].support
        good = support.check(value)
    except (NotImplementedError, ValueError, RuntimeError):
        return
    if site["mask"] is not None or bool(good.all()):
        return
    base = base_distribution(site["fn"])
    low, high = float(value.min()), float(value.max())
    outside = value[~_base_support(support).check(value)].flatten()
    example = f"{float(outside[0]):.4g}" if len(outside) else f"{high:.4g}"
    text = f"site {site['name']!r} is {type(base).__name__} "
    if isinstance(base, dist.Bernoulli) and 0 <= low and high <= 1:
        text += (f"on {{0, 1}}, but the data hold grey values such as {example}; that is not a density. Binarise the "
                 "data (dynamic, static or threshold), or use ContinuousBernoulliHead.")
    elif low >= 0 and 1 < high <= 255 and isinstance(base, (dist.Bernoulli, dist.ContinuousBernoulli)):
        text += f"on [0, 1], but the data reach {high:g}: they look like 0-255 pixels. Divide by 255 first."
    else:
        text += (f"with support {_base_support(support)}, but the data lie in [{low:g}, {high:g}], e.g. {example}. "
                 "Change the likelihood or the scale of the data.")
    raise PairError(text)


def _check_latent(site: dict, guide_site: dict) -> None:
    name, fn, q = site["name"], site["fn"], guide_site["fn"]
    inside = [frame.name for frame in site["cond_indep_stack"]]
    if inside != [frame.name for frame in guide_site["cond_indep_stack"]]:
        raise PairError(f"latent site {name!r} lies in plates {inside} in the model and in "
                        f"{[frame.name for frame in guide_site['cond_indep_stack']]} in the guide; they must agree.")
    if fn.event_shape != q.event_shape:
        raise PairError(f"latent site {name!r} has event shape {tuple(fn.event_shape)} in the model and "
                        f"{tuple(q.event_shape)} in the guide; they must agree, e.g. with .to_event(1).")
    if isinstance(base_distribution(q), dist.Delta):
        return
    for source, target, words in ((q, fn, "the guide draws values outside the model's support, where p(z) = 0"),
                                  (fn, q, "the guide cannot reach all of the model's support, so estimates with it "
                                          "miss a part of p(x)")):
        try:
            good = target.support.check(source(torch.Size([64]) if not source.batch_shape else ()))
        except (NotImplementedError, AttributeError):
            continue
        if not good.all():
            raise PairError(f"latent site {name!r}: {words} ({_describe(fn)} in the model, {_describe(q)} in the guide). "
                            "Use a guide distribution with the model's support.")


def base_distribution(fn: dist.Distribution) -> dist.Distribution:
    """The family under `.to_event`, `.mask` and plates."""
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn


def _base_support(support: constraints.Constraint) -> constraints.Constraint:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _describe(fn: dist.Distribution) -> str:
    return f"{type(base_distribution(fn)).__name__}(batch {tuple(fn.batch_shape)}, event {tuple(fn.event_shape)})"
