"""Mixtures of diagonal normals, scored by matrix products."""

import math

import pyro.distributions as dist
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Size, Tensor


class MixtureOfDiagonals(dist.MixtureSameFamily):
    r"""A mixture of C diagonal normals; log_prob costs two products `(rows, D) x (D, C)` instead
    of a `(rows, C, D)` tensor.

    log N(z; m, s^2) = -1/2 (z^2 . s^-2 - 2 z . m s^-2 + |m / s|^2 + 2 |log s| + D log 2 pi). The
    terms cancel, so they are summed in float64, whatever the dtype of z.

    Shapes: `Categorical` with batch `()` over C, `Normal(...).to_event(1)` with batch `(C,)` and
    event `(D,)`.

    Example:
        >>> import torch
        >>> normals = dist.Normal(torch.zeros(3, 2), torch.ones(3, 2)).to_event(1)
        >>> MixtureOfDiagonals(dist.Categorical(logits=torch.zeros(3)), normals).log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def expand(self, batch_shape: Size, _instance: object = None) -> dist.TorchDistribution:
        return ExpandedDistribution(
            self, batch_shape
        )  # copies of C components for each datum would undo the gain

    def log_prob(self, value: Tensor) -> Tensor:
        normal = self.component_distribution.base_dist
        loc, log_scale, z = normal.loc.double(), normal.scale.double().log(), value.double()
        precision = (-2 * log_scale).exp()
        constant = (loc.square() * precision + 2 * log_scale).sum(-1) + loc.shape[-1] * math.log(
            2 * math.pi
        )
        squares = z.square() @ precision.T - 2 * z @ (loc * precision).T
        log_weights = self.mixture_distribution.logits.double().log_softmax(-1)
        return (log_weights - 0.5 * (squares + constant)).logsumexp(-1).to(value.dtype)


def mixture(logits: Tensor, components: dist.TorchDistribution) -> dist.MixtureSameFamily:
    """A mixture of components with batch `(C,)`; diagonal normals take the short cut."""
    weights = dist.Categorical(logits=logits)
    diagonal = (
        isinstance(components, dist.Independent)
        and isinstance(components.base_dist, dist.Normal)
        and components.base_dist.loc.dim() == 2
        and components.reinterpreted_batch_ndims == 1
    )
    return (MixtureOfDiagonals if diagonal else dist.MixtureSameFamily)(weights, components)
