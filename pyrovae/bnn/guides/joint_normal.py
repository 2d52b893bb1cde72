"""One normal over all weights together: full or low rank, fitted by SVI or by other means (SWAG,
Laplace)."""

import math

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pyrovae.bnn.guides.sites import elementwise, weight_sites
from pyrovae.core.param_store import register_params

FLAT = "_weights."
"""The auxiliary site of all weights in one vector, or of their noise, is this and the name of the first."""


class LowRankNormal(dist.LowRankMultivariateNormal):
    r"""N(mu, F F^T + diag(d^2)) whose density holds its precision where F is large against d.

    z^T C^{-1} z is min_e |e|^2 + |z / d - A e|^2 with A = diag(1 / d) F, a sum of squares, where
    torch's z^T diag(d^-2) z - |...|^2 is a small difference of large numbers.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        deviation = self._unbroadcasted_cov_diag.sqrt()
        a = self._unbroadcasted_cov_factor / deviation.unsqueeze(-1)
        u = ((value - self.loc) / deviation).unsqueeze(-1)
        e = torch.cholesky_solve(a.mT @ u, self._capacitance_tril)
        squares = e.square().sum((-2, -1)) + (u - a @ e).square().sum((-2, -1))
        root = self._capacitance_tril.diagonal(dim1=-2, dim2=-1)
        log_det = 2.0 * (root.log().sum(-1) + deviation.log().sum(-1))
        return -0.5 * (a.shape[-2] * math.log(2.0 * math.pi) + log_det + squares)


class JointNormal(nn.Module):
    r"""q(w) = N(mu, C) over all weights: C = F F^T + diag(d^2) of `rank`, or dense (P, P) for
    `rank=None`.

    mu starts at the net's own weights, every standard deviation at `init_scale`. Sites on a
    half-line enter through their logarithm (Pyro's `biject_to`), with its Jacobian.

    A dense C is L L^T, L = diag(s) (I + N), N strictly lower triangular, so that steps of an optimiser
    are relative to the scales; the density of a draw mu + L e is that of its noise e over |L|, which
    holds its precision where L is too ill-conditioned to solve for e.

    Example:
        >>> from pyrovae import Bayesian
        >>> JointNormal(Bayesian(nn.Linear(3, 2)), rank=2)()["w.weight"].shape
        torch.Size([2, 3])
    """

    def __init__(
        self, net: nn.Module, *, rank: int | None = None, init_scale: float = 1e-2
    ) -> None:
        super().__init__()
        if not init_scale > 0 or (rank is not None and rank < 1):
            raise ValueError(
                f"init_scale={init_scale}, rank={rank}, expected a positive scale and a rank >= 1 or None."
            )
        self.sites, self.rank = elementwise(weight_sites(net)), rank
        self.loc = nn.Parameter(torch.cat([site.unconstrained.flatten() for site in self.sites]))
        size = len(self.loc)
        if rank is None:
            self.log_scale = nn.Parameter(torch.full_like(self.loc, math.log(init_scale)))
            self.lower = nn.Parameter(torch.zeros(size, size, dtype=self.loc.dtype))
        else:
            self.rho = nn.Parameter(torch.full_like(self.loc, math.log(math.expm1(init_scale))))
            self.factor = nn.Parameter(
                init_scale / math.sqrt(rank) * torch.randn(size, rank, dtype=self.loc.dtype)
            )

    def distribution(self) -> dist.TorchDistribution:
        """q on the vector of all weights."""
        if self.rank is None:
            return dist.MultivariateNormal(self.loc, scale_tril=self.scale_tril())
        return LowRankNormal(self.loc, self.factor, F.softplus(self.rho) ** 2)

    def scale_tril(self) -> Tensor:
        """L of a dense covariance, `(P, P)`."""
        unit = self.lower.tril(-1) + torch.eye(
            len(self.loc), dtype=self.lower.dtype, device=self.lower.device
        )
        return self.log_scale.exp().unsqueeze(-1) * unit

    @torch.no_grad()
    def set(
        self,
        loc: Tensor,
        *,
        scale_tril: Tensor | None = None,
        factor: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> "JointNormal":
        """Put moments in place of the parameters: `scale_tril` for a full rank, `factor` and
        `scale` for a low one.

        Raises: ValueError for missing moments, and a `scale_tril` that is no Cholesky factor.
        """
        if self.rank is None and scale_tril is not None:
            scale = scale_tril.diagonal()
            if not (scale > 0).all() or scale_tril.triu(1).any():
                raise ValueError(
                    "scale_tril is not lower triangular with a positive diagonal. Pass torch.linalg.cholesky(C) of the "
                    "covariance C."
                )
            self.log_scale.copy_(scale.log())
            self.lower.copy_((scale_tril / scale.unsqueeze(-1)).tril(-1))
        elif self.rank is not None and factor is not None and scale is not None:
            self.factor.copy_(factor)
            self.rho.copy_(scale + torch.log(-torch.expm1(-scale)))
        else:
            raise ValueError(
                f"moments are missing for rank={self.rank}: give scale_tril for a full rank, factor and scale "
                "for a low one."
            )
        self.loc.copy_(loc)
        return self

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        flat, density = self._draw()
        values, start = {}, 0
        for site in self.sites:
            stop = start + site.initial.numel()
            raw = flat[..., start:stop].reshape(flat.shape[:-1] + site.initial.shape)
            start, dims = stop, site.initial.dim()
            value = site.transform(raw)
            if not site.is_real:
                density = density - _sum(site.transform.log_abs_det_jacobian(raw, value), dims)
            values[site.name] = pyro.sample(
                site.name, dist.Delta(value, log_density=density, event_dim=dims)
            )
            density = torch.zeros_like(density)
        return values

    def _draw(self) -> tuple[Tensor, Tensor]:
        """All weights in one vector, and what the first site is to add to the density of the
        auxiliary site."""
        name = FLAT + self.sites[0].name
        if self.rank is not None:
            flat = pyro.sample(name, self.distribution(), infer={"is_auxiliary": True})
            return flat, flat.new_zeros(flat.shape[:-1])
        standard = dist.Normal(torch.zeros_like(self.loc), 1.0).to_event(1)
        noise = pyro.sample(name, standard, infer={"is_auxiliary": True})
        flat = self.loc + noise @ self.scale_tril().mT
        return flat, -self.log_scale.sum().expand(flat.shape[:-1])


def _sum(value: Tensor, dims: int) -> Tensor:
    return value.sum(tuple(range(-dims, 0))) if dims else value
