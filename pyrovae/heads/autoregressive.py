"""A decoder whose elements depend on one another."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.types import _size
from zuko.nn import MaskedLinear

from pyrovae.heads.precision import at_least_float32


class AutoregressiveBernoulliHead(nn.Module):
    r"""p(x | z) = \prod_i Bernoulli(x_i | x_1..x_{i-1}, z) for vectors in {0, 1}, by one masked
    net (MADE).

    It holds its net: what x_i may see is a matter of masks. Such a decoder can model x without z,
    and a latent variable then is ignored (KL zero) unless the objective asks for it, e.g. by free
    bits.

    `hidden` are the widths of the ReLU layers; each unit sees x_1..x_d for a d of its own, spread
    evenly over 0..features-1. Direct connections from x to the output let x_i see all of
    x_1..x_{i-1} even where a layer has fewer units.

    Shapes: the parents are vectors `(*batch, ...)` of `context` numbers in all, none for 0; the distribution
    has event `(features,)`. Scoring takes one pass of the net, drawing takes `features`.
    Source: Germain, Gregor, Murray & Larochelle 2015, arXiv:1502.03509, section 4; on ignoring z:
    Chen et al. 2017, arXiv:1611.02731, section 2.

    Example:
        >>> fn = AutoregressiveBernoulliHead(features=6, context=2, hidden=[16])(torch.zeros(5, 2))
        >>> fn.log_prob(fn.sample()).shape
        torch.Size([5])
    """

    def __init__(self, features: int, context: int, hidden: Sequence[int]) -> None:
        super().__init__()
        seen = torch.cat(
            [torch.arange(features) + 1, torch.zeros(context, dtype=torch.long)]
        )  # a unit's last x; 0: z alone
        self.direct = MaskedLinear(seen <= torch.arange(features).unsqueeze(-1), bias=False)
        self.layers = nn.ModuleList()
        for width in (*hidden, features):
            unit = torch.arange(width) * features // width
            self.layers.append(MaskedLinear(seen <= unit.unsqueeze(-1)))
            seen = unit

    def forward(self, *parents: Tensor) -> "AutoregressiveBernoulli":
        if parents:
            batch = torch.broadcast_shapes(*(parent.shape[:-1] for parent in parents))
            z = torch.cat([parent.expand(*batch, parent.shape[-1]) for parent in parents], dim=-1)
        else:
            z = self.direct.weight.new_zeros(0)
        masked = [(layer.mask * layer.weight, layer.bias) for layer in (self.direct, *self.layers)]
        return AutoregressiveBernoulli(z, masked[0][0], masked[1:])


class AutoregressiveBernoulli(TorchDistribution):
    """The distribution of `AutoregressiveBernoulliHead` for given z `(*batch, context)`: event
    `(features,)`.

    It holds the masked weights and not the head, so that it stays what it was when the head's
    parameters move on.
    """

    arg_constraints = {"z": constraints.real_vector}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(
        self,
        z: Tensor,
        direct: Tensor,
        layers: Sequence[tuple[Tensor, Tensor]],
        validate_args: bool | None = None,
    ) -> None:
        self.z, self.direct, self.layers = z, direct, layers
        super().__init__(z.shape[:-1], direct.shape[:1], validate_args=validate_args)

    def expand(
        self, batch_shape: _size, _instance: TorchDistribution | None = None
    ) -> "AutoregressiveBernoulli":
        new = self._get_checked_instance(AutoregressiveBernoulli, _instance)
        new.z, new.direct, new.layers = (
            self.z.expand(*batch_shape, self.z.shape[-1]),
            self.direct,
            self.layers,
        )
        super(AutoregressiveBernoulli, new).__init__(
            Size(batch_shape), self.event_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def logits(self, x: Tensor) -> Tensor:
        """`(*batch, features)`, the i-th of p(x_i = 1 | x_1..x_{i-1}, z), which does not look at
        x_i and later ones."""
        batch = torch.broadcast_shapes(x.shape[:-1], self.batch_shape)
        inputs = torch.cat(
            [part.expand(*batch, part.shape[-1]) for part in (x.to(self.z.dtype), self.z)], dim=-1
        )
        hidden = inputs
        for weight, bias in self.layers[:-1]:
            hidden = F.linear(hidden, weight, bias).relu()
        return at_least_float32(F.linear(hidden, *self.layers[-1]) + F.linear(inputs, self.direct))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits = self.logits(value)
        return -F.binary_cross_entropy_with_logits(
            logits, value.to(logits).expand_as(logits), reduction="none"
        ).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        x = self.z.new_zeros(self._extended_shape(sample_shape))
        for i in range(x.shape[-1]):
            x[..., i] = torch.bernoulli(self.logits(x)[..., i].sigmoid())
        return x
