"""Every prior with every guide under every objective: what makes sense trains, and what does not
says why."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import zuko
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import pyrovae as pv
from pyrovae.heads import (
    BernoulliHead,
    FullRankNormalHead,
    LowRankNormalHead,
    MixtureNormalHead,
    NormalHead,
)
from pyrovae.losses import CapacityLoss
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF, FlowPosterior, NonReparameterized, PlanarPosterior
from pyrovae.priors import Laplace, MixtureOfNormals, StandardNormal, VampPrior
from pyrovae.programs.semi_amortized import SemiAmortized

X, Z, C = 4, 2, 3
BATCH = {"x": torch.eye(X, dtype=torch.float64), "c": torch.eye(X, C, dtype=torch.float64)}


def net(size: int, out: int) -> MLP:
    return MLP(size, [4], out, nn.Tanh)


def flow(kind: type, context: int = 0) -> nn.Module:
    return kind(Z, context, transforms=1, hidden_features=(4,), activation=nn.Tanh)


PRIORS: dict[str, Callable[[], nn.Module]] = {
    "standard": lambda: StandardNormal(Z),
    "mixture": lambda: MixtureOfNormals(Z, 3),
    "vamp": lambda: VampPrior(NormalHead(net(X, 2 * Z)), torch.rand(3, X), learn_weights=True),
    "coupling flow": lambda: flow(zuko.flows.RealNVP),
    "autoregressive flow": lambda: flow(zuko.flows.MAF),
    "spline flow": lambda: flow(zuko.flows.NSF),
    "conditional normal": lambda: pv.Node(NormalHead(net(C, 2 * Z)), "c"),
    "conditional flow": lambda: pv.Node(flow(zuko.flows.RealNVP, C), "c"),
    "Laplace": lambda: Laplace(Z),
}

GUIDES: dict[str, Callable[[], nn.Module]] = {
    "diagonal": lambda: NormalHead(net(X, 2 * Z)),
    "full-rank": lambda: FullRankNormalHead(net(X, 5), Z),
    "low-rank": lambda: LowRankNormalHead(net(X, 3 * Z), Z, 1),
    "mixture": lambda: MixtureNormalHead(net(X, 2 * (2 * Z + 1)), Z, 2),
    "iaf": lambda: IAF(NormalHead(net(X, 2 * Z)), Z, X, transforms=1, hidden=(4,)),
    "maf": lambda: FlowPosterior(NormalHead(net(X, 2 * Z)), flow(zuko.flows.MAF, X).transform),
    "spline": lambda: FlowPosterior(
        NormalHead(net(X, 2 * Z)), flow(zuko.flows.NSF, X).transform.inv
    ),
    "coupling": lambda: FlowPosterior(
        NormalHead(net(X, 2 * Z)), flow(zuko.flows.RealNVP, X).transform.inv
    ),
    "planar": lambda: PlanarPosterior(
        NormalHead(net(X, 2 * Z)), net(X, 2 * Z + 1), Z, transforms=1
    ),
    "semi-amortised": lambda: NormalHead(net(X, 2 * Z)),
}

MANY = Trace_ELBO(num_particles=20, vectorize_particles=True, max_plate_nesting=2)
"""An average that no draw pulls below the free bits, where the KL would move nothing."""

OBJECTIVES: dict[str, Callable[[nn.Module, nn.Module], nn.Module]] = {
    "elbo": pv.ElboLoss,
    "score-function": pv.ElboLoss,
    "analytic-kl": lambda model, guide: pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO()),
    "free bits": lambda model, guide: pv.ElboLoss(model, guide, free_bits=1e-3, elbo=MANY),
    "capacity": lambda model, guide: CapacityLoss(model, guide, capacity=25.0),
    "iwae": lambda model, guide: pv.IwaeLoss(model, guide, num_particles=3),
    "renyi": lambda model, guide: pv.IwaeLoss(model, guide, num_particles=3, alpha=0.5),
    "stl": lambda model, guide: pv.IwaeLoss(
        model, guide, num_particles=3, gradient="stl", alpha=1.0
    ),
    "dreg": lambda model, guide: pv.IwaeLoss(model, guide, num_particles=3, gradient="dreg"),
}
NEED_A_PATH = [name for name in OBJECTIVES if name not in ("elbo", "score-function")]
"""Objectives that differentiate through draws of z."""


def make_loss(prior: str, guide: str, objective: str, *, path: bool = True) -> nn.Module:
    model = pv.Model(z=PRIORS[prior](), x=pv.Node(BernoulliHead(net(Z, X)), "z")).double()
    conditional = GUIDES[guide]()
    program = pv.Guide(
        z=pv.Node(conditional if path else NonReparameterized(conditional), "x")
    ).double()
    if guide == "semi-amortised":
        program = SemiAmortized(program, model, steps=2, num_particles=2)
    return OBJECTIVES[objective](model, program)


def cases(objective: str) -> Iterator[tuple[str, str]]:
    """All pairs of prior and guide for the ELBO, a third of them for DReG, and a ninth, another
    for each, for the other objectives, so that every two of prior, guide and objective meet."""
    shift, every = list(OBJECTIVES).index(objective), {"elbo": 1, "dreg": 3}.get(objective, 9)
    for (i, prior), (j, guide) in itertools.product(enumerate(PRIORS), enumerate(GUIDES)):
        if (i + j + shift) % every == 0:
            yield prior, guide


def test_the_cover_holds_every_pair() -> None:
    triples = {(*pair, objective) for objective in OBJECTIVES for pair in cases(objective)}
    for drop in range(3):
        sides = [names for k, names in enumerate((PRIORS, GUIDES, OBJECTIVES)) if k != drop]
        met = {tuple(part for k, part in enumerate(triple) if k != drop) for triple in triples}
        assert met == set(itertools.product(*sides))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_prior_with_every_guide_trains(objective: str) -> None:
    path = objective != "score-function"
    for prior, guide in cases(objective):
        if path or guide != "semi-amortised":
            case = f"{prior} prior, {guide} guide"
            loss = make_loss(prior, guide, objective, path=path)
            before = {name: p.detach().clone() for name, p in loss.named_parameters()}
            history = pv.fit(loss, [BATCH], epochs=2, lr=1e-2)
            assert len(history) == 2 and all(
                math.isfinite(value) for row in history for value in row.values()
            ), case
            still = [name for name, p in loss.named_parameters() if torch.equal(p, before[name])]
            assert not still, f"{case}: {still} did not move"


@pytest.mark.parametrize("objective", NEED_A_PATH)
def test_objectives_that_need_a_path_refuse_draws_without_one(objective: str) -> None:
    for guide in GUIDES:
        with pytest.raises(
            (TypeError, pv.PairError), match="latent site 'z' is not reparameterised"
        ):
            pv.fit(make_loss("standard", guide, objective, path=False), [BATCH], epochs=1)


@pytest.mark.parametrize("objective", ["elbo", "score-function"])
def test_refining_needs_a_path_whatever_the_objective(objective: str) -> None:
    with pytest.raises(
        pv.PairError, match="SemiAmortized differentiates through the guide's draws"
    ):
        pv.fit(make_loss("standard", "semi-amortised", objective, path=False), [BATCH], epochs=1)
