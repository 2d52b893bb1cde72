"""Linear decoders of normal latents: factor analysis and probabilistic PCA in closed form."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyrovae.heads.normal import LearnedScaleNormalHead


class LinearMarginal(nn.Module):
    r"""p(x) = N(b, W W' + diag(s^2)): the density of x = W z + b + s e with z ~ N(0, I) integrated out.

    It shares the weights of its `likelihood`, `LearnedScaleNormalHead(nn.Linear(latent, features))`:
    with one scale this is probabilistic PCA, with `scale_shape=(features,)` factor analysis, and
    `Model(z=StandardNormal(latent), x=Node(likelihood, "z"))` is the same model as a VAE.

    In float32 its error grows as the noise shrinks: about 0.05 nats at a scale of 0.05 for 784 features.
    Use `.double()` there.

    Shapes: no parents; event `(features,)`.
    Raises: TypeError for a likelihood whose net is not an `nn.Linear`.
    Source: Tipping & Bishop 1999, J. R. Statist. Soc. B 61(3), eq. 3; as a VAE: Lucas et al. 2019,
    arXiv:1911.02469.

    Example:
        >>> likelihood = LearnedScaleNormalHead(nn.Linear(2, 5), scale_shape=(5,))
        >>> LinearMarginal(likelihood)().event_shape
        torch.Size([5])
    """

    def __init__(self, likelihood: LearnedScaleNormalHead) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder = _linear(likelihood)

    def forward(self) -> dist.LowRankMultivariateNormal:
        noise = (2 * self.likelihood.log_scale).exp().expand(len(self.decoder.bias))
        return dist.LowRankMultivariateNormal(self.decoder.bias, self.decoder.weight, noise)


class LinearPosterior(nn.Module):
    r"""p(z | x) = N(M W' S^{-1} (x - b), M), M = (I + W' S^{-1} W)^{-1}, S = diag(s^2): the exact posterior
    of a linear decoder, as a guide.

    It has no parameters but those of its `likelihood` (see `LinearMarginal`): with it every
    log-weight equals log p(x).

    Shapes: x `(*batch, features)` -> event `(latent,)`.
    Raises: TypeError for a likelihood whose net is not an `nn.Linear`.
    Source: Tipping & Bishop 1999, J. R. Statist. Soc. B 61(3), eq. 6.

    Example:
        >>> likelihood = LearnedScaleNormalHead(nn.Linear(2, 5))
        >>> LinearPosterior(likelihood)(torch.zeros(3, 5)).batch_shape
        torch.Size([3])
    """

    def __init__(self, likelihood: LearnedScaleNormalHead) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder = _linear(likelihood)

    def forward(self, x: Tensor) -> dist.MultivariateNormal:
        weight = self.decoder.weight
        scaled = weight / (2 * self.likelihood.log_scale).exp().reshape(-1, 1)
        eye = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        precision = eye + weight.T @ scaled
        gain = torch.linalg.solve(precision, scaled.T)
        return dist.MultivariateNormal(
            (x - self.decoder.bias) @ gain.T, precision_matrix=precision
        )


def _linear(likelihood: LearnedScaleNormalHead) -> nn.Linear:
    if not isinstance(likelihood.net, nn.Linear) or likelihood.net.bias is None:
        raise TypeError(
            f"the likelihood's net is {type(likelihood.net).__name__}, expected an nn.Linear with a bias: only a "
            "linear decoder has its marginal and posterior in closed form."
        )
    return likelihood.net
