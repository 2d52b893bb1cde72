"""A mixture of normals."""

import pyro.distributions as dist
import torch
import torch.nn as nn

from pyrovae.priors.diagonal import mixture


class MixtureOfNormals(nn.Module):
    r"""p(z) = \sum_c pi_c N(z; m_c, diag s_c^2), with weights, means and scales all learned.

    Means start as draws from N(0, spread^2 I), scales at `scale`, weights equal.

    Shapes: `() -> distribution` with batch `()` and event `(features,)`.
    Raises ValueError for less than one component.
    Source: as a prior of VAEs, "MoG" in Tomczak & Welling 2018, arXiv:1705.07120.

    Example:
        >>> MixtureOfNormals(2, num_components=5)().sample((3,)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, features: int, num_components: int, *, spread: float = 1.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"num_components={num_components}, expected at least 1.")
        self.loc = nn.Parameter(spread * torch.randn(num_components, features))
        self.log_scale = nn.Parameter(torch.full((num_components, features), float(scale)).log())
        self.logits = nn.Parameter(torch.zeros(num_components))

    def forward(self) -> dist.MixtureSameFamily:
        return mixture(self.logits, dist.Normal(self.loc, self.log_scale.exp()).to_event(1))
