"""Discrete codes whose elements depend on one another."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn import functional
from torch.types import _size
from zuko.nn import MaskedLinear

from pyrovae.heads.precision import at_least_float32


class AutoregressiveCategoricalHead(nn.Module):
    r"""p(c) = \prod_i Categorical(c_i | c_1..c_{i-1}) for vectors of codes in 0..C-1, by one masked net
    on their one-hot vectors (MADE).

    The prior of a vector-quantised VAE. It holds its net: what c_i may see is a matter of masks.
    `hidden` are the widths of the ReLU layers; units see c_1..c_d for d spread evenly over
    0..features-1, and direct connections let c_i see all before it.

    Shapes: no parents; event `(features,)` of whole numbers. Scoring takes one pass of the net,
    drawing takes `features`.
    Source: Germain, Gregor, Murray & Larochelle 2015, arXiv:1502.03509, section 4; as a prior of
    codes: van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, section 3.3.

    Example:
        >>> fn = AutoregressiveCategoricalHead(features=4, categories=3, hidden=[16])()
        >>> fn.log_prob(fn.sample(torch.Size([5]))).shape
        torch.Size([5])
    """

    def __init__(self, features: int, categories: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.features, self.categories = features, categories
        outputs = torch.arange(features).repeat_interleave(categories)
        seen = outputs + 1
        self.direct = MaskedLinear(seen <= outputs.unsqueeze(-1), bias=False)
        layers = []
        for width in hidden:
            unit = torch.arange(width) * features // width
            layers.append(MaskedLinear(seen <= unit.unsqueeze(-1)))
            seen = unit
        self.layers = nn.ModuleList([*layers, MaskedLinear(seen <= outputs.unsqueeze(-1))])

    def forward(self) -> "AutoregressiveCategorical":
        return AutoregressiveCategorical(self)

    def logits(self, codes: Tensor) -> Tensor:
        """`(*batch, features, C)`, the i-th of p(c_i | c_1..c_{i-1})."""
        inputs = functional.one_hot(codes.long(), self.categories).flatten(-2)
        inputs = inputs.to(self.direct.weight.dtype)
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        logits = self.layers[-1](hidden) + self.direct(inputs)
        return at_least_float32(logits.unflatten(-1, (self.features, self.categories)))


class AutoregressiveCategorical(TorchDistribution):
    """The distribution of `AutoregressiveCategoricalHead`: event `(features,)`."""

    arg_constraints = {}

    def __init__(
        self, head: AutoregressiveCategoricalHead, batch_shape: Size = torch.Size()
    ) -> None:
        self.head = head
        super().__init__(batch_shape, Size([head.features]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(
            constraints.integer_interval(0, self.head.categories - 1), 1
        )

    def expand(self, batch_shape: _size, _instance: object = None) -> "AutoregressiveCategorical":
        return AutoregressiveCategorical(self.head, Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        logits = self.head.logits(value).log_softmax(-1)
        score = logits.gather(-1, value.long().unsqueeze(-1)).squeeze(-1).sum(-1)
        return score.expand(torch.broadcast_shapes(score.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        codes = torch.zeros(shape, dtype=torch.long, device=self.head.direct.weight.device)
        for i in range(shape[-1]):
            probs = self.head.logits(codes)[..., i, :].softmax(-1)
            draws = torch.multinomial(probs.reshape(-1, probs.shape[-1]), 1)
            codes[..., i] = draws.reshape(shape[:-1])
        return codes
