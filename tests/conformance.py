"""Every component once, as the suite in test_conformance.py takes it. A new component is one line
here."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
import zuko
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae.bnn.guides import (
    Empirical,
    Ensemble,
    JointNormal,
    MCDropout,
    MeanField,
    PointEstimate,
    Radial,
)
from pyrovae.bnn.priors import (
    Previous,
    WeightPrior,
    fan_in,
    hierarchical,
    horseshoe,
    last_layer,
    normal,
    only,
    scale_mixture,
    standard,
)
from pyrovae.heads import (
    AutoregressiveBernoulliHead,
    AutoregressiveCategoricalHead,
    BernoulliHead,
    BetaHead,
    CategoricalHead,
    ContinuousBernoulliHead,
    DeltaHead,
    DiscretizedLogisticMixtureHead,
    FixedScaleNormalHead,
    FlippedBernoulliHead,
    FullRankNormalHead,
    LearnedScaleNormalHead,
    LinearMarginal,
    LinearPosterior,
    LowRankNormalHead,
    MixtureNormalHead,
    NegativeBinomialHead,
    NormalHead,
    PoissonHead,
    StraightThroughBernoulliHead,
    StraightThroughCategoricalHead,
    StudentTHead,
)
from pyrovae.nets import (
    MLP,
    Batched,
    BoundedScale,
    Constant,
    ConvDecoder,
    ConvEncoder,
    Downsampling,
    GatedMLP,
    ResidualCell,
    Standardized,
    Upsampling,
)
from pyrovae.posteriors import (
    IAF,
    FlowPosterior,
    NonReparameterized,
    PlanarPosterior,
    PrecisionWeighted,
    ResidualNormal,
)
from pyrovae.priors import (
    Laplace,
    Mixing,
    MixtureOfNormals,
    RestrictedBoltzmann,
    StandardNormal,
    VampPrior,
)
from pyrovae.programs import Bayesian


@dataclass(frozen=True)
class Case:
    """How to build a component, the event shapes of its parents, and the event shape of what it
    returns."""

    make: Callable[[], nn.Module]
    parents: tuple[tuple[int, ...], ...]
    event: tuple[int, ...]
    kinks: bool = False
    """Whether the density has kinks, where a sum over a grid is not as good as exact."""


def linear_likelihood() -> LearnedScaleNormalHead:
    return LearnedScaleNormalHead(nn.Linear(1, 2), initial_scale=0.5, scale_shape=(2,))


def boltzmann() -> RestrictedBoltzmann:
    """With its normaliser, and weights large enough to matter."""
    rbm = RestrictedBoltzmann(4, 3, burn_in=50)
    nn.init.normal_(rbm.weight)
    rbm.store_log_z(rbm.exact_log_z())
    return rbm


CONDITIONALS: dict[str, Case] = {
    "StandardNormal": Case(lambda: StandardNormal(2), (), (2,)),
    "StandardNormal, image": Case(lambda: StandardNormal(1, 2, 2), (), (1, 2, 2)),
    "VampPrior": Case(lambda: VampPrior(NormalHead(MLP(4, [8], 4)), torch.rand(3, 4)), (), (2,)),
    "VampPrior, weighted": Case(
        lambda: VampPrior(
            NormalHead(MLP(4, [8], 4)),
            torch.rand(3, 4),
            learn_inputs=False,
            learn_weights=True,
            constrain=nn.Hardtanh(0, 1),
        ),
        (),
        (2,),
    ),
    "MixtureOfNormals": Case(lambda: MixtureOfNormals(2, 3), (), (2,)),
    "RestrictedBoltzmann": Case(boltzmann, (), (4,)),
    "Mixing": Case(lambda: Mixing(3), (), ()),
    "Laplace": Case(lambda: Laplace(2, scale=2.0), (), (2,), kinks=True),
    "flow prior, coupling": Case(lambda: zuko.flows.RealNVP(2, hidden_features=(8,)), (), (2,)),
    "flow prior, autoregressive": Case(lambda: zuko.flows.MAF(2, hidden_features=(8,)), (), (2,)),
    "flow prior, spline": Case(
        lambda: zuko.flows.NSF(2, hidden_features=(8,)), (), (2,), kinks=True
    ),
    "flow prior, conditional": Case(
        lambda: zuko.flows.NSF(2, 3, hidden_features=(8,)), ((3,),), (2,), kinks=True
    ),
    "NormalHead": Case(lambda: NormalHead(MLP(4, [8], 4)), ((4,),), (2,)),
    "NormalHead, gated net": Case(lambda: NormalHead(GatedMLP(4, [8], 4)), ((4,),), (2,)),
    "NormalHead, floor": Case(lambda: NormalHead(MLP(4, [8], 4), min_scale=0.1), ((4,),), (2,)),
    "NormalHead, image": Case(
        lambda: NormalHead(ConvDecoder(3, [4], (2, 2, 3)), event_dim=3), ((3,),), (1, 2, 3)
    ),
    "FixedScaleNormalHead": Case(
        lambda: FixedScaleNormalHead(MLP(4, [8], 2), scale=0.3), ((4,),), (2,)
    ),
    "LearnedScaleNormalHead": Case(lambda: LearnedScaleNormalHead(MLP(4, [8], 2)), ((4,),), (2,)),
    "LearnedScaleNormalHead, a scale each": Case(
        lambda: LearnedScaleNormalHead(MLP(4, [8], 2), scale_shape=(2,)), ((4,),), (2,)
    ),
    "LinearMarginal": Case(lambda: LinearMarginal(linear_likelihood()), (), (2,)),
    "LinearPosterior": Case(lambda: LinearPosterior(linear_likelihood()), ((2,),), (1,)),
    "FullRankNormalHead": Case(lambda: FullRankNormalHead(MLP(4, [8], 5), 2), ((4,),), (2,)),
    "FullRankNormalHead, floor": Case(
        lambda: FullRankNormalHead(MLP(4, [8], 5), 2, min_scale=0.1), ((4,),), (2,)
    ),
    "LowRankNormalHead": Case(lambda: LowRankNormalHead(MLP(4, [8], 6), 2, 1), ((4,),), (2,)),
    "LowRankNormalHead, floor": Case(
        lambda: LowRankNormalHead(MLP(4, [8], 8), 2, 2, min_scale=0.1), ((4,),), (2,)
    ),
    "MixtureNormalHead": Case(lambda: MixtureNormalHead(MLP(4, [8], 15), 2, 3), ((4,),), (2,)),
    "MixtureNormalHead, one feature": Case(
        lambda: MixtureNormalHead(MLP(4, [8], 6), 1, 2, min_scale=0.1), ((4,),), (1,)
    ),
    "StudentTHead": Case(lambda: StudentTHead(MLP(4, [8], 4)), ((4,),), (2,)),
    "StudentTHead, heavy tails": Case(
        lambda: StudentTHead(MLP(4, [8], 4), initial_df=2.5, min_scale=0.1), ((4,),), (2,)
    ),
    "BetaHead": Case(lambda: BetaHead(MLP(4, [8], 4)), ((4,),), (2,)),
    "BetaHead, image": Case(
        lambda: BetaHead(ConvDecoder(3, [4], (2, 2, 1)), event_dim=3), ((3,),), (1, 2, 1)
    ),
    "DeltaHead": Case(lambda: DeltaHead(MLP(4, [8], 2)), ((4,),), (2,)),
    "DeltaHead, image": Case(
        lambda: DeltaHead(ConvDecoder(3, [4], (1, 3, 2)), event_dim=3), ((3,),), (1, 3, 2)
    ),
    "BernoulliHead": Case(lambda: BernoulliHead(MLP(3, [8], 4)), ((3,),), (4,)),
    "BernoulliHead, no parents": Case(lambda: BernoulliHead(Constant(4)), (), (4,)),
    "BernoulliHead, image": Case(
        lambda: BernoulliHead(ConvDecoder(3, [4], (1, 3, 2)), event_dim=3), ((3,),), (1, 3, 2)
    ),
    "BernoulliHead, two parents": Case(lambda: BernoulliHead(MLP(5, [8], 4)), ((3,), (2,)), (4,)),
    "FlippedBernoulliHead": Case(
        lambda: FlippedBernoulliHead(MLP(3, [8], 4), flip=0.1), ((3,),), (4,)
    ),
    "AutoregressiveCategoricalHead": Case(
        lambda: AutoregressiveCategoricalHead(3, 4, [16]), (), (3,)
    ),
    "StraightThroughBernoulliHead": Case(
        lambda: StraightThroughBernoulliHead(MLP(3, [8], 4)), ((3,),), (4,)
    ),
    "StraightThroughCategoricalHead": Case(
        lambda: StraightThroughCategoricalHead(MLP(3, [8], (2, 3)), event_dim=2), ((3,),), (2, 3)
    ),
    "AutoregressiveBernoulliHead, two parents": Case(
        lambda: AutoregressiveBernoulliHead(4, 5, [8]), ((3,), (2,)), (4,)
    ),
    "AutoregressiveBernoulliHead, no parents": Case(
        lambda: AutoregressiveBernoulliHead(4, 0, [8]), (), (4,)
    ),
    "AutoregressiveBernoulliHead": Case(
        lambda: AutoregressiveBernoulliHead(4, 3, [8, 8]), ((3,),), (4,)
    ),
    "ContinuousBernoulliHead": Case(
        lambda: ContinuousBernoulliHead(MLP(3, [8], 2)), ((3,),), (2,)
    ),
    "PoissonHead": Case(lambda: PoissonHead(MLP(4, [8], 2)), ((4,),), (2,)),
    "NegativeBinomialHead": Case(lambda: NegativeBinomialHead(MLP(4, [8], 2)), ((4,),), (2,)),
    "NegativeBinomialHead, r for each": Case(
        lambda: NegativeBinomialHead(
            ConvDecoder(3, [4], (1, 2, 1)), event_dim=3, r_shape=(1, 2, 1), initial_r=3.0
        ),
        ((3,),),
        (1, 2, 1),
    ),
    "CategoricalHead, labels": Case(lambda: CategoricalHead(MLP(3, [8], 5)), ((3,),), ()),
    "CategoricalHead, pixels": Case(
        lambda: CategoricalHead(MLP(3, [8], 4 * 3), event_shape=(3,)), ((3,),), (3,)
    ),
    "CategoricalHead, image": Case(
        lambda: CategoricalHead(ConvDecoder(3, [4], (4, 2, 3)), event_shape=(1, 2, 3)),
        ((3,),),
        (1, 2, 3),
    ),
    "DiscretizedLogisticMixtureHead": Case(
        lambda: DiscretizedLogisticMixtureHead(
            MLP(3, [8], 3 * 2 * 3), 2, levels=5, event_shape=(3,)
        ),
        ((3,),),
        (3,),
    ),
    "DiscretizedLogisticMixtureHead, one level": Case(
        lambda: DiscretizedLogisticMixtureHead(MLP(3, [8], 3 * 4), 4, levels=17, event_shape=()),
        ((3,),),
        (),
    ),
    "DiscretizedLogisticMixtureHead, image": Case(
        lambda: DiscretizedLogisticMixtureHead(
            ConvDecoder(3, [4], (3, 2, 3)), 1, levels=3, event_shape=(1, 2, 3)
        ),
        ((3,),),
        (1, 2, 3),
    ),
    "IAF": Case(lambda: IAF(NormalHead(MLP(4, [8], 4)), 2, 4, hidden=(8,)), ((4,),), (2,)),
    "IAF, context net": Case(
        lambda: IAF(NormalHead(MLP(4, [8], 4)), 2, 3, hidden=(8,), context_net=MLP(4, [8], 3)),
        ((4,),),
        (2,),
    ),
    "FlowPosterior, spline": Case(
        lambda: FlowPosterior(
            NormalHead(MLP(4, [8], 4)),
            zuko.flows.NSF(2, 4, transforms=1, hidden_features=(8,)).transform.inv,
        ),
        ((4,),),
        (2,),
        kinks=True,
    ),
    "FlowPosterior, coupling": Case(
        lambda: FlowPosterior(
            NormalHead(MLP(4, [8], 4)),
            zuko.flows.RealNVP(2, 4, transforms=2, hidden_features=(8,)).transform.inv,
        ),
        ((4,),),
        (2,),
    ),
    "PlanarPosterior": Case(
        lambda: PlanarPosterior(NormalHead(MLP(4, [8], 4)), MLP(4, [8], 10), 2, transforms=2),
        ((4,),),
        (2,),
    ),
    "PrecisionWeighted": Case(
        lambda: PrecisionWeighted(NormalHead(MLP(4, [8], 4)), NormalHead(MLP(3, [8], 4))),
        ((4,), (3,)),
        (2,),
    ),
    "ResidualNormal": Case(
        lambda: ResidualNormal(MLP(7, [8], 4), NormalHead(MLP(3, [8], 4))), ((4,), (3,)), (2,)
    ),
    "ResidualNormal, image": Case(
        lambda: ResidualNormal(Batched(nn.Conv2d(1, 2, 1), 3), StandardNormal(1, 2, 2)),
        ((1, 2, 2),),
        (1, 2, 2),
    ),
    "NonReparameterized": Case(
        lambda: NonReparameterized(NormalHead(MLP(4, [8], 4))), ((4,),), (2,)
    ),
    "NonReparameterized, flow": Case(
        lambda: NonReparameterized(IAF(NormalHead(MLP(4, [8], 4)), 2, 4, hidden=(8,))),
        ((4,),),
        (2,),
    ),
    "encoder, convolutional": Case(
        lambda: NormalHead(ConvEncoder((1, 5, 3), [4, 8], 4)), ((1, 5, 3),), (2,)
    ),
    "encoder, residual": Case(
        lambda: NormalHead(
            BoundedScale(nn.Sequential(Downsampling(1, 4), ResidualCell(4, depth=2)), event_dim=3),
            event_dim=3,
        ),
        ((1, 3, 1),),
        (2, 2, 1),
    ),
    "BernoulliHead, upsampled": Case(
        lambda: BernoulliHead(Upsampling(2, 1, (3, 2)), event_dim=3), ((2, 2, 1),), (1, 3, 2)
    ),
    "encoder, standardised": Case(
        lambda: NormalHead(Standardized(MLP(4, [8], 4), 0.5, 2.0)), ((4,),), (2,)
    ),
    "encoder, batched": Case(
        lambda: NormalHead(Batched(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), 3)),
        ((1, 2, 2),),
        (2,),
    ),
}


WEIGHT_PRIORS: dict[str, Callable[[nn.Module], WeightPrior]] = {
    "standard": lambda net: standard,
    "normal": lambda net: normal(0.5),
    "fan_in": lambda net: fan_in(1.5, 0.5),
    "hierarchical": lambda net: hierarchical(2.0, 1.0, point=False),
    "hierarchical, point": lambda net: hierarchical(),
    "horseshoe": lambda net: horseshoe(0.5),
    "scale_mixture": lambda net: scale_mixture(0.25, 1.0, 0.1),
    "only": lambda net: only(normal(1.0), "*.weight"),
    "last_layer": lambda net: last_layer(net, normal(2.0)),
    "Previous": lambda net: Previous(MeanField(Bayesian(net), init_scale=0.3)),
}

WEIGHT_GUIDES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "MeanField": lambda net: MeanField(net, init_scale=0.3),
    "PointEstimate": PointEstimate,
    "PointEstimate, jacobian": lambda net: PointEstimate(net, jacobian=True),
    "MCDropout": lambda net: MCDropout(net, rate=0.4),
    "MCDropout, learned": lambda net: MCDropout(net, rate=0.4, learn_rate=True),
    "MCDropout, by weight": lambda net: MCDropout(net, rate=0.4, by_weight=True),
    "Radial": lambda net: Radial(net, init_scale=0.3),
    "JointNormal": lambda net: JointNormal(net, init_scale=0.3),
    "JointNormal, low rank": lambda net: JointNormal(net, rank=2, init_scale=0.3),
    "Ensemble": lambda net: Ensemble(net, [net.net, MLP(3, [4], 2), MLP(3, [4], 2)]),
    "Empirical": lambda net: Empirical(
        {
            name: value.expand(5, *value.shape)
            + 0.1 * torch.arange(5.0).reshape(-1, *[1] * value.dim())
            for name, value in PointEstimate(net)().items()
        }
    ),
}


def parents_of(case: Case, *batch: int) -> list[Tensor]:
    return [torch.rand(*batch, *shape) for shape in case.parents]


def factors_of(fn: dist.Distribution) -> dist.Distribution | None:
    """The one-dimensional factors of a distribution, where it has any."""
    while hasattr(fn, "base_dist") and fn.event_shape:
        fn = fn.base_dist
    return fn if not fn.event_shape else None


def support_of(fn: dist.Distribution) -> constraints.Constraint:
    """Where one element of the event may lie; zuko's flows do not say, and cover R."""
    try:
        support = fn.support
    except NotImplementedError:
        return constraints.real
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def one_hot_grid(fn: dist.Distribution) -> Tensor | None:
    """All values of one-hot vectors, `(n, *event)`; None for other distributions."""
    support = support_of(fn)
    if support is not constraints.one_hot:
        return None
    *rows, size = fn.event_shape
    each = torch.cartesian_prod(*[torch.arange(size)] * int(torch.Size(rows).numel()))
    return nn.functional.one_hot(each, size).double().reshape(-1, *fn.event_shape)


def values_of(fn: dist.Distribution) -> Tensor | None:
    """The values `(V,)` that one element of the event takes, counts up to where no mass is left;
    None where not discrete."""
    support = support_of(fn)
    if support is constraints.boolean:
        return torch.arange(2.0)
    if isinstance(support, constraints.integer_interval):
        return torch.arange(support.lower_bound, support.upper_bound + 1.0)
    if support is constraints.nonnegative_integer:
        return torch.arange(400.0)
    return None


def fingerprint(fn: dist.Distribution, value: Tensor) -> Tensor:
    """What tells one distribution from another: its log-density at a value, or where its point
    mass lies."""
    return (
        fn.mean.flatten(len(fn.batch_shape)).sum(-1)
        if isinstance(fn, dist.Delta)
        else fn.log_prob(value)
    )
