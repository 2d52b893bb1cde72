"""The total correlation of a code, by a critic that is trained in the same step: FactorVAE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrovae.core.detach import frozen
from pyrovae.losses.total_correlation import draw


class DensityRatio(nn.Module):
    r"""KL(q(z) || \prod_d q(z_d)) ~ E_q f(z) in nats, f the critic's log-odds that z comes from q(z) and not
    from the product of its marginals: a penalty.

    FactorVAE is `Penalized(ElboLoss(model, guide), DensityRatio(encoder, critic), weight=gamma)`.

    The critic's own loss, -(E_q log s(f(z)) + E log s(-f(z')))/2 with s the sigmoid and z' the codes of
    the batch with each dim permuted by itself, is added as a term whose value is 0 and whose
    gradient reaches the critic alone; in the first term the critic is held fixed. The `weight`
    scales the critic's gradient too, which optimisers such as Adam do not notice.

    encoder: a module whose distributions have independent dims. critic: from codes `(B, D)` to
        one number each, `(B,)` or `(B, 1)`. parents: names of what the encoder takes of the batch.

    The value is as good as the critic: before it has learned, it is near 0 for any code.
    Shapes: a batch -> a scalar.
    Source: Kim & Mnih 2018, arXiv:1802.05983, eq. 3 and algorithms 1 and 2 (difference: z' comes
    from the same batch as z, in draws of its own).

    Example:
        >>> from pyrovae import ElboLoss, Guide, Node
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.losses import Penalized
        >>> from pyrovae.nets import MLP
        >>> encoder, critic = NormalHead(MLP(4, [8], 2 * 2)), MLP(2, [8], 1)
        >>> loss = ElboLoss(model, Guide(z=Node(encoder, "x")))
        >>> Penalized(loss, DensityRatio(encoder, critic), weight=5.0)(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self, encoder: nn.Module, critic: nn.Module, *, parents: Sequence[str] = ("x",)
    ) -> None:
        super().__init__()
        self.encoder, self.critic, self.parents = encoder, critic, tuple(parents)

    def forward(self, **batch: Tensor) -> Tensor:
        q = self.encoder(*(batch[name] for name in self.parents))
        z = draw(q)
        with frozen(self.critic):
            ratio = self.critic(z).mean()
        real, fake = z.detach(), permuted(draw(q).detach())
        own = (softplus(-self.critic(real)).mean() + softplus(self.critic(fake)).mean()) / 2
        return ratio + (own - own.detach())


def permuted(z: Tensor) -> Tensor:
    """Rows whose dims are permuted over the batch, each dim by itself: draws of the product of the
    marginals.

    Shapes: `(B, D)` -> the same.
    Source: Arcones & Gine 1992, Annals of Statistics 20(2), as Kim & Mnih 2018 use it.

    Example:
        >>> z = torch.arange(6.0).reshape(3, 2)
        >>> bool((permuted(z).sort(0).values == z).all())
        True
    """
    return z.gather(0, torch.rand_like(z).argsort(0))
