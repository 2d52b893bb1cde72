"""The top-down posterior of ladder networks."""
import pyro.distributions as dist
import torch.nn as nn
from torch import Tensor
from torch.distributions import Distribution


class PrecisionWeighted(nn.Module):
    r"""q(z_l | z_{l+1}, x), proportional to N(z_l; recognition(d)) N(z_l; generative(z_{l+1})): two opinions, multiplied.

    The variance is 1 / (1/s^2 + 1/r^2), the mean that of the two, weighted by precision. `generative` is the model's own
    conditional p(z_l | z_{l+1}) (shared, trained once); `recognition` reads the data, directly or through features d.

    Shapes: `forward(d, *above)`: `recognition(d)` and `generative(*above)` return diagonal normals of one event dim.
    Raises TypeError for other distributions.
    Source: Sonderby et al. 2016, arXiv:1602.02282, section 2.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> q = PrecisionWeighted(NormalHead(MLP(8, [], 2 * 3)), NormalHead(MLP(2, [], 2 * 3)))
        >>> q(torch.zeros(5, 8), torch.zeros(7, 5, 2)).batch_shape
        torch.Size([7, 5])
    """

    def __init__(self, recognition: nn.Module, generative: nn.Module) -> None:
        super().__init__()
        self.recognition, self.generative = recognition, generative

    def forward(self, d: Tensor, *above: Tensor) -> dist.Independent:
        q, p = _factors(self.recognition(d)), _factors(self.generative(*above))
        precision = q.scale ** -2 + p.scale ** -2
        loc = (q.loc * q.scale ** -2 + p.loc * p.scale ** -2) / precision
        return dist.Normal(loc, precision ** -0.5).to_event(1)


def _factors(fn: Distribution) -> Distribution:
    base = getattr(fn, "base_dist", fn)
    if not hasattr(base, "loc") or not hasattr(base, "scale") or len(fn.event_shape) != 1:
        raise TypeError(f"PrecisionWeighted multiplies diagonal normals, got {fn}. Use NormalHead on both sides.")
    return base
