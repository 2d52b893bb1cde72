"""What a trained Bayesian net says about new data, in their own units."""

import dataclasses
from typing import TypeAlias

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class RegressionPrediction:
    """Mean, standard deviations and an interval of the predictive distribution: the mixture of the
    normals of all weight samples. Shapes: `(N, T)` each, float64; units: those of y.

    aleatoric: noise that more data would not take away; epistemic: of the weights. lower, upper: the
    central interval of probability `level`, the exact quantiles of the mixture.
    """

    mean: Tensor
    aleatoric: Tensor
    epistemic: Tensor
    lower: Tensor
    upper: Tensor
    level: float

    @property
    def total(self) -> Tensor:
        """The standard deviation of y: sqrt(aleatoric^2 + epistemic^2)."""
        return (self.aleatoric.square() + self.epistemic.square()).sqrt()


@dataclasses.dataclass(frozen=True)
class ClassPrediction:
    """Class probabilities averaged over all weight samples, `(N, C)` in the order of `classes`, the
    labels of the training data.

    aleatoric: E_w H[y | w]; epistemic: the mutual information of y and w; in nats, `(N,)`.
    """

    probs: Tensor
    aleatoric: Tensor
    epistemic: Tensor
    classes: tuple[int, ...]

    @property
    def entropy(self) -> Tensor:
        """H of the probabilities, in nats, `(N,)`: the sum of its two parts."""
        return self.aleatoric + self.epistemic

    @property
    def label(self) -> Tensor:
        """The most probable label, `(N,)`, int64."""
        return torch.tensor(self.classes)[self.probs.argmax(-1)]


Prediction: TypeAlias = RegressionPrediction | ClassPrediction
