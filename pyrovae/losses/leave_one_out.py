"""The ELBO of guides with discrete latents, by score-function gradients with a baseline."""

from collections.abc import Callable

from pyro.poutine import Trace
from torch import Tensor, nn

from pyrovae.core.log_weights import log_joint, log_weights_of
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import for_batch, run_guide, run_model, sample_sites
from pyrovae.core.types import nodes_of
from pyrovae.losses._datum_weight import datum_weight
from pyrovae.losses.base import hold
from pyrovae.losses.elbo_terms import Terms, read_terms


class LeaveOneOutLoss(nn.Module):
    r"""Negative ELBO in nats per datum, the mean over K draws, with an unbiased gradient for
    discrete latents.

    \nabla_\phi = (1/K) \sum_k (f_k - (1/(K-1)) \sum_{j \ne k} f_j) \nabla_\phi log q(z_k | x), f_k =
    log p(x, z_k) - log q(z_k | x): each draw has the mean of the others as its baseline, which
    needs no net and no history and leaves the gradient unbiased. Latents that are reparameterised
    keep their pathwise gradient, and parameters of the model their own.

    num_particles: K, at least 2. plate: name of the plate over data.

    Raises: PairError for sites outside the plate (their weight belongs to no single datum);
    ValueError for num_particles < 2.
    Source: Kool, van Hoof & Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; in
    VAEs: Mnih & Rezende 2016, arXiv:1602.06725, section 2.3 for the bound of one draw.

    Example:
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.nets import MLP, Constant
        >>> model = Model(z=BernoulliHead(Constant(3)), x=Node(BernoulliHead(MLP(3, [8], 4)), "z"))
        >>> guide = Guide(z=Node(BernoulliHead(MLP(4, [8], 3)), "x"))
        >>> import torch
        >>> LeaveOneOutLoss(model, guide, num_particles=4)(x=torch.ones(5, 4)).shape
        torch.Size([])
    """

    def __init__(
        self, model: Callable, guide: Callable, *, num_particles: int, plate: str = DATA
    ) -> None:
        super().__init__()
        if num_particles < 2:
            raise ValueError(
                f"num_particles={num_particles}, expected at least 2: the baseline of a draw is the mean of "
                "the others."
            )
        self.model, self.guide = model, guide
        self.found = hold(self, model, guide)
        self.num_particles, self.plate = num_particles, plate
        self.terms: Terms | None = None

    def forward(self, **batch: Tensor) -> Tensor:
        num = self.num_particles
        guide = for_batch(self.guide, batch)
        guide_trace = run_guide(guide, batch, num)
        model_trace = run_model(self.model, guide_trace, batch, num)
        log_w = log_weights_of(model_trace, guide_trace, num, plate=self.plate)
        score = self._score(guide_trace)
        value = log_w.detach()
        advantage = (value - value.mean(0)) * (num / (num - 1))
        # the derivative of -log q in log_w has mean zero where draws are scored: leave it out
        surrogate = advantage * score + log_w + score
        bound = (surrogate - surrogate.detach() + value).mean(0)
        terms = read_terms([(model_trace, guide_trace)], self.plate, None, num)
        self.terms = terms and terms.detach()
        return -(datum_weight(model_trace, guide_trace) * bound).mean()

    def _score(self, guide_trace: Trace) -> Tensor:
        """log q of the draws without a pathwise gradient, `(K, B)`."""
        scored = Trace()
        for name, site in sample_sites(guide_trace, observed=False).items():
            if not site["fn"].has_rsample:
                scored.add_node(name, **nodes_of(guide_trace)[name])
        return log_joint(scored, self.num_particles, plate=self.plate)

    def extra_repr(self) -> str:
        return f"num_particles={self.num_particles}"
