"""Training that did not reach the optimum: stopped short of it, or jumping about it."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Finding, Severity

LEAST_ROWS = 8
"""Epochs of a history that tell a trend."""
WINDOWS = 5
"""Parts of training whose mean KL is compared."""
ERRORS = 3.0
"""Standard errors of these means."""
STILL = 0.02
"""Relative range of a KL that does not move."""
ENDED = 1e-3
"""A schedule that ends below this share of its largest rate leaves no noise of the steps."""
MOST_RATE = 5e-3
"""Largest learning rate of the steps that show whether smaller ones gain."""
GAIN = 0.03
"""Nats that small steps may gain of a datum of one observed number, T^0.75 times as many of one of T:
those of an image are not independent."""
FLAT = 0.5
"""Share of such a gain that the last quarter of training may have made: it was still improving."""
STOPPED = 0.1
"""Share of the whole improvement that the last quarter of training made, where it was stopped early."""


def kl_moves(seen: Examination) -> Iterator[Finding]:
    """A KL that stays where it started while the pair is not at its optimum."""
    seen.need_history("kl")
    assert seen.history is not None
    if len(seen.history) < 3:
        raise NotApplicable("the history has fewer than 3 epochs")
    kl = torch.tensor([row["kl"] for row in seen.history], dtype=torch.float64)
    if not kl.isfinite().all():
        raise NotApplicable("the history has a KL that is not finite")
    parts = kl.tensor_split(min(len(kl), WINDOWS))
    means = torch.stack([part.mean() for part in parts])
    noise = kl.diff().square().median().sqrt().item() / (len(kl) / len(parts)) ** 0.5
    moved = (means.max() - means.min()).item()
    if moved < STILL * kl.abs().max().item() + ERRORS * noise and not _at_optimum(seen):
        yield Finding(
            "KL does not move",
            Severity.WARNING,
            f"over {len(kl)} epochs the KL stayed between {kl.min():.4g} and {kl.max():.4g} nats per datum",
            "check that the guide's parameters are in the optimiser and require gradients, that draws are "
            "reparameterised, and that the KL is part of the loss; a larger learning rate, or smaller initial scales",
        )


def step_size(seen: Examination) -> Iterator[Finding]:
    """Steps that are too large for the noise of their gradients: smaller ones gain at once."""
    seen.need_history("loss", "lr")
    assert seen.history is not None
    if len(seen.history) < LEAST_ROWS:
        raise NotApplicable(f"the history has fewer than {LEAST_ROWS} epochs")
    rates = [row["lr"] for row in seen.history]
    if rates[-1] < ENDED * max(rates):
        raise NotApplicable("the learning rate had been lowered to almost 0")
    gain = seen.polished(min(rates[-1] / 10, MOST_RATE))
    recent, whole = trend(seen.history)
    if (
        gain.objective > _tolerated(seen)
        and gain.objective > 4 * gain.error
        and recent < max(FLAT * gain.objective, STOPPED * whole)
    ):
        yield Finding(
            "learning rate too high",
            Severity.WARNING,
            f"{gain.num_steps} steps at a rate of {gain.lr:.2g} and below, in place of {seen.history[-1]['lr']:.2g}, gain "
            f"{gain.objective:.3g} +- {gain.error:.1g} nats per datum; the last quarter of training gained {recent:.2g}",
            "a lower learning rate, or a schedule that ends low (cosine), averages of the weights over the last epochs, "
            "larger batches or more particles for less noise",
        )


def stopped_early(seen: Examination) -> Iterator[Finding]:
    """Training that was still improving when it ended; without a history that tells, one that more
    steps improve."""
    seen_trend = ""
    if seen.history is not None and len(seen.history) >= LEAST_ROWS:
        seen.need_history("loss")
        recent, whole = trend(seen.history)
        if recent <= STOPPED * whole:
            return
        seen_trend = (
            f"the last quarter of training lowered the loss by {recent:.2g} of {whole:.2g} nats per datum in "
            "all, and "
        )
    gain = seen.gain
    if gain.reconstruction > _tolerated(seen) and gain.objective > 4 * gain.error:
        yield Finding(
            "underfitting",
            Severity.WARNING,
            f"{seen_trend}{gain.num_steps} more steps gain {gain.objective:.2g} nats per datum, "
            f"{gain.reconstruction:.2g} of it in the reconstruction",
            "train longer, or with a larger learning rate at first",
        )


def trend(history: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """How much the last quarter of training lowered the loss, by a line through its second half, and
    how much the whole training did from its first epoch to the mean of the last quarter."""
    loss = torch.tensor([row["loss"] for row in history], dtype=torch.float64)
    half = loss[len(loss) // 2 :]
    quarter = loss[len(loss) * 3 // 4 :].mean()
    return -_slope(half) * len(loss) / 4, (loss[0] - quarter).item()


def _slope(values: Tensor) -> float:
    """Slope of the line through the values, by Theil and Sen: the median over pairs."""
    index = torch.arange(len(values), dtype=values.dtype)
    first, second = torch.triu_indices(len(values), len(values), 1)
    return ((values[second] - values[first]) / (index[second] - index[first])).median().item()


def _tolerated(seen: Examination) -> float:
    """Nats per datum that small steps may gain."""
    return GAIN * sum(site["value"][0].numel() for site in seen.observed.values()) ** 0.75


def _at_optimum(seen: Examination) -> bool:
    return seen.gain.objective < _tolerated(seen)
