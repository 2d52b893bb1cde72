"""Whether single dims of a code stand for single factors of the data: MIG and SAP."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyrovae.metrics._refuse import finite

INACTIVE = 0.05
"""Variance of a dim at or below which SAP takes it for unused."""


def mutual_information_gap(codes: Tensor, factors: Tensor, *, bins: int = 20) -> Tensor:
    r"""MIG, the mean over factors v_k of (I(z_(1); v_k) - I(z_(2); v_k)) / H(v_k), of the two dims that
    know most about v_k: 1 where each factor has a dim of its own that determines it, 0 where none
    is known better by one dim than by another.

    It does not ask that a dim stands for one factor only: a dim that determines all factors scores 1.

    codes: means (or draws) of q(z | x). Mutual information is that of bins, `factor_information`,
    which is too large at few data: independent codes of N data score about (bins / N)-sized values
    above 0.

    Shapes: codes (N, D), D >= 2; factors (N, K), whole numbers -> (). Units: none, in [0, 1]. Errors:
    ValueError for other shapes, a factor with one value only, NaN and infinities.

    Source: Chen et al. 2018, arXiv:1802.04942, eq. 6; bins of the means in place of the density of
    q(z | x): Locatello et al. 2019, arXiv:1811.12359, appendix C.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> mutual_information_gap(factors.double(), factors)
        tensor(1., dtype=torch.float64)
    """
    information = factor_information(codes, factors, bins=bins)
    entropies = torch.stack(
        [_entropy(column.unique(return_counts=True)[1]) for column in factors.T]
    )
    return (_gap(information) / entropies.to(information)).mean()


def factor_information(codes: Tensor, factors: Tensor, *, bins: int = 20) -> Tensor:
    r"""I(z_d; v_k) of each dim, cut into `bins` of equal width between its least and its largest value,
    and each factor.

    Shapes: codes (N, D); factors (N, K) -> (D, K). Units: nats. Errors: as `mutual_information_gap`.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> factor_information(factors.double(), factors).exp().round()
        tensor([[4., 1.],
                [1., 3.]], dtype=torch.float64)
    """
    _refuse(codes, factors)
    if bins < 2:
        raise ValueError(f"bins={bins}, expected at least 2.")
    return torch.stack(
        [
            torch.stack([_information(binned, column) for column in factors.T])
            for binned in _binned(codes, bins).T
        ]
    ).to(codes.dtype)


def separated_predictability(
    codes: Tensor, factors: Tensor, *, classes: Sequence[int] = (), bins: int = 20
) -> Tensor:
    r"""SAP, the mean over factors of the gap between the two dims that each predict it best.

    A factor is predicted by a line, scored by R^2 = Cov(z_d, v_k)^2 / (Var z_d Var v_k); or, for
    those listed in `classes` (columns of `factors` without an order), by thresholds on the dim, here
    the edges of `bins`, scored by the balanced accuracy on the same data. Dims whose variance is at
    most 0.05 score 0.

    1 where each factor is a line in a dim of its own, and a factor of C classes contributes at most 1
    - 1/C, as any other active dim reaches 1/C.

    Shapes: codes (N, D), D >= 2; factors (N, K), whole numbers -> (). Errors: as
    `mutual_information_gap`, and for classes that are no columns.

    Source: Kumar, Sattigeri & Balakrishnan 2018, arXiv:1711.00848, section 3.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> separated_predictability(factors.double(), factors)
        tensor(1., dtype=torch.float64)
    """
    _refuse(codes, factors)
    if wrong := [k for k in classes if not 0 <= k < factors.shape[1]]:
        raise ValueError(
            f"classes holds {wrong}, expected columns of factors {tuple(factors.shape)}."
        )
    centred, targets = codes - codes.mean(0), factors.to(codes) - factors.to(codes).mean(0)
    covariance = (centred.T @ targets).square()
    spread = centred.square().sum(0)[:, None] * targets.square().sum(0)
    found = covariance / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    binned = _binned(codes, bins)
    for k in classes:
        found[:, k] = torch.stack([_balanced(one, factors[:, k]) for one in binned.T]).to(found)
    found[codes.var(0, unbiased=False) <= INACTIVE] = 0.0
    return _gap(found).mean()


def _gap(scores: Tensor) -> Tensor:
    first, second = scores.topk(2, dim=0).values
    return first - second


def _binned(codes: Tensor, bins: int) -> Tensor:
    low, high = codes.amin(0), codes.amax(0)
    width = torch.where(high > low, high - low, 1.0)
    return ((codes - low) / width * bins).long().clamp(max=bins - 1)


def _counts(binned: Tensor, factor: Tensor) -> Tensor:
    """How often each bin and each value of a factor meet, `(bins, values)`."""
    values, index = factor.unique(return_inverse=True)
    size = int(binned.max()) + 1
    return (binned * len(values) + index).bincount(minlength=size * len(values)).reshape(size, -1)


def _information(binned: Tensor, factor: Tensor) -> Tensor:
    counts = _counts(binned, factor)
    parts = _entropy(counts.sum(0)) + _entropy(counts.sum(1)) - _entropy(counts.flatten())
    return parts.clamp(min=0)


def _balanced(binned: Tensor, factor: Tensor) -> Tensor:
    """Accuracy, averaged over classes, of guessing in each bin the class of which it holds most."""
    counts = _counts(binned, factor)
    return (counts / counts.sum(0)).amax(1).sum() / counts.shape[1]


def _entropy(counts: Tensor) -> Tensor:
    return torch.special.entr(counts.double() / counts.sum()).sum()


def _refuse(codes: Tensor, factors: Tensor) -> None:
    if codes.dim() != 2 or factors.dim() != 2 or len(codes) != len(factors) or codes.shape[1] < 2:
        raise ValueError(
            f"codes has shape {tuple(codes.shape)} and factors {tuple(factors.shape)}, expected (N, D) with D >= 2 and "
            "(N, K): a gap is between two dims."
        )
    finite("codes", codes)
    if factors.is_floating_point() or factors.is_complex():
        raise ValueError(
            f"factors has dtype {factors.dtype}, expected whole numbers. Use factors.long()."
        )
    for k, column in enumerate(factors.T):
        if (column == column[0]).all():
            raise ValueError(
                f"factor {k} has the value {column[0].item()} throughout; expected factors that vary. Leave it out."
            )
