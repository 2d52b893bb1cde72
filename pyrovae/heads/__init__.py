"""Heads: modules that turn a net's output into a distribution, as encoder or likelihood."""

from pyrovae.heads.autoregressive import AutoregressiveBernoulliHead
from pyrovae.heads.autoregressive_categorical import AutoregressiveCategoricalHead
from pyrovae.heads.bernoulli import BernoulliHead, ContinuousBernoulliHead
from pyrovae.heads.beta import BetaHead
from pyrovae.heads.categorical import CategoricalHead
from pyrovae.heads.correlated_normal import FullRankNormalHead, LowRankNormalHead
from pyrovae.heads.counts import NegativeBinomialHead, PoissonHead
from pyrovae.heads.delta import DeltaHead
from pyrovae.heads.discretized_logistic import DiscretizedLogisticMixtureHead
from pyrovae.heads.flipped_bernoulli import FlippedBernoulliHead
from pyrovae.heads.linear_gaussian import LinearMarginal, LinearPosterior
from pyrovae.heads.mixture_normal import MixtureNormalHead
from pyrovae.heads.normal import FixedScaleNormalHead, LearnedScaleNormalHead, NormalHead
from pyrovae.heads.shared_variance import SharedVarianceHead
from pyrovae.heads.straight_through import (
    StraightThroughBernoulliHead,
    StraightThroughCategoricalHead,
)
from pyrovae.heads.student_t import StudentTHead

__all__ = [
    "AutoregressiveBernoulliHead",
    "AutoregressiveCategoricalHead",
    "BernoulliHead",
    "BetaHead",
    "CategoricalHead",
    "ContinuousBernoulliHead",
    "DeltaHead",
    "DiscretizedLogisticMixtureHead",
    "FixedScaleNormalHead",
    "FlippedBernoulliHead",
    "FullRankNormalHead",
    "LearnedScaleNormalHead",
    "LinearMarginal",
    "LinearPosterior",
    "LowRankNormalHead",
    "MixtureNormalHead",
    "NegativeBinomialHead",
    "NormalHead",
    "PoissonHead",
    "SharedVarianceHead",
    "StraightThroughBernoulliHead",
    "StraightThroughCategoricalHead",
    "StudentTHead",
]
