"""Weights of several predictive distributions, chosen on held-out data."""

from torch import Tensor


def stacking_weights(log_p: Tensor, *, steps: int = 10_000, tolerance: float = 1e-9) -> Tensor:
    r"""The w on the simplex that maximise sum_i log sum_m w_m p_m(y_i | x_i), by EM, which never falls
    and whose optimum is the only one.

    log_p: log p_m(y_i | x_i) of held-out data i under each of M predictive distributions, nats.
    steps, tolerance: it ends after so many steps, or where one gains less, in nats per datum.
    Shapes: (M, N) -> (M,), float64. Errors: ValueError for another shape, for NaN, and for a datum
    that is impossible under all.
    Source: Yao, Vehtari, Simpson & Gelman 2018, arXiv:1704.02030, section 3.1.

    Example:
        >>> stacking_weights(Tensor([[0.0, -1.0, 0.0], [-9.0, -9.0, -9.0]])).round(decimals=3)
        tensor([1., 0.], dtype=torch.float64)
    """
    if log_p.dim() != 2 or not log_p.numel():
        raise ValueError(f"log_p has shape {tuple(log_p.shape)}, expected (M, N).")
    log_p = log_p.double()
    largest = log_p.amax(0)
    if not largest.isfinite().all():
        rows = (~largest.isfinite()).nonzero().flatten().tolist()
        raise ValueError(
            f"data {rows[:5]} have log-probability {largest[rows[:5]].tolist()} under the best of the "
            "distributions, expected finite numbers."
        )
    p = (log_p - largest).exp()
    weights = p.new_full((len(p),), 1 / len(p))
    before = -float("inf")
    for _ in range(steps):
        joint = weights[:, None] * p
        total = joint.sum(0)
        if (now := float(total.log().mean())) - before < tolerance:
            break
        weights, before = (joint / total).mean(1), now
    return weights


def as_counts(weights: Tensor, total: int) -> list[int]:
    """Whole numbers that sum to `total` and are nearest to `total * weights`: the largest remainders
    are rounded up.

    Example:
        >>> as_counts(Tensor([0.5, 0.3, 0.2]), 4)
        [2, 1, 1]
    """
    exact = weights.double() * total
    counts = exact.floor().long()
    rest = total - int(counts.sum())
    counts[(exact - counts).argsort(descending=True, stable=True)[:rest]] += 1
    return counts.tolist()
