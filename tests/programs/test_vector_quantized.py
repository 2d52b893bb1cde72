"""A vector-quantised VAE as a program: a bound without noise, below log p(x)."""

import itertools

import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.heads import AutoregressiveCategoricalHead, BernoulliHead
from pyrovae.losses import VectorQuantizedLoss
from pyrovae.nets import MLP, Codebook
from pyrovae.posteriors import VectorQuantized

CODES, SITES, FEATURES = 3, 2, 2


def program(
    pixels: int, *, codes: int = CODES, sites: int = SITES, hidden: int = 8
) -> tuple[pv.Model, pv.Guide, VectorQuantizedLoss]:
    book = Codebook(codes, FEATURES)
    decoder = MLP((sites, FEATURES), [hidden], pixels)
    encoder = VectorQuantized(MLP(pixels, [hidden], (sites, FEATURES)), book)
    likelihood = BernoulliHead(nn.Sequential(book, decoder))
    prior = AutoregressiveCategoricalHead(sites, codes, [16])
    model = pv.Model(c=prior, x=pv.Node(likelihood, "c"))
    loss = VectorQuantizedLoss(BernoulliHead(decoder), encoder)
    return model, pv.Guide(c=pv.Node(encoder, "x")), loss


def test_the_bound_lies_below_the_sum_over_all_codes() -> None:
    model, guide, _ = program(4)
    x = (torch.rand(20, 4) < 0.5).double()
    pv.check(model, guide, {"x": x})
    bound = pv.log_weights(model, guide, {"x": x}, 1)[0]
    grid = torch.tensor(list(itertools.product(range(CODES), repeat=SITES))).unsqueeze(1)
    prior, likelihood = model.nodes["c"].conditional(), model.nodes["x"].conditional
    exact = (prior.log_prob(grid) + likelihood(grid).log_prob(x)).logsumexp(0)
    assert (bound <= exact + 1e-12).all() and (bound > exact - 10).all()
    chosen = guide.nodes["c"].conditional(x)()
    torch.testing.assert_close(bound, prior.log_prob(chosen) + likelihood(chosen).log_prob(x))


def test_each_part_receives_its_gradient() -> None:
    """Straight through to the encoder, to the codebook by distance, to the decoder by likelihood."""
    _, _, loss = program(4)
    x = (torch.rand(20, 4) < 0.5).double()
    loss(x=x).backward()
    assert all(weight.grad is not None for weight in loss.parameters())
    book = loss.guide.codebook.vectors
    codes = loss.guide.codebook.nearest(loss.guide.net(x))
    z, rows = loss.guide.net(x).detach().flatten(0, 1), codes.flatten()
    expected = torch.zeros_like(book)
    expected.index_add_(0, rows, 2 * (book[rows] - z).detach() / len(x))
    torch.testing.assert_close(book.grad, expected)


def test_digits_are_coded_and_a_prior_of_the_codes_is_learned() -> None:
    torch.manual_seed(0)
    train, _, test = load_digits().batches("threshold", flatten=True)
    model, guide, loss = program(64, codes=16, sites=6, hidden=64)
    pv.fit(loss, train, epochs=15, lr=5e-3, compile="off")
    (batch,) = [{"x": test.data.tensors["x"].flatten(1).double()}]
    before = pv.log_weights(model, guide, batch, 1).mean()
    encoder = guide.nodes["c"].conditional
    x = train.data.tensors["x"].flatten(1).double()
    codes = encoder(x)().detach()
    prior = pv.Model(c=model.nodes["c"].conditional)
    pv.fit(pv.ElboLoss(prior), [{"c": codes}], epochs=80, lr=0.02, compile="off")
    after = pv.log_weights(model, guide, batch, 1).mean()
    assert after > before + 0.5 and after > -27.0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_codes=0"):
        Codebook(0, 2)
    with pytest.raises(ValueError, match="commitment=-1"):
        VectorQuantizedLoss(nn.Identity(), nn.Identity(), commitment=-1)
