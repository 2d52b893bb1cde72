"""The normaliser of a restricted Boltzmann machine, and what it is worth."""

import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.evidence import annealed_log_z
from pyrovae.heads import BernoulliHead
from pyrovae.losses import ContrastiveDivergence
from pyrovae.nets import Constant
from pyrovae.priors import RestrictedBoltzmann


def machine(visible: int, hidden: int, spread: float) -> RestrictedBoltzmann:
    rbm = RestrictedBoltzmann(visible, hidden).double()
    for weight in rbm.parameters():
        nn.init.normal_(weight, std=spread)
    return rbm


def test_log_z_is_the_sum_over_all_bits() -> None:
    for visible, hidden in ((6, 3), (3, 6)):
        rbm = machine(visible, hidden, 1.0)
        v = (torch.arange(2**visible).unsqueeze(1) >> torch.arange(visible) & 1).double()
        torch.testing.assert_close(rbm.exact_log_z(), (-rbm.free_energy(v)).logsumexp(0))


@pytest.mark.parametrize("base", [False, True])
def test_annealing_finds_log_z_within_4_standard_errors(base: bool) -> None:
    torch.manual_seed(0)
    rbm = machine(30, 10, 0.5)
    logits = rbm.gibbs(torch.zeros(200, 30).double(), 50).mean(0).clamp(0.05, 0.95).logit()
    log_z, se = annealed_log_z(rbm, base=logits if base else None, num_chains=200, num_steps=1000)
    assert abs(log_z - rbm.exact_log_z()) < 4 * se and se < 0.1


def test_contrastive_divergence_learns_digits_beyond_independent_pixels() -> None:
    torch.manual_seed(0)
    train, _, test = load_digits().batches("threshold", flatten=True)
    rbm = RestrictedBoltzmann(64, 16)
    loss = ContrastiveDivergence(rbm, num_chains=100)
    pv.fit(loss, train, epochs=30, lr=0.01, compile="off")
    rbm.store_log_z(rbm.exact_log_z())
    learned = pv.log_evidence(pv.Model(x=rbm), None, test)
    independent = pv.Model(x=BernoulliHead(Constant(64)))
    pv.fit(pv.ElboLoss(independent), train, epochs=30, lr=0.1)
    assert learned.mean > pv.log_evidence(independent, None, test).mean + 1.5


def test_an_unknown_normaliser_is_no_number() -> None:
    rbm = RestrictedBoltzmann(4, 3)
    with pytest.raises(pv.PairError, match="non-finite"):
        pv.log_evidence(pv.Model(x=rbm), None, {"x": torch.ones(2, 4)})
    with pytest.raises(ValueError, match=r"a sum over 2\^30 states"):
        RestrictedBoltzmann(40, 30).exact_log_z()
