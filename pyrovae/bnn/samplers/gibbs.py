"""Gibbs steps for sites with a tractable conditional, beside a Markov chain for the others."""

from collections.abc import Callable, Mapping
from typing import Protocol, cast, runtime_checkable

import torch
from pyro import poutine
from pyro.distributions import InverseGamma, Normal
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import Transform, biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import identity_transform

from pyrovae.bnn.samplers.mcmc import ChainKernel, Kernel, changed
from pyrovae.core.traces import base_distribution, kept_elements, sample_sites
from pyrovae.core.types import Site, nodes_of

Draw = Callable[[Trace], Tensor]
"""A draw of p(site | all other sites, data), from a trace of the model in which these have their
present values."""


@runtime_checkable
class Checks(Protocol):
    """A draw that knows for which models it is the conditional."""

    def check(self, trace: Trace) -> None:
        """Raise ValueError for other models. trace: with fixed values, that of the site to draw
        differentiable."""


class Gibbs(MCMCKernel):
    r"""Metropolis within Gibbs: in turn a step of `kernel` on p(w | v, D) and exact draws v ~ p(v
    | w, D), for `mcmc`.

    draws: how to draw each site v, which may be discrete.
    kernel: makes, from a model, the kernel that moves the others, e.g. `NUTS`.
    Raises: ValueError for a site that the model does not sample.
    Source: Geman & Geman 1984, IEEE PAMI 6(6); within a chain over weights: Neal 1996, Bayesian
    Learning for Neural Networks, section 3.2.

    Example:
        >>> from pyro.infer import NUTS
        >>> from pyrovae import Bayesian, Global, Model, Node
        >>> from pyrovae.heads import SharedVarianceHead
        >>> from pyrovae.priors import InverseGammaPrior
        >>> from pyrovae.bnn.samplers import mcmc
        >>> model = Model(variance=Global(InverseGammaPrior(1.0, 0.01)),
        ...               y=Node(SharedVarianceHead(Bayesian(torch.nn.Linear(1, 1))), "x", "variance"))
        >>> chains = mcmc(model, {"x": torch.ones(8, 1), "y": torch.ones(8, 1)},
        ...               lambda model: Gibbs(model, NUTS, variance=noise_variance()), num_samples=3, warmup=3)
        >>> chains.draws["variance"].shape
        torch.Size([3, 1])
    """

    def __init__(self, model: Callable, kernel: Kernel, **draws: Draw) -> None:
        self.model, self.draws = model, draws
        self.values: dict[str, Tensor] = {}
        # the kernel reads `values` when it moves
        self.kernel = cast(ChainKernel, kernel(poutine.condition(model, data=self.values)))
        self._start: dict[str, Tensor] | None = None
        self.own: dict[str, Transform] = {}
        """To the unconstrained scale, for each site of `values`."""
        self.discrete: list[str] = []

    @property
    def transforms(self) -> dict[str, Transform]:
        """Transforms to the unconstrained scale, by site."""
        return {**self.kernel.transforms, **self.own}

    @property
    def initial_params(self) -> dict[str, Tensor]:
        return {
            **self.kernel.initial_params,
            **{name: self.own[name](value) for name, value in self.values.items()},
        }

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        self._start = params

    def setup(self, warmup_steps: int, *args: object, **kwargs: object) -> None:
        self.data = args, kwargs
        trace = prune_subsample_sites(poutine.trace(self.model).get_trace(*args, **kwargs))
        nodes = nodes_of(trace)
        if missing := [
            name for name in self.draws if name not in nodes or nodes[name]["is_observed"]
        ]:
            raise ValueError(
                f"Gibbs is to draw {missing}, expected some of the latent sites "
                f"{sorted(name for name in sample_sites(trace, observed=False))}."
            )
        values = {
            name: site["value"].detach()
            for name, site in sample_sites(trace, observed=False).items()
        }
        self.discrete = [name for name in self.draws if nodes[name]["fn"].support.is_discrete]
        for name, draw in self.draws.items():
            check_draw(name, draw, self._trace, values)
            self.own[name] = _to_unconstrained(nodes[name]["fn"].support)
            self.values[name] = (
                nodes[name]["value"]
                if self._start is None
                else self.own[name].inv(self._start[name])
            )
        if self._start is not None:
            self.kernel.initial_params = self._others(self._start)
        self.kernel.setup(warmup_steps, *args, **kwargs)

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        others = self.kernel.sample(self._others(params))
        present = {name: self.kernel.transforms[name].inv(value) for name, value in others.items()}
        for name, draw in self.draws.items():
            with torch.no_grad():
                self.values[name] = draw(self._trace({**present, **self.values}))
        changed(self.kernel, others)
        return {**others, **{name: self.own[name](value) for name, value in self.values.items()}}

    def _trace(self, values: Mapping[str, Tensor]) -> Trace:
        args, kwargs = self.data
        known = poutine.condition(self.model, data=dict(values))
        return poutine.trace(known).get_trace(*args, **kwargs)

    def potential_fn(self, params: Mapping[str, Tensor]) -> Tensor:
        """-log p(w, v, D) in nats, v at its present value."""
        return self.kernel.potential_fn(self._others(params))

    def clear_cache(self) -> None:
        """Forget where the kernel is."""
        if self._start is not None:
            changed(self.kernel, self._others(self._start))

    def _others(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in params.items() if name not in self.draws}


