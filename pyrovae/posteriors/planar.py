"""Planar flows on top of an encoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform
from zuko.distributions import NormalizingFlow
from zuko.transforms import ComposedTransform


class PlanarPosterior(nn.Module):
    r"""q(z | x): the encoder's draw through planar steps, z' = z + u tanh(w^T z + b), with u, w, b
    read off x by a net.

    Invertible because u is moved along w until w^T u > -1. The inverse has one unknown, a = w^T z,
    found by bisection to rounding and differentiated by one Newton step, so any z can be scored.

    Shapes: `encoder(*parents)` has event `(features,)`; `net(*parents)` returns `(*batch,
    transforms * (2 * features + 1))`.
    Source: Rezende & Mohamed 2015, arXiv:1505.05770, eq. 10 to 13 and appendix A.1.

    Example:
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> q = PlanarPosterior(NormalHead(MLP(4, [8], 2 * 2)), MLP(4, [8], 3 * (2 * 2 + 1)), features=2, transforms=3)
        >>> q(torch.rand(5, 4)).rsample().shape
        torch.Size([5, 2])
    """

    def __init__(
        self, encoder: nn.Module, net: nn.Module, features: int, *, transforms: int = 4
    ) -> None:
        super().__init__()
        self.encoder, self.net = encoder, net
        self.sizes = [features, features, 1]
        self.transforms = transforms

    def forward(self, *parents: Tensor) -> NormalizingFlow:
        out = self.net(*parents)
        expected = self.transforms * sum(self.sizes)
        if out.shape[-1] != expected:
            raise ValueError(
                f"the net returns {out.shape[-1]} numbers a datum, expected transforms * (2 * features + 1) = "
                f"{expected}."
            )
        steps = [
            PlanarTransform(*part.split(self.sizes, dim=-1))
            for part in out.chunk(self.transforms, dim=-1)
        ]
        return NormalizingFlow(ComposedTransform(*steps).inv, self.encoder(*parents))


class PlanarTransform(Transform):
    """y = x + u tanh(w^T x + b), with u, w `(*batch, Z)` and b `(*batch, 1)`."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__()
        wu = (w * u).sum(-1, keepdim=True)
        self.u = u + (F.softplus(wu) - 1 - wu) * w / w.square().sum(-1, keepdim=True).clamp(
            min=1e-12
        )
        self.w, self.b = w, b
        self.wu = (w * self.u).sum(-1, keepdim=True)

    def _call(self, x: Tensor) -> Tensor:
        return x + self.u * torch.tanh((self.w * x).sum(-1, keepdim=True) + self.b)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        slope = 1 - torch.tanh((self.w * x).sum(-1, keepdim=True) + self.b).square()
        return torch.log1p(slope * self.wu).squeeze(-1)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self._call(x)
        return y, self.log_abs_det_jacobian(x, y)

    def _inverse(self, y: Tensor) -> Tensor:
        """x = y - u tanh(a + b), where a = w^T x solves a + w^T u tanh(a + b) = w^T y, which rises
        in a."""
        target = (self.w * y).sum(-1, keepdim=True)
        with torch.no_grad():
            low, high = target - self.wu.abs(), target + self.wu.abs()
            for _ in range(60):
                middle = (low + high) / 2
                above = middle + self.wu * torch.tanh(middle + self.b) > target
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            a = (low + high) / 2
        t = torch.tanh(a + self.b)
        with torch.no_grad():
            slope = 1 + self.wu * (1 - t.square())
        a = a - (a + self.wu * t - target) / slope
        return y - self.u * torch.tanh(a + self.b)
