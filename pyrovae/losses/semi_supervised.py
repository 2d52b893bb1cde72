"""Learning from few labels and many data without them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.core.errors import PairError
from pyrovae.core.log_weights import log_weights
from pyrovae.core.support_checks import describe, support_of
from pyrovae.core.traces import run_guide
from pyrovae.core.types import nodes_of
from pyrovae.losses.base import hold


class SemiSupervisedLoss(nn.Module):
    r"""Nats per datum of batches with and without labels; the class of the latter is summed over.

    With a label: -(bound_weight ELBO of log p(x, y) + weight log q(y | x)). Without: -\sum_y q(y | x) (ELBO of log
    p(x, y) - log q(y | x)), exact over classes. A batch is of one kind, `{"x", "y"}` or `{"x"}`, so
    the mix of a data set is the mix of its batches (`data.Interleaved`). It is M2 where the model is
    p(y) p(z) p(x | y, z), and any other wiring with a class site and a guide of the rest.

    model: has the class site `y`, one-hot. guide: of all latents, `y` first, given x; where y is in
    the batch the guide does not sample it. weight: of the guide's log-probability of given labels,
    beside a bound that does not need it. bound_weight: of the ELBO of a labelled batch; where 100
    labels get as many batches as 50,000 other data, 1 counts each of them 500 times, and 100 / 50,000
    once. `classify(x)` returns the most probable class.

    Scales that programs set (`poutine.scale`) are left out, as in `log_weights`.

    Shapes: x `(B, *event)`, y `(B, C)` one-hot.
    Raises: PairError for labels of another shape, and for a guide whose y is not one-hot; ValueError
    for a negative weight.
    Source: Kingma, Rezende, Mohamed & Welling 2014, arXiv:1406.5298, eq. 6, 7 and 9.

    Example:
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead, NormalHead, StraightThroughCategoricalHead
        >>> from pyrovae.nets import MLP, Constant
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(y=StraightThroughCategoricalHead(Constant(3)), z=StandardNormal(2),
        ...               x=Node(BernoulliHead(MLP(2 + 3, [8], 4)), "z", "y"))
        >>> guide = Guide(y=Node(StraightThroughCategoricalHead(MLP(4, [8], 3)), "x"),
        ...               z=Node(NormalHead(MLP(4 + 3, [8], 4)), "x", "y"))
        >>> loss = SemiSupervisedLoss(model, guide, weight=0.1)
        >>> x, y = torch.ones(5, 4), torch.eye(3)[[0, 1, 2, 0, 1]]
        >>> loss(x=x).shape, loss(x=x, y=y).shape
        (torch.Size([]), torch.Size([]))
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        *,
        site: str = "y",
        weight: float = 1.0,
        bound_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not min(weight, bound_weight) >= 0:
            raise ValueError(
                f"weight={weight}, bound_weight={bound_weight}, expected numbers of at least 0."
            )
        self.model, self.guide = model, guide
        self.found = hold(self, model, guide)
        self.site, self.weight, self.bound_weight = site, weight, bound_weight

    def forward(self, **batch: Tensor) -> Tensor:
        given = {name: value for name, value in batch.items() if name != self.site}
        log_q = self._log_q(given)
        if self.site in batch:
            if batch[self.site].shape != log_q.shape:
                raise PairError(
                    f"{self.site!r} has shape {tuple(batch[self.site].shape)}, expected one-hot classes of shape "
                    f"{tuple(log_q.shape)}, e.g. torch.nn.functional.one_hot(y, {log_q.shape[-1]}).float()."
                )
            bound = log_weights(self.model, self.guide, batch, 1)[0]
            known = (batch[self.site] * log_q).sum(-1)
            return -(self.bound_weight * bound + self.weight * known).mean()
        count, classes = log_q.shape
        labels = torch.eye(classes, dtype=log_q.dtype, device=log_q.device)
        repeated = {
            name: value.repeat(classes, *(1,) * (value.dim() - 1)) for name, value in given.items()
        }
        repeated[self.site] = labels.repeat_interleave(count, 0)
        bound = log_weights(self.model, self.guide, repeated, 1)[0].view(classes, count)
        return -(log_q.T.exp() * (bound - log_q.T)).sum(0).mean()

    @torch.no_grad()
    def classify(self, **batch: Tensor) -> Tensor:
        """The most probable class of each row."""
        return self._log_q(batch).argmax(-1)

    def _log_q(self, batch: dict[str, Tensor]) -> Tensor:
        """log q(y | x) of each class, `(B, C)`."""
        fn = nodes_of(run_guide(self.guide, batch))[self.site]["fn"]
        if support_of(fn) is not constraints.one_hot:
            raise PairError(
                f"the guide's site {self.site!r} is {describe(fn)}, expected one-hot classes, e.g. by "
                "StraightThroughCategoricalHead."
            )
        classes = fn.event_shape[-1]
        each = torch.eye(classes, dtype=fn.mean.dtype, device=fn.mean.device)
        return torch.stack([fn.log_prob(one.expand(*fn.batch_shape, -1)) for one in each], -1)