def check_draw(
    name: str,
    draw: Draw,
    trace_at: Callable[[Mapping[str, Tensor]], Trace],
    values: Mapping[str, Tensor],
) -> None:
    """Raise ValueError where the draw of a site says that it is no conditional of the model.

    trace_at: the trace of the model at given values of all latent sites; values: some of them.
    """
    if isinstance(draw, Checks):
        with torch.enable_grad():
            value = values[name].detach().requires_grad_()
            draw.check(trace_at({**values, name: value}))


def _to_unconstrained(support: Constraint) -> Transform:
    """A discrete site stays as it is."""
    return identity_transform if support.is_discrete else biject_to(support).inv


def noise_variance(variance: str = "variance", target: str = "y") -> Draw:
    r"""v | r ~ InverseGamma(a + n / 2, b + sum r^2 / 2): exact where v ~ InverseGamma(a, b), n
    residuals r ~ N(0, v).

    For `Global(InverseGammaPrior(a, b))` and `SharedVarianceHead`; n counts every element of every
    target that no mask leaves out.
    Raises: ValueError where prior or likelihood are others, for which the conditional is no
    inverse gamma, for several variances, for scaled sites, and where other sites, such as weights or
    a second target, or the mean of the target depend on v.
    """
    return _NoiseVariance(variance, target)


class _NoiseVariance:
    def __init__(self, variance: str, target: str) -> None:
        self.variance, self.target = variance, target

    def __call__(self, trace: Trace) -> Tensor:
        variance, target = self.variance, self.target
        sites = {name: site for name, site in nodes_of(trace).items() if site["type"] == "sample"}
        if lacking := sorted({variance, target} - sites.keys()):
            raise ValueError(
                f"the model has no sites {lacking}, but {sorted(sites)}: name its variance and its target, "
                "noise_variance(variance, target)."
            )
        prior, likelihood = (base_distribution(sites[name]["fn"]) for name in (variance, target))
        value = sites[variance]["value"]
        scaled = [name for name in (variance, target) if _is_scaled(sites[name])]
        if (
            not (isinstance(prior, InverseGamma) and isinstance(likelihood, Normal))
            or value.numel() != 1
            or not torch.allclose(likelihood.scale**2, value)
            or scaled
        ):
            raise ValueError(
                f"{variance!r} ~ {type(prior).__name__} of shape {tuple(value.shape)}, {target!r} ~ "
                f"{type(likelihood).__name__}, and {scaled} are scaled; expected an inverse gamma, one number, and a normal "
                "of this variance, unscaled: Global(InverseGammaPrior(...)) with SharedVarianceHead."
            )
        squares = (sites[target]["value"] - likelihood.loc).square()
        kept = kept_elements(sites[target])
        half = torch.where(kept, squares, torch.zeros_like(squares)).sum() / 2
        return InverseGamma(prior.concentration + kept.sum() / 2, prior.rate + half).sample()

    def check(self, trace: Trace) -> None:
        """Raise ValueError where more than the spread of the target depends on the variance."""
        found = nodes_of(trace).get(self.variance)
        if found is None:
            return  # the draw says so
        value = found["value"]
        for name, site in sample_sites(trace, observed=True).items():
            if name == self.variance:
                continue
            base = base_distribution(site["fn"])
            if name == self.target:
                result, what = base.loc if isinstance(base, Normal) else None, "the mean of site"
            else:
                result, what = site["fn"].log_prob(site["value"]), "site"
            if result is not None and _depends(result, value):
                raise ValueError(
                    f"{what} {name!r} depends on {self.variance!r}, whose conditional noise_variance takes from the "
                    f"residuals of {self.target!r} alone. Draw {self.variance!r} with the other sites, by NUTS, or by a "
                    "function of your own."
                )


def _depends(result: Tensor, value: Tensor) -> bool:
    if not result.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(result.sum(), value, retain_graph=True, allow_unused=True)
    return gradient is not None


def _is_scaled(site: Site) -> bool:
    return not (torch.as_tensor(site["scale"]) == 1.0).all()
