"""A normal prior whose precision is a number of each layer that the evidence fits."""

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.programs.bayesian import WeightPrior


class Scaled(nn.Module):
    r"""`prior` with its precision multiplied by a factor of each layer, N(loc, scale^2 / factor_l).

    The factors are the buffer `precision`, `(L,)`, 1 at first: the hook
    `bnn.posthoc.MarginalLikelihood` sets them during training. Layers are the modules of `net` that
    hold parameters.
    Raises: PairError for a prior that is not normal.

    Example:
        >>> from pyrovae.bnn.priors import standard
        >>> prior = Scaled(standard, nn.Linear(3, 2))
        >>> _ = prior.precision.fill_(4.0)
        >>> prior("w.bias", torch.zeros(2)).stddev
        tensor([0.5000, 0.5000])
    """

    precision: Tensor

    def __init__(self, prior: WeightPrior, net: nn.Module) -> None:
        super().__init__()
        self.prior = prior
        names = [name for name, _ in net.named_parameters()]
        self.layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))
        ones = next(net.parameters()).detach().new_ones(len(self.layers))
        self.register_buffer("precision", ones)

    def forward(self, site: str, tensor: Tensor) -> dist.Normal | None:
        fn = self.prior(site, tensor)
        if fn is None:
            return None
        if not isinstance(fn, torch.distributions.Normal):
            raise PairError(
                f"the prior of {site!r} is a {type(fn).__name__}, expected a Normal, whose precision can be fitted."
            )
        factor = self.precision[self.index(site.rpartition(".")[0])]
        return dist.Normal(fn.loc, fn.scale * factor.rsqrt())

    def index(self, layer: str) -> int:
        """The place in `precision` of a layer, "w.layers.0" of sites "w.layers.0.weight"."""
        found = [name for name in self.layers if not name or layer.endswith(f".{name}")]
        if not found:
            raise KeyError(
                f"layer {layer!r} is none of the net's, {self.layers}. Give Scaled the net that Bayesian wraps."
            )
        return self.layers.index(max(found, key=len))
