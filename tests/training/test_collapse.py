"""The warning that z is ignored: where it is, and nowhere else."""

import warnings
from collections.abc import Callable

import oracles
import pyro
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import BernoulliHead, DeltaHead, NormalHead
from pyrovae.losses import CapacityLoss, Lagging
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF
from pyrovae.priors import StandardNormal

X = torch.eye(2, dtype=torch.float64)[torch.arange(40) % 2].repeat_interleave(2, dim=1)


class Deaf(nn.Module):
    """A decoder that returns the same logits for every z."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(4))

    def forward(self, z: Tensor) -> Tensor:
        return self.logits + 0 * z.sum(-1, keepdim=True)


def pair(
    decoder: nn.Module, encoder: Callable = lambda: NormalHead(MLP(4, [8], 4))
) -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(decoder), "z"))
    return model.double(), pv.Guide(z=pv.Node(encoder(), "x")).double()


def train(loss: nn.Module, epochs: int = 60, **options: object) -> pv.History:
    return pv.fit(loss, [{"x": X[:20]}, {"x": X[20:]}], epochs=epochs, lr=5e-2, **options)


def iaf() -> nn.Module:
    return IAF(NormalHead(MLP(4, [8], 4)), 2, 4, transforms=1, hidden=(4,))


@pytest.mark.parametrize(
    ("loss", "valid"),
    [
        (pv.ElboLoss, None),
        (pv.ElboLoss, [{"x": X}]),
        (lambda model, guide: pv.IwaeLoss(model, guide, num_particles=5), [{"x": X}]),
        (lambda model, guide: pv.ElboLoss(model, guide, beta=pv.LinearWarmup(20)), None),
        (lambda model, guide: Lagging(pv.ElboLoss(model, guide), guide_steps=2), None),
    ],
)
def test_a_decoder_that_ignores_z_is_told_of(loss: Callable, valid: object) -> None:
    with pytest.warns(
        pv.CollapseWarning,
        match=r"ignores its latent variables \(z\): their KL is .*KL warm-up .*free bits "
        r".*a weaker decoder .*losses\.Lagging",
    ):
        train(loss(*pair(Deaf())), valid=valid)


def test_a_flow_guide_that_collapsed_is_told_of() -> None:
    with pytest.warns(pv.CollapseWarning, match="their KL is"):
        train(pv.ElboLoss(*pair(Deaf(), iaf)))


def test_free_bits_that_are_spent_on_nothing_are_told_of() -> None:
    with pytest.warns(
        pv.CollapseWarning, match=r"no posterior mean varies over the data \(0 active units\)"
    ):
        train(pv.ElboLoss(*pair(Deaf(), lambda: Constant()), free_bits=0.5))


class Constant(nn.Module):
    """A guide that has a KL and no information."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> pyro.distributions.Independent:
        return pyro.distributions.Normal(self.loc.expand(len(x), 2), 1.0).to_event(1)


def healthy() -> nn.Module:
    return pv.ElboLoss(*pair(MLP(2, [8], 4)))


def frozen_model() -> nn.Module:
    model, guide = pair(Deaf())
    return pv.ElboLoss(model.requires_grad_(False), guide)


QUIET = {
    "a decoder that uses z": (healthy, {}),
    "a short run": (lambda: pv.ElboLoss(*pair(Deaf())), {"epochs": 40}),
    "a warm-up that still runs": (
        lambda: CapacityLoss(*pair(Deaf()), capacity=pv.LinearWarmup(10_000), gamma=10.0),
        {},
    ),
    "a point mass": (lambda: pv.ElboLoss(*pair(Deaf(), lambda: DeltaHead(MLP(4, [8], 2)))), {}),
    "a model that is not trained": (frozen_model, {}),
    "Pyro's own loss": (lambda: pyro.infer.Trace_ELBO()(*pair(Deaf())), {}),
    "no latent sites": (
        lambda: pv.ElboLoss(pv.Model(x=pv.Node(BernoulliHead(Deaf()), "x")), lambda x: None),
        {},
    ),
}


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_said_of(name: str) -> None:
    make, options = QUIET[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(make(), **options)


def test_nothing_is_said_of_weights_and_few_data() -> None:
    model, guide, batch, _ = oracles.linear_regression()
    loc = nn.Parameter(torch.zeros(3))

    def weights(x: Tensor, y: Tensor) -> None:
        pyro.sample("w", pyro.distributions.Normal(loc, 1.0).to_event(1))

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loc = loc

        def forward(self, x: Tensor, y: Tensor) -> None:
            weights(x, y)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pv.fit(pv.ElboLoss(model, Held(), num_data=12), [batch], epochs=120)
        pv.fit(pv.ElboLoss(*pair(Deaf())), [{"x": X[:5]}], epochs=120, lr=5e-2)
