"""The potential energy of a Pyro model on the unconstrained scale, for many chains at once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import biject_to
from torch.func import vmap

from pyrovae.bnn.samplers.known_values import DrawKnown
from pyrovae.core.batching import as_batch, exemplar_of
from pyrovae.core.errors import first_line
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope, localize
from pyrovae.core.target_shapes import check_one_score_each
from pyrovae.core.traces import base_distribution, is_subsample, sample_sites
from pyrovae.core.types import Site, nodes_of

logger = logging.getLogger(__name__)
ROWS = 4096
"""Positions that are mapped to the model's own scale at once."""


class Potential:
    r"""U(q) = -log p(T(q), batch) - log |det dT/dq| in nats, where T maps the numbers q of all
    continuous latent sites from the unconstrained scale to their supports.

    batch: all N data, the model's arguments. Observed and conditioned sites and parameters of
    modules are held fixed. A support may depend on other sites. The rows of `obs_mask` that are known
    have replicates among the missing ones (`DrawKnown`).

    Shapes: q `(C, D)`, one row for each of C chains; the sites lie side by side in the model's order.
    The chains are batched by `torch.vmap`; a model that it does not accept is run once for each.

    Raises: ValueError for discrete latent sites, plates that draw their rows, a density that is
    random, and a model without latent sites.

    Example:
        >>> import pyro.distributions as dist
        >>> potential = Potential(lambda: pyro.sample("scale", dist.Exponential(1.0)), {})
        >>> potential.energy(torch.zeros(3, 1))  # exp(q) - q
        tensor([1., 1., 1.])
        >>> potential.sites(torch.zeros(3, 1))["scale"]
        tensor([1., 1., 1.])
    """

    def __init__(self, model: Callable, batch: Mapping[str, Tensor]) -> None:
        self.model, self.batch = DrawKnown()(model), as_batch(batch, None, exemplar_of(model))
        self.modules = list(find_modules(model).values())
        for module in self.modules:
            localize(module)
        with _quiet():
            trace = poutine.trace(InitMessenger(uniform_start)(model)).get_trace(**self.batch)
        _refuse_subsampling(trace)
        for site in sample_sites(trace, observed=True).values():
            check_one_score_each(site)
        sites = sample_sites(prune_subsample_sites(trace), observed=False)
        _refuse_discrete(sites)
        starts = {
            name: biject_to(site["fn"].support).inv(site["value"].detach())
            for name, site in sites.items()
        }
        self.shapes = {name: start.shape for name, start in starts.items()}
        self.values = {name: tuple(site["value"].shape) for name, site in sites.items()}
        self.size = sum(map(prod, self.shapes.values()))
        first = torch.cat([start.flatten() for start in starts.values()])
        self.origin = torch.zeros_like(first)
        """The point 0, `(D,)`."""
        self.batched = True
        """Whether `torch.vmap` runs all chains at once."""
        self._check(torch.stack([first, 0.9 * first + 0.05]))

    def energy(self, q: Tensor) -> Tensor:
        """U of each row, `(C,)`, in nats; differentiable."""
        with _quiet():
            if self.batched:
                return vmap(self._energy)(q)
            return torch.stack([self._energy(row) for row in q])

    def value_and_gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """U `(C,)` and its gradient `(C, D)`, without history."""
        with torch.enable_grad():
            q = q.detach().requires_grad_()
            energy = self.energy(q)
            (gradient,) = torch.autograd.grad(energy.sum(), q)
        return energy.detach(), gradient

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The latent sites on the model's own scale, `(*, *shape)` by name, of positions `(*,
        D)`."""
        rows = q.detach().reshape(-1, self.size)
        with torch.no_grad(), _quiet():
            parts = [
                vmap(self._sites)(part) if self.batched else _by_name(map(self._sites, part))
                for part in rows.split(ROWS)
            ]
        return {
            name: torch.cat([part[name] for part in parts]).unflatten(0, q.shape[:-1])
            for name in self.shapes
        }

    def position(self, values: Mapping[str, Tensor]) -> Tensor:
        """The position `(D,)` of values of all latent sites. Raises ValueError where names or
        shapes are others."""
        given = {name: tuple(value.shape) for name, value in values.items()}
        if given != self.values:
            raise ValueError(
                f"the chains are to start at values of shapes {given}, but the latent sites have {self.values}. "
                "Name each, and no other."
            )
        with _quiet():
            trace = poutine.trace(poutine.condition(self.model, data=dict(values))).get_trace(
                **self.batch
            )
        sites = {name: nodes_of(trace)[name]["fn"] for name in self.shapes}
        return torch.cat(
            [
                biject_to(fn.support).inv(values[name].detach()).flatten()
                for name, fn in sites.items()
            ]
        )

    def _run(self, row: Tensor) -> tuple[Trace, "_AtPosition"]:
        parts = row.split([prod(shape) for shape in self.shapes.values()])
        values = {
            name: part.reshape(shape) for part, (name, shape) in zip(parts, self.shapes.items())
        }
        with _AtPosition(values) as handler:
            trace = poutine.trace(self.model).get_trace(**self.batch)
        return trace, handler

    def _energy(self, row: Tensor) -> Tensor:
        trace, handler = self._run(row)
        return -(trace.log_prob_sum() + handler.log_det)

    def _sites(self, row: Tensor) -> dict[str, Tensor]:
        trace, _ = self._run(row)
        return {name: nodes_of(trace)[name]["value"] for name in self.shapes}

    def _check(self, rows: Tensor) -> None:
        """Compare two runs, and `torch.vmap` with one run for each row."""
        with torch.no_grad(), _quiet():
            expected, again = (torch.stack([self._energy(row) for row in rows]) for _ in range(2))
            if not torch.allclose(expected, again, equal_nan=True):
                raise ValueError(
                    f"the density of the model is random (log p = {-float(expected[0]):.6g}, then "
                    f"{-float(again[0]):.6g} at the same point). Call model.eval(), or remove what draws numbers "
                    "besides its sample sites."
                )
            try:
                self.batched = torch.allclose(
                    vmap(self._energy)(rows), expected, rtol=1e-3, atol=1e-3, equal_nan=True
                )
                reason = "torch.vmap gives other densities"
            except Exception as error:  # whatever the model does under vmap
                self.batched = False
                reason = f"torch.vmap refuses the model: {first_line(error)}"
            if not self.batched:
                logger.warning("the chains run one after another, %s", reason)


class _AtPosition(Messenger):
    """Give latent sites the values of a position, and sum log |det dT/dq|."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values, self.log_det = values, torch.zeros(())

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] or msg["name"] not in self.values:
            return
        transform, q = biject_to(msg["fn"].support), self.values[msg["name"]]
        msg["value"] = value = transform(q)
        msg["done"] = True
        self.log_det = self.log_det + transform.log_abs_det_jacobian(q, value).sum()


@contextmanager
def _quiet() -> Iterator[None]:
    """Run a model by itself: no handlers of the caller, no checks, no parameter store."""
    with local_param_scope(), poutine.block(), pyro.validation_enabled(False):
        yield


def uniform_start(site: Site) -> Tensor:
    """A value of a site, uniform in (-2, 2) on the unconstrained scale; a draw of a discrete one."""
    if site["fn"].support.is_discrete:  # is refused later, by name
        return site["fn"].sample()
    return init_to_uniform(site)


def _by_name(rows: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    rows = list(rows)
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _refuse_subsampling(trace: Trace) -> None:
    for name, site in nodes_of(trace).items():
        if is_subsample(site) and len(site["value"]) < site["fn"].size:
            raise ValueError(
                f"plate {name!r} draws {len(site['value'])} of its {site['fn'].size} rows at random, so that "
                "the density is another at each call. Give the chains all rows at once."
            )


def _refuse_discrete(sites: Mapping[str, Site]) -> None:
    if not sites:
        raise ValueError("the model has no latent sites: there is nothing to sample.")
    for name, site in sites.items():
        if site["fn"].support.is_discrete:
            kind = type(base_distribution(site["fn"])).__name__
            raise ValueError(
                f"latent site {name!r} is discrete ({kind}), expected continuous sites, since the chains follow "
                "gradients. Use mcmc(model, batch, NUTS, ...), whose kernel sums such sites out, or sum it out in "
                "the model."
            )
