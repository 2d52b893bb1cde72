"""Mixtures of diagonal normals with pathwise gradients: encoders q(z | x), likelihoods p(x | z) of
real vectors."""

import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Size, Tensor

from pyrovae.heads.layout import split
from pyrovae.heads.precision import at_least_float32


class MixtureNormalHead(nn.Module):
    r"""Mixture of C diagonal normals, \sum_c pi_c N(loc_c, diag(min_scale + exp(s_c))^2), pi =
    softmax(logits).

    Components begin apart: loc_c is the net's output plus a constant drawn once from N(0,
    spread^2), so that none is the copy of another even where the net returns zeros. `spread` and
    `min_scale` are in units of the data; as a likelihood, set `min_scale` to their resolution (see
    `NormalHead`).

    Shapes: the net returns `(*batch, C * (2 * features + 1))`: loc `(C, features)`, s `(C,
    features)`, logits `(C,)`; the distribution has event `(features,)`. Raises ValueError where
    the net returns another number.
    Source: Bishop 1994, Mixture density networks, section 3 (there with one scale for each
    component).

    Example:
        >>> from pyrovae.nets import MLP
        >>> fn = MixtureNormalHead(MLP(4, [8], 3 * (2 * 2 + 1)), features=2, num_components=3)(torch.zeros(5, 4))
        >>> fn.rsample().shape, fn.mean.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    offset: Tensor

    def __init__(
        self,
        net: nn.Module,
        features: int,
        num_components: int,
        *,
        min_scale: float = 0.0,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.net = net
        self.min_scale = min_scale
        self.register_buffer("offset", spread * torch.randn(num_components, features))

    def forward(self, *parents: Tensor) -> "PathwiseMixture":
        shape = self.offset.shape
        loc, log_scale, logits = split(
            at_least_float32(self.net(*parents)), (shape.numel(), shape.numel(), shape[0])
        )
        loc, scale = (
            self.offset + loc.unflatten(-1, shape),
            self.min_scale + log_scale.unflatten(-1, shape).exp(),
        )
        return PathwiseMixture(
            dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1)
        )


class PathwiseMixture(dist.MixtureSameFamily):
    r"""A mixture of diagonal normals whose draws carry gradients to means, scales and weights.

    Means and scales: dz = \sum_c p(c | z) (dloc_c + (z - loc_c) / scale_c dscale_c), the pathwise
    gradient within a component, averaged over the components that z may come from. Weights: z
    moves between components as the solution of S(z; pi) = const, S_d the conditional distribution
    function of z_d given z_1..z_{d-1}: dz = -(dS/dz)^{-1} dS/dpi, a triangular solve. Only first
    derivatives are right.

    Where components lie many standard deviations apart, the weights' gradient rests on rare draws
    between them, where it is large: clip it (`fit(clip_norm=10.0)`).

    Why not `MixtureOfDiagNormals`: its gradients to the weights are biased for functions that
    couple dimensions, and it divides densities that underflow in float32 from about 50 dimensions
    on (Pyro 1.9.2).

    Shapes: Categorical with batch `(*batch,)` over C, Normal with batch `(*batch, C)` and event
    `(D,)`; a draw costs O(C D^2) where gradients are on.
    Source: Figurnov, Mohamed & Mnih 2018, arXiv:1805.08498, section 2 (implicit gradients);
    Jankowiak & Karaletsos 2018, arXiv:1806.01856 (mixtures; another path between components).
    """

    has_rsample = True

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:
        z = self.sample(sample_shape)
        if not torch.is_grad_enabled():
            return z
        normals, logits = self.component_distribution.base_dist, self.mixture_distribution.logits
        with torch.autocast(z.device.type, enabled=False):
            x = ((z.unsqueeze(-2) - normals.loc) / normals.scale).detach()
            log_density = normals.log_prob(z.unsqueeze(-2)).detach()
            posterior = (logits + log_density.sum(-1)).softmax(-1).detach().unsqueeze(-1)
            within = (posterior * (normals.loc + x * normals.scale)).sum(-2)
            residual, jacobian = self._transform(x, log_density)
            between = torch.linalg.solve_triangular(
                jacobian, residual.unsqueeze(-1), upper=False
            ).squeeze(-1)
            return z + (within - within.detach()) - (between - between.detach())

    def _transform(self, x: Tensor, log_density: Tensor) -> tuple[Tensor, Tensor]:
        """S(z) up to constants, `(*, D)`, with gradients to the logits; and dS/dz, `(*, D, D)`,
        lower triangular."""
        before = F.pad(log_density.cumsum(-1)[..., :-1], (1, 0))
        weights = (self.mixture_distribution.logits.unsqueeze(-1) + before).softmax(
            -2
        )  # given z_1..z_{d-1}
        # the distribution function up to 1/2, minus its complement above: exact in both tails
        side = torch.where((weights * torch.erf(x)).sum(-2, keepdim=True) > 0, -1.0, 1.0).to(
            x.dtype
        )
        tail = 0.5 * side * torch.erfc(-side * x / 2**0.5)
        residual = (weights * tail).sum(-2)
        with torch.no_grad():
            slope = torch.einsum(
                "...kd,...kj->...dj",
                weights * (tail - residual.unsqueeze(-2)),
                -x / self.component_distribution.base_dist.scale,
            )
            jacobian = slope.tril(-1) + torch.diag_embed((weights * log_density.exp()).sum(-2))
        return residual, jacobian
