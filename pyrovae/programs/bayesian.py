"""A net whose weights are sample sites: the core of a Bayesian neural network."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.core.provenance import redrawing
from pyrovae.programs._net_structure import event_dim_of, only_layers_use_parameters
from pyrovae.programs._particles import apply_particles
from pyrovae.programs.adapter import as_pyro

WeightPrior = Callable[[str, Tensor], Distribution | None]


def standard(name: str, tensor: Tensor) -> Distribution:
    """Every weight N(0, 1)."""
    return dist.Normal(torch.zeros_like(tensor), 1.0)


class Bayesian(nn.Module):
    r"""Any net with weights drawn from a prior: p(w) p(y | x, w), the weights being sites outside
    the data plate.

    `prior(site, tensor)` is called for each parameter and returns its distribution, or None where
    the parameter stays a number that training fits: `pyrovae.bnn.priors` holds the usual ones.
    Parameter "layers.0.weight" of a net called "w" is site "w.layers.0.weight". Inside `Model` the
    weights are drawn before the plate over data opens, once however many nodes use the net; a
    hand-written program draws them by `with net.drawn():`.

    The net itself is not changed: the sampled parameters are those of a copy, and their values are
    the initial values of guides. Parameters for which the prior returns None stay shared with the
    net.

    event_dim: dims of one input of the net, needed only under vectorised particles, which apply K
    nets at once. The default is taken from `net.in_shape`, `net.event_dim` or a convolution that
        comes first, else it is 1.

    Shapes: inputs `(B, *event)` or `(K, B, *event)`; with weights `(K, 1, *shape)` the output is
    `(K, B, *out)`.
    Raises: RuntimeError when called outside a program that drew its weights; ValueError for a
    prior of another shape, and for one of a frozen parameter. Not for BatchNorm, whose statistics tie
    a datum to its neighbours: use LayerNorm or GroupNorm.

    Example:
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import CategoricalHead
        >>> net = Bayesian(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> Model(y=Node(CategoricalHead(net), "x"))(x=torch.zeros(5, 4))["y"].shape
        torch.Size([5])
    """

    def __init__(
        self,
        net: nn.Module,
        prior: WeightPrior = standard,
        name: str = "w",
        *,
        event_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.name = prior, name
        with poutine.block(), torch.no_grad():
            sampled = {
                key
                for key, value in net.named_parameters()
                if self.prior_of(key, value) is not None
            }
        if not sampled:
            raise ValueError(
                f"the prior returns None for every parameter of the net, so nothing is Bayesian. It was asked for the sites "
                f"{[f'{self.name}.{key}' for key, _ in net.named_parameters()]}."
            )
        if frozen := [
            key
            for key, value in net.named_parameters()
            if key in sampled and not value.requires_grad
        ]:
            raise ValueError(
                f"parameters {frozen} are frozen (requires_grad=False), but the prior gives them distributions. A prior of "
                "the others alone keeps their values, such as bnn.priors.last_layer(net) or only(normal(1.0), 'w.2.*'); or "
                "call net.requires_grad_() to infer them."
            )
        kept = {id(value): value for key, value in net.named_parameters() if key not in sampled}
        self.net = copy.deepcopy(net, kept)
        self.event_dim = event_dim_of(net) if event_dim is None else event_dim
        self.initial = {
            key: value.requires_grad_(False)
            for key, value in self.net.named_parameters()
            if key in sampled
        }
        self.weights: dict[str, Tensor] | None = None
        self.expanded_at: dict[str, Tensor] | None = None

    def linearized(self, at: Mapping[str, Tensor]) -> "Bayesian":
        r"""A copy whose output is linear in the weights, f(x, w*) + J(x) (w - w*), for predictions
        of Laplace's posterior.

        `at` holds w* by site. The Gauss-Newton curvature of such a posterior is that of this
        linear model; far from w* the data do not constrain the net itself. Source: Immer, Korzepa
        & Bauer 2021, arXiv:2008.08400, eq. 6.
        """
        other = copy.deepcopy(self)
        other.expanded_at = {key: at[f"{self.name}.{key}"].detach() for key in self.initial}
        return other

    def prior_of(self, key: str, value: Tensor) -> TorchDistributionMixin | None:
        """The prior of a parameter with all its dims in the event."""
        result = self.prior(f"{self.name}.{key}", value)
        if result is None:
            return None
        result = as_pyro(result)
        shape = result.batch_shape + result.event_shape
        if (
            shape[len(shape) - value.dim() :] != value.shape
        ):  # hierarchical priors have the K particles on the left
            raise ValueError(
                f"the prior of parameter {key!r} has shape {tuple(shape)}, expected {tuple(value.shape)}. Expand "
                "it: dist.Normal(torch.zeros_like(tensor), scale)."
            )
        return result.to_event(value.dim() - len(result.event_shape))

    def draw(self) -> dict[str, Tensor]:
        """One `pyro.sample` for each Bayesian parameter; by the name of the parameter."""
        present = dict(
            self.net.named_parameters()
        )  # not `initial`: `functional_call` may have put others in their place
        return {
            key: pyro.sample(f"{self.name}.{key}", prior)
            for key in self.initial
            if (prior := self.prior_of(key, present[key])) is not None
        }

    @property
    def only_layers_use(self) -> bool:
        """Whether the weights are known to be used by linear and convolutional layers alone, each
        by one of them."""
        return self.expanded_at is None and only_layers_use_parameters(self.net)

    @contextmanager
    def drawn(self) -> Iterator[dict[str, Tensor]]:
        """Draw the weights, for use until the end of the block. No plate over data may be open
        yet."""
        if self.weights is not None:
            yield self.weights
            return
        self.weights = self.draw()
        try:
            yield self.weights
        finally:
            self.weights = None

    def forward(self, *xs: Tensor) -> Tensor:
        if self.weights is None:
            raise RuntimeError(
                f"the Bayesian net {self.name!r} was called outside a program, so it has no weights. Use it "
                "in a Model; in a hand-written program write `with net.drawn():` before plate 'data' opens."
            )
        batch = torch.broadcast_shapes(
            *(
                value.shape[: value.dim() - self.initial[key].dim()]
                for key, value in self.weights.items()
            )
        )
        if not batch:
            with redrawing():
                return self._output(self.weights, xs)
        if batch[-1] != 1:
            raise RuntimeError(
                f"weights of batch shape {tuple(batch)} were drawn inside the plate over data, expected "
                "(K, 1): one net for all data. Draw them before the plate opens."
            )
        return apply_particles(
            self._output,
            self.weights,
            xs,
            shapes={key: value.shape for key, value in self.initial.items()},
            lead=batch[:-1],
            event_dim=self.event_dim,
        )

    def _output(self, weights: Mapping[str, Tensor], xs: tuple[Tensor, ...]) -> Tensor:
        if self.expanded_at is None:
            return torch.func.functional_call(self.net, dict(weights), xs)
        step = {key: weights[key] - value for key, value in self.expanded_at.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", ".*torch.jit.script"
            )  # torch's own, at the first jvp
            output, change, *_ = torch.func.jvp(
                lambda at: torch.func.functional_call(self.net, at, xs),
                (self.expanded_at,),
                (step,),
            )
        return output + change

    def extra_repr(self) -> str:
        return f"name={self.name}"


@contextmanager
def drawn(program: nn.Module) -> Iterator[None]:
    """Draw the weights of all Bayesian nets within a program."""
    with ExitStack() as stack:
        for part in program.modules():
            if isinstance(part, Bayesian):
                stack.enter_context(part.drawn())
        yield
