"""The top-down posterior of ladder networks."""

import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent


class PrecisionWeighted(nn.Module):
    r"""q(z_l | z_{l+1}, x), proportional to N(z_l; recognition(d)) N(z_l; generative(z_{l+1})):
    two opinions, multiplied.

    The variance is 1 / (1/s^2 + 1/r^2), the mean that of the two, weighted by precision.
    `generative` is the model's own conditional p(z_l | z_{l+1}) (shared, trained once);
    `recognition` reads the data, directly or through features d.

    Shapes: `forward(d, *above)`: `recognition(d)` and `generative(*above)` return diagonal normals
    of one event dim. Raises TypeError for other distributions.
    Source: Sonderby et al. 2016, arXiv:1602.02282, section 2.

    Example:
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
        (q_loc, q_scale), (p_loc, p_scale) = (
            _factors(self.recognition(d)),
            _factors(self.generative(*above)),
        )
        # of the precisions; on this scale none overflows
        log_ratio = 2 * (p_scale.log() - q_scale.log())
        scale = q_scale * (0.5 * F.logsigmoid(log_ratio)).exp()
        return dist.Normal(torch.lerp(p_loc, q_loc, log_ratio.sigmoid()), scale).to_event(1)


def _factors(fn: Distribution) -> tuple[Tensor, Tensor]:
    base = fn.base_dist if isinstance(fn, Independent) else fn
    if not isinstance(base, dist.Normal) or len(fn.event_shape) != 1:
        raise TypeError(
            f"PrecisionWeighted multiplies diagonal normals, got {fn}. Use NormalHead on both sides."
        )
    return base.loc, base.scale
