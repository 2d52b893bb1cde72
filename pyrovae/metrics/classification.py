"""Class probabilities: accuracy, likelihood, uncertainty."""

import torch
from torch import Tensor

from pyrovae.metrics._refuse import labels, probabilities


def accuracy(probs: Tensor, y: Tensor) -> Tensor:
    """Whether the most probable class is the true one, as 0 or 1, for each datum; the mean is the
    accuracy.

    Shapes: probs (N, C); y (N,), int64 -> (N,), in the dtype of probs. Errors: ValueError for
    invalid probabilities, and labels outside 0..C-1.

    Example:
        >>> accuracy(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
        tensor([1., 0.])
    """
    probabilities(probs)
    return (probs.argmax(-1) == labels(y, probs)).to(probs.dtype)


def nll(probs: Tensor, y: Tensor) -> Tensor:
    """Negative log-likelihood -log p(y_n) of each datum; inf where the true class got probability
    zero.

    Average probabilities over draws before, p = probs.mean(0). Where they underflow, stay with
    logarithms: `-log_predictive_density(log_probs)`.

    Shapes: probs (N, C); y (N,), int64 -> (N,). Units: nats, smaller is better. Errors: ValueError
    for invalid probabilities, and labels outside 0..C-1.

    Example:
        >>> nll(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
        tensor([0.1054, 1.6094])
    """
    probabilities(probs)
    return -probs.gather(-1, labels(y, probs)[:, None]).squeeze(-1).log()


def brier(probs: Tensor, y: Tensor) -> Tensor:
    r"""Brier score sum_c (p_c - [c = y_n])^2 of each datum, in [0, 2], smaller is better.

    Brier's own convention. Two others are in use: divided by C (Lakshminarayanan et al. 2017,
    arXiv:1612.01474; Ovadia et al. 2019, arXiv:1906.02530, in the text), and less one, sum_c p_c^2
    - 2 p_y (the code of Ovadia et al.). The two-class score of scikit-learn's `brier_score_loss`,
    (p_1 - y)^2, is half of this one.

    Shapes: probs (N, C); y (N,), int64 -> (N,). Errors: ValueError for invalid probabilities, and
    labels outside 0..C-1.

    Source: Brier 1950, Monthly Weather Review 78(1).

    Example:
        >>> brier(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), torch.tensor([0, 0, 0]))
        tensor([0.0000, 2.0000, 0.5000])
    """
    probabilities(probs)
    onehot = torch.nn.functional.one_hot(labels(y, probs), probs.shape[-1])
    return (probs - onehot).square().sum(-1)


def entropy(probs: Tensor) -> Tensor:
    r"""-sum_c p_c log p_c of each datum, in [0, log C]: the total uncertainty of a prediction.

    Shapes: probs (N, C) -> (N,). Units: nats. Errors: ValueError for invalid probabilities.

    Example:
        >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0.0000, 0.6931])
    """
    probabilities(probs)
    return _entropy(probs)


def mutual_information(probs: Tensor) -> Tensor:
    r"""I(y; w) = H(1/S sum_s p_s) - 1/S sum_s H(p_s) of each datum: how far the draws of the
    weights disagree.

    The part of `entropy(probs.mean(0))` that more data would remove; the rest is noise in the
    labels. Never negative, at most log S, and biased low at finite S: compare at equal S. Exactly
    0 where all draws are equal, so that they tie in `auroc`.

    Shapes: probs (S, N, C) -> (N,). Units: nats. Errors: ValueError for invalid probabilities.

    Source: Houlsby, Huszar, Ghahramani & Lengyel 2011, arXiv:1112.5745 (BALD).

    Example:
        >>> mutual_information(torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
        tensor([0.6931, 0.0000])
    """
    probabilities(probs, ("S", "N"))
    found = (_entropy(probs.mean(0)) - _entropy(probs).mean(0)).clamp(min=0)
    return found.masked_fill((probs == probs[:1]).all(-1).all(0), 0.0)


def _entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs).sum(-1)
