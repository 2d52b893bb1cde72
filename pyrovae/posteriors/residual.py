"""A posterior that is told as a difference from the prior."""

import pyro.distributions as dist
from torch import Tensor, nn
from torch.distributions import Distribution, Independent


class ResidualNormal(nn.Module):
    r"""q(z_l | x, z_{<l}) = N(m + s d, (s e^r)^2), where N(m, s^2) is the model's p(z_l | z_{<l}) and
    (d, r) = net(features of x, *above).

    Its KL, 1/2 (d^2 + e^{2r} - 2r - 1) in each dim, does not depend on the prior; at d = r = 0 the
    guide is the prior. `generative` is the model's own conditional (shared, trained once).

    Shapes: `forward(features, *above)`: `net(features, *above)` is `(*batch, 2 * E1, *rest)`,
    `generative(*above)` a diagonal normal of event `(E1, *rest)`. Raises TypeError for another
    distribution.
    Source: Vahdat & Kautz 2020, arXiv:2007.03898, section 3.2 and eq. 2 (there d is not in units
    of s).

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> q = ResidualNormal(MLP(8 + 2, [], 2 * 3), NormalHead(MLP(2, [], 2 * 3)))
        >>> q(torch.zeros(5, 8), torch.zeros(7, 5, 2)).batch_shape
        torch.Size([7, 5])
    """

    def __init__(self, net: nn.Module, generative: nn.Module) -> None:
        super().__init__()
        self.net, self.generative = net, generative

    def forward(self, features: Tensor, *above: Tensor) -> dist.Independent:
        loc, scale, event_dim = _normal(self.generative(*above))
        d, r = self.net(features, *above).to(loc.dtype).chunk(2, -event_dim)
        return dist.Normal(loc + scale * d, scale * r.exp()).to_event(event_dim)


def _normal(fn: Distribution) -> tuple[Tensor, Tensor, int]:
    base = fn.base_dist if isinstance(fn, Independent) else fn
    if not isinstance(base, dist.Normal) or not fn.event_shape:
        raise TypeError(
            f"ResidualNormal shifts and scales a diagonal normal, got {fn}. Use NormalHead or StandardNormal."
        )
    return base.loc, base.scale, len(fn.event_shape)
