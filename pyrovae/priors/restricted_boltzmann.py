"""The restricted Boltzmann machine, a density of bits that is known up to a constant."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn import functional
from torch.types import _size

ENUMERABLE = 20
"""Units of the smaller layer up to which log Z is summed exactly."""


class RestrictedBoltzmann(nn.Module):
    r"""p(v) = e^{-F(v)} / Z, F(v) = -b'v - \sum_j log(1 + e^{c_j + (W v)_j}): bits v with hidden bits
    h summed out.

    Train it by `losses.ContrastiveDivergence`. Its normaliser Z has no gradient that is cheap and no
    value that is known: `log_prob` uses the buffer `log_z`, NaN until `exact_log_z()` (a layer of at
    most 20 units) or `evidence.annealed_log_z(rbm)` was stored there, and anew after each step of
    training.

    Shapes: event `(visible,)`. Draws are those of `burn_in` rounds of Gibbs sampling from coin
    flips, which may be too few to mix.
    Source: Smolensky 1986; Hinton 2002, Neural Computation 14(8).

    Example:
        >>> rbm = RestrictedBoltzmann(4, 3)
        >>> rbm.store_log_z(rbm.exact_log_z())
        >>> rbm().log_prob(torch.ones(2, 4)).shape
        torch.Size([2])
    """

    log_z: Tensor

    def __init__(self, visible: int, hidden: int, *, burn_in: int = 1000) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, visible))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.burn_in = burn_in
        self.register_buffer("log_z", torch.tensor(math.nan))

    def forward(self) -> "BoltzmannBits":
        return BoltzmannBits(self)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) of `(*batch, visible)` bits."""
        hidden = functional.linear(v, self.weight, self.hidden_bias)
        return -(v @ self.visible_bias) - functional.softplus(hidden).sum(-1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, rounds: int) -> Tensor:
        """Bits after some rounds of h ~ p(h | v), v ~ p(v | h)."""
        for _ in range(rounds):
            h = functional.linear(v, self.weight, self.hidden_bias).sigmoid()
            h = (torch.rand_like(h) < h).to(v)
            v = functional.linear(h, self.weight.T, self.visible_bias).sigmoid()
            v = (torch.rand_like(v) < v).to(h)
        return v

    @torch.no_grad()
    def exact_log_z(self) -> Tensor:
        """log Z by the sum over all states of the smaller layer.

        Raises: ValueError where both layers have more than 20 units.
        """
        hidden, visible = self.weight.shape
        if min(hidden, visible) > ENUMERABLE:
            raise ValueError(
                f"the layers have {visible} and {hidden} units, and log Z is a sum over 2^{min(hidden, visible)} "
                f"states; expected a layer of at most {ENUMERABLE}. Use evidence.annealed_log_z."
            )
        if hidden <= visible:
            weight, bias, others = self.weight.T, self.hidden_bias, self.visible_bias
        else:
            weight, bias, others = self.weight, self.visible_bias, self.hidden_bias
        size = len(bias)
        states = torch.arange(2**size, device=bias.device).unsqueeze(1)
        bits = (states >> torch.arange(size, device=bias.device) & 1).double()
        inputs = functional.linear(bits, weight.double(), others.double())
        return (bits @ bias.double() + functional.softplus(inputs).sum(-1)).logsumexp(0)

    @torch.no_grad()
    def store_log_z(self, log_z: Tensor | float) -> None:
        self.log_z.copy_(torch.as_tensor(log_z))


class BoltzmannBits(TorchDistribution):
    """The distribution of a `RestrictedBoltzmann`: event `(visible,)`."""

    arg_constraints = {}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, rbm: RestrictedBoltzmann, batch_shape: Size = Size()) -> None:
        self.rbm = rbm
        super().__init__(Size(batch_shape), rbm.visible_bias.shape, validate_args=False)

    def expand(self, batch_shape: _size, _instance: object = None) -> "BoltzmannBits":
        return BoltzmannBits(self.rbm, Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        score = -self.rbm.free_energy(value) - self.rbm.log_z
        shape = torch.broadcast_shapes(score.shape, self.batch_shape)
        return score.expand(shape)

    @torch.no_grad()
    def sample(self, sample_shape: _size = Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        start = (torch.rand(shape, device=self.rbm.weight.device) < 0.5).to(self.rbm.weight)
        return self.rbm.gibbs(start, self.rbm.burn_in)
