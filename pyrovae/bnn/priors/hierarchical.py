"""Priors whose scale is a site of its own."""

from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import InferDict
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.programs.bayesian import WeightPrior, standard


def hierarchical(alpha: float = 1.0, beta: float = 10.0, *, point: bool = True) -> WeightPrior:
    r"""Weights N(0, v) with one variance v ~ InverseGamma(alpha, beta) for each weight matrix and
    each bias vector.

    For `point=True` guides fit v by its mode (empirical Bayes); else they infer it too. Its site
    is "{site}_variance".
    Source: Wu et al. 2019, arXiv:1810.03958, section 4 (alpha = 1 and beta = 10 in their
    experiments).
    """

    def prior(site: str, tensor: Tensor) -> Distribution:
        variance = pyro.sample(
            f"{site}_variance",
            dist.InverseGamma(tensor.new_tensor(alpha), tensor.new_tensor(beta)),
            infer=cast(InferDict, {"point": point}),  # for pyrovae's guides
        )
        return dist.Normal(torch.zeros_like(tensor), _spread(variance.sqrt(), tensor.dim()))

    return prior


def horseshoe(scale: float = 1.0) -> WeightPrior:
    r"""Units that are switched off: w_ij ~ N(0, lambda_i^2 tau^2), lambda_i ~ C+(1) for each unit
    i, tau ~ C+(scale).

    One lambda for all weights into a unit, one tau for each weight matrix; biases are N(0, 1).
    Sites "{site}_lambda", "{site}_tau".
    Source: Ghosh & Doshi-Velez 2017, arXiv:1705.10388, section 3; the half-Cauchy prior: Carvalho
    et al. 2010.
    """

    def prior(site: str, tensor: Tensor) -> Distribution:
        if tensor.dim() < 2:
            return standard(site, tensor)
        tau = pyro.sample(f"{site}_tau", dist.HalfCauchy(tensor.new_tensor(scale)))
        units = pyro.sample(
            f"{site}_lambda", dist.HalfCauchy(tensor.new_ones(len(tensor))).to_event(1)
        )
        return dist.Normal(
            torch.zeros_like(tensor), _spread(units * tau.unsqueeze(-1), tensor.dim() - 1)
        )

    return prior


def _spread(scale: Tensor, dims: int) -> Tensor:
    """Reshape `(K, 1)` or `()` so that it broadcasts with a weight of `dims` dims."""
    return scale.reshape(*scale.shape, *(1,) * dims)
