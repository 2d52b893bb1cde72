"""How close samples are to data, from features of both: for models without a density."""

import torch
from torch import Tensor

from pyrovae.metrics._refuse import finite


def frechet_distance(real: Tensor, fake: Tensor) -> Tensor:
    r"""|m - m'|^2 + tr(S + S' - 2 (S S')^{1/2}) of the means and covariances of features: the squared
    2-Wasserstein distance of two normals.

    It sees the first two moments alone, and is too large at finite N, more so for more features:
    compare at equal numbers of samples, and with the score of held-out data. Its error:
    `block_error`. Only with the features of Inception v3 is it the FID.

    Shapes: real (N, F), fake (M, F) -> (), float64. Errors: ValueError for other shapes, fewer than
    two rows, NaN and infinities.

    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6; Dowson & Landau 1982, J. Multivariate
    Analysis 12(3).

    Example:
        >>> x = torch.randn(100, 3)
        >>> bool(frechet_distance(x, x + 2.0).sub(12.0).abs() < 1e-4)
        True
    """
    _features(real, fake)
    first, second = real.double(), fake.double()
    root = _root(first.T.cov().reshape(first.shape[1], -1))
    other = second.T.cov().reshape(second.shape[1], -1)
    shared = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    apart = (first.mean(0) - second.mean(0)).square().sum()
    return apart + root.square().sum() + other.trace() - 2 * shared


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    r"""Unbiased estimate of MMD^2 under the kernel (x . y / F + 1)^3: 0 in expectation where both have the
    same distribution, so single values may be negative.

    It compares moments up to the third. Its error: `block_error`. Only with the features of
    Inception v3 is it the KID.

    Shapes: real (N, F), fake (M, F) -> (), float64. Errors: as `frechet_distance`.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4 (difference: all pairs, not an average
    over subsets).

    Example:
        >>> bool(kernel_distance(torch.randn(500, 3), torch.randn(500, 3) + 1) > 0)
        True
    """
    _features(real, fake)
    first, second = real.double(), fake.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(first) + within(second) - 2 * kernel(first, second).mean()


def sample_precision(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> Tensor:
    r"""Whether each sample lies among the data: within the ball of some datum that reaches to its k-th
    nearest other datum, as 0 or 1; the mean is the precision.

    How realistic samples are, whatever part of the data they cover. A datum far from all others has
    a large ball that forgives any sample in it. The standard error of the mean over samples leaves
    out that of the balls. Compare at equal numbers of data.

    Shapes: real (N, F), fake (M, F) -> (M,). Errors: as `frechet_distance`, and for fewer than
    k + 1 data.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> sample_precision(real, torch.tensor([[1.4], [9.0]]), neighbours=1)
        tensor([1., 0.])
    """
    _features(real, fake)
    if not 1 <= neighbours < len(real):
        raise ValueError(
            f"neighbours={neighbours}, expected at least 1 and fewer than the {len(real)} rows that they are among."
        )
    apart = torch.cdist(real, real, compute_mode="donot_use_mm_for_euclid_dist")
    reach = apart.fill_diagonal_(torch.inf).kthvalue(neighbours, dim=1).values
    distance = torch.cdist(fake, real, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance <= reach).any(1).to(fake.dtype)


def sample_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> Tensor:
    r"""Whether each datum lies among the samples, as 0 or 1: `sample_precision` with the roles exchanged;
    the mean is the recall.

    How much of the data samples cover, however poor the other samples are. Samples that are spread
    widely have large balls, so noise can have a high recall: read it beside the precision.

    Shapes: real (N, F), fake (M, F) -> (N,). Errors and source: as `sample_precision`.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> sample_recall(real, torch.tensor([[0.4], [1.0]]), neighbours=1)
        tensor([1., 1., 0., 0.])
    """
    return sample_precision(fake, real, neighbours=neighbours)


def class_coverage(real: Tensor, fake: Tensor, *, classes: int) -> Tensor:
    r"""sum_c min(p_c, q_c) of the shares of classes among data and samples: 1 minus the total variation
    distance of the two.

    1 where samples have each class as often as the data; a class that is dropped costs its share. It
    is as good as the classifier that labels the samples, and sees nothing within a class. Its
    error: `block_error`.

    Shapes: real (N,), fake (M,), classes 0..C-1 -> (), float64. Errors: ValueError for other shapes,
    and labels outside the classes.

    Example:
        >>> class_coverage(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1, 2]), classes=4)
        tensor(0.7500, dtype=torch.float64)
    """
    shares = []
    for name, labels in (("real", real), ("fake", fake)):
        if labels.dim() != 1 or not len(labels) or labels.is_floating_point():
            raise ValueError(
                f"{name} has shape {tuple(labels.shape)} and dtype {labels.dtype}, expected one class for each row, (N,)."
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"{name} holds {labels.min().item()}..{labels.max().item()}, expected classes 0..{classes - 1}."
            )
        shares.append(labels.bincount(minlength=classes).double() / len(labels))
    return torch.minimum(*shares).sum()


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _features(real: Tensor, fake: Tensor) -> None:
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}, expected features, (N, F) and (M, F)."
        )
    for name, values in (("real", real), ("fake", fake)):
        finite(name, values)
        if len(values) < 2:
            raise ValueError(f"{name} has {len(values)} row, expected two at least.")
