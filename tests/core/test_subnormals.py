"""Subnormal numbers are flushed to zero inside the engine, on all threads, and nowhere else."""

from collections.abc import Iterator

import pytest
import sklearn.metrics  # noqa: F401 (brings an OpenMP library of its own, with other workers than torch's)
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.subnormals import flush_subnormals, is_flushing
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor cannot flush subnormals"
)
NUMBERS = torch.full((400_000,), 1e-40, dtype=torch.float32)
"""So many that both threads get some."""


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def share_of_zeros() -> float:
    return (NUMBERS * 1.0 == 0).double().mean().item()


def test_all_threads_flush_inside_and_none_outside(two_threads: None) -> None:
    assert share_of_zeros() == 0.0
    with flush_subnormals():
        assert is_flushing() and share_of_zeros() == 1.0
        with flush_subnormals():
            pass
        assert share_of_zeros() == 1.0, "the inner block put back what the outer one had set"
        with flush_subnormals(False):
            assert not is_flushing() and share_of_zeros() == 0.0
        assert share_of_zeros() == 1.0
    assert not is_flushing() and share_of_zeros() == 0.0


def test_a_flag_that_was_set_stays_set() -> None:
    torch.set_flush_denormal(True)
    try:
        with flush_subnormals():
            pass
        assert is_flushing()
    finally:
        torch.set_flush_denormal(False)


class Look(nn.Module):
    """A decoder that notes whether the engine flushes while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = BernoulliHead(MLP(2, [4], 3)), []

    def forward(self, z: Tensor) -> torch.distributions.Distribution:
        self.seen.append(share_of_zeros())
        return self.inner(z)


def test_training_evidence_and_predictions_flush(two_threads: None) -> None:
    look = Look()
    model, guide = (
        pv.Model(z=StandardNormal(2), x=pv.Node(look, "z")),
        pv.Guide(z=pv.Node(NormalHead(MLP(3, [4], 4)), "x")),
    )
    batch = {"x": torch.ones(5, 3)}
    loss = pv.ElboLoss(model, guide)
    for run in (
        lambda: pv.fit(loss, [batch], epochs=1, compile="off"),
        lambda: pv.evaluate(loss, batch),
        lambda: pv.log_evidence(model, guide, batch, num_particles=5, compile="off"),
        lambda: pv.predict(model, guide, batch, num_samples=5),
    ):
        look.seen.clear()
        run()
        assert look.seen and look.seen[-1] == 1.0
        assert share_of_zeros() == 0.0


def test_the_flag_is_put_back_after_an_error(two_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), flush_subnormals():
        1 / 0
    assert share_of_zeros() == 0.0
