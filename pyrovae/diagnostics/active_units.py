"""The information in latent dimensions: active units, KL per dimension."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import run_pair
from pyrovae.core.types import Site, nodes_of


class ActiveUnits:
    r"""Count of latent dimensions that carry information: Var_x(E_q[z_u | x]) > 0.01, over all
    data given to `add`.

    `add` takes two estimates of the posterior means, `(B, *event)` each: the same exact ones
    twice, or averages over two independent sets of draws, whose noise then cancels in the
    covariance. The divisor is N.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, section 5.2.

    Example:
        >>> units, means = ActiveUnits(), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> units.add(means, means)
        >>> units.count()
        1
    """

    threshold = 0.01

    def __init__(self) -> None:
        self.size = 0
        self.sums: Tensor | float = 0.0

    def add(self, first: Tensor, second: Tensor) -> None:
        self.add_sums(len(first), self.sums_of(first, second))

    @staticmethod
    def sums_of(first: Tensor, second: Tensor) -> Tensor:
        """The statistics of a batch, `(3, D)` float64: the sums of both estimates and of their
        product."""
        a, b = (means.detach().reshape(len(means), -1).double() for means in (first, second))
        return torch.stack([a.sum(0), b.sum(0), (a * b).sum(0)])

    def add_sums(self, size: int, sums: Tensor) -> None:
        self.size, self.sums = self.size + size, self.sums + sums

    def variance(self) -> Tensor:
        first, second, product = torch.as_tensor(self.sums)
        return product / self.size - first * second / self.size**2

    def count(self) -> int:
        return int((self.variance() > self.threshold).sum())


def kl_per_dim(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    site: str = "z",
    names: Sequence[str] | None = None,
) -> Tensor:
    r"""KL(q(z_d | x) || p(z_d)) of each latent dimension, averaged over data, in nats; `(D,)`
    float64.

    In closed form, so it needs guide and prior to factorise over dimensions (diagonal encoders,
    standard prior); otherwise a KL per dimension is not defined and PairError is raised.

    Example:
        >>> kl_per_dim(model, guide, {"x": torch.ones(3, 4)}).shape
        torch.Size([2])
    """
    total: Tensor | float = 0.0
    size = 0
    with torch.no_grad(), preserve_state(find_modules(model, guide).values(), training=False):
        for batch in batches(data, names, exemplar_of(model, guide)):
            traces = run_pair(model, guide, batch)
            p, q = (factors(nodes_of(trace)[site]) for trace in traces)
            try:
                kl = kl_divergence(q, p)
            except NotImplementedError as error:
                raise PairError(
                    f"no closed-form KL between {type(q).__name__} and {type(p).__name__}."
                ) from error
            total = total + kl.double().sum(0).flatten()
            size += size_of(batch)
    return torch.as_tensor(total / size).cpu()


def factors(site: Site) -> Distribution:
    """The one-dimensional factors, batch `(B, *event)`, of a site that factorises over its event."""
    fn, event_dim = site["fn"], len(site["fn"].event_shape)
    while type(fn).__name__ in ("ExpandedDistribution", "Independent"):
        fn = fn.base_dist
    if fn.event_shape:
        raise PairError(
            f"site {site['name']!r} is {type(fn).__name__}, which does not factorise over its "
            f"{event_dim} event dims, so it has no KL per dimension."
        )
    return fn
