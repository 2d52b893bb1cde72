"""The total correlation of a code, estimated within minibatches: beta-TC-VAE."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

Weighting = Callable[[int, int], tuple[float, float]]
"""From batch size M and number of data N to the log-weights of q(z_i | x_i) and of q(z_i | x_j), j != i."""


def minibatch_weighted(size: int, num_data: int) -> tuple[float, float]:
    r"""q(z_i) ~ \sum_j q(z_i | x_j) / (N M): log q(z) is low in expectation, by log M at M = N.

    Source: Chen et al. 2018, arXiv:1802.04942, eq. S4.

    Example:
        >>> minibatch_weighted(5, 20) == (-math.log(100), -math.log(100))
        True
    """
    weight = -math.log(size * num_data)
    return weight, weight


def stratified(size: int, num_data: int) -> tuple[float, float]:
    r"""q(z_i) ~ q(z_i | x_i) / N + (N - 1) / (N (M - 1)) \sum_{j \ne i} q(z_i | x_j): unbiased for q(z_i)
    in batches drawn without replacement, and exact at M = N.

    Source: the average, over which datum is weighted apart, of Chen et al. 2018, arXiv:1802.04942,
    eq. S6.

    Example:
        >>> stratified(4, 4) == (-math.log(4), -math.log(4))
        True
    """
    if size < 2 or num_data < 2:
        return -math.log(num_data), -math.inf
    return -math.log(num_data), math.log((num_data - 1) / (num_data * (size - 1)))


class TotalCorrelation(nn.Module):
    r"""KL(q(z) || \prod_d q(z_d)) in nats, q(z) = \sum_n q(z | x_n) / N: a penalty, estimated within the
    batch.

    beta-TC-VAE is `Penalized(ElboLoss(model, guide), TotalCorrelation(encoder, N), weight=beta - 1)`.

    encoder: a module whose distributions have independent dims, such as `NormalHead(net)`.
    num_data: N. parents: names of what the encoder takes of the batch.
    weighting: how the batch stands for all data. `minibatch_weighted` is the published one; its
        value is too large, at M = N by (D - 1) log M, which has no gradient. `stratified` is
        exact there.

    Each datum has one draw of its own, not that of the loss beside it.
    Shapes: a batch of M data -> a scalar; memory M^2 D.
    Raises: TypeError for an encoder whose dims depend on one another; ValueError for a batch of
    more than N data.
    Source: Chen et al. 2018, arXiv:1802.04942, section 4.1.

    Example:
        >>> from pyrovae import ElboLoss, Guide, Node
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.losses import Penalized
        >>> from pyrovae.nets import MLP
        >>> encoder = NormalHead(MLP(4, [8], 2 * 2))
        >>> loss = ElboLoss(model, Guide(z=Node(encoder, "x")))
        >>> Penalized(loss, TotalCorrelation(encoder, 100), weight=5.0)(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_data: int,
        *,
        parents: Sequence[str] = ("x",),
        weighting: Weighting = minibatch_weighted,
    ) -> None:
        super().__init__()
        if num_data < 1:
            raise ValueError(f"num_data={num_data}, expected the number of training data.")
        self.encoder, self.num_data, self.weighting = encoder, num_data, weighting
        self.parents = tuple(parents)

    def forward(self, **batch: Tensor) -> Tensor:
        q = self.encoder(*(batch[name] for name in self.parents))
        z = draw(q)
        size = len(z)
        if size > self.num_data:
            raise ValueError(
                f"a batch of {size} data, but num_data={self.num_data}; expected the number of all training data."
            )
        own, other = self.weighting(size, self.num_data)
        weights = torch.where(torch.eye(size, device=z.device, dtype=torch.bool), own, other)
        log_q = q.base_dist.log_prob(z[:, None])  # (i, j, d): log q(z_id | x_j)
        joint = (log_q.sum(-1) + weights).logsumexp(1)
        marginals = (log_q + weights[..., None]).logsumexp(1)
        return (joint - marginals.sum(-1)).mean()

    def extra_repr(self) -> str:
        return f"num_data={self.num_data}"


def draw(q: Distribution) -> Tensor:
    """One draw `(M, D)` of each datum's code, with its pathwise gradient.

    Raises: TypeError for a distribution of other than one vector of independent dims a datum.
    """
    if not isinstance(q, Independent) or len(q.event_shape) != 1 or len(q.base_dist.event_shape):
        raise TypeError(
            f"the encoder returns {type(q).__name__} with event shape {tuple(q.event_shape)}, expected a vector of "
            "independent dims, as NormalHead(net) gives: a total correlation needs q(z_d | x)."
        )
    if not q.has_rsample:
        raise TypeError("the encoder's draws have no pathwise gradient; expected one.")
    return q.rsample()
