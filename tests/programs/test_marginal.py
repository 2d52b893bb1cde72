"""Discrete latents summed out: exact evidence, and every loss and estimate on what is left."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.param_store import local_param_scope
from pyrovae.heads import AutoregressiveBernoulliHead, BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Mixing

PARALLEL = {"enumerate": "parallel"}


def bits(num: int, size: int) -> Tensor:
    return (torch.rand(num, size) < 0.5).double()


def bernoulli_mixture() -> tuple[pv.Model, Callable[[Tensor], Tensor]]:
    """The program, and log p(x) by formula."""
    parts, mixing = nn.Embedding(3, 4).double(), Mixing(3).double()
    nn.init.normal_(mixing.logits)
    model = pv.Model(k=pv.Node(mixing, infer=PARALLEL), x=pv.Node(BernoulliHead(parts), "k"))

    def log_px(x: Tensor) -> Tensor:
        likelihood = dist.Bernoulli(logits=parts.weight.unsqueeze(1)).log_prob(x).sum(-1)
        return (mixing.logits.log_softmax(0).unsqueeze(1) + likelihood).logsumexp(0)

    return model, log_px


class Component(nn.Module):
    """p(z | k) = N(z; mu_k, I), and the logits of x given z and k."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.shift, self.net = nn.Embedding(3, 2), nn.Embedding(3, 4), MLP(2, [8], 4)

    def forward(self, k: Tensor) -> dist.Normal:
        return dist.Normal(self.loc(k), 1.0).to_event(1)


def deep_mixture() -> tuple[pv.Model, pv.Guide, Component]:
    """k -> z, (z, k) -> x; the guide infers z alone."""
    part = Component().double()

    class Decoder(nn.Module):
        def forward(self, z: Tensor, k: Tensor) -> dist.Bernoulli:
            return dist.Bernoulli(logits=part.net(z) + part.shift(k)).to_event(1)

    model = pv.Model(
        k=pv.Node(Mixing(3).double(), infer=PARALLEL),
        z=pv.Node(part, "k"),
        x=pv.Node(Decoder(), "z", "k"),
    )
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)).double(), "x")), part


def hmm(steps: int, states: int = 3) -> tuple[Callable, Callable[[Tensor, Tensor], Tensor]]:
    """A hidden Markov model with masked tails, and the forward algorithm."""
    first, loc = torch.randn(states).softmax(-1).double(), torch.randn(states).double()
    move = torch.randn(states, states).softmax(-1).double()

    def model(y: Tensor, length: Tensor) -> None:
        with pyro.plate("data", len(y)):
            s = torch.zeros((), dtype=torch.long)
            for t in pyro.markov(range(steps)):
                with pyro.poutine.mask(mask=t < length):
                    s = pyro.sample(
                        f"s{t}", dist.Categorical(move[s] if t else first), infer=PARALLEL
                    )
                    pyro.sample(f"y{t}", dist.Normal(loc[s], 1.0), obs=y[:, t])

    def forward(y: Tensor, length: Tensor) -> Tensor:
        alpha = first.log().expand(len(y), -1)
        for t in range(steps):
            if t:
                ahead = (alpha.unsqueeze(2) + move.log()).logsumexp(1)
                alpha = torch.where((t < length).unsqueeze(1), ahead, alpha)
            score = dist.Normal(loc, 1.0).log_prob(y[:, t : t + 1])
            alpha = alpha + torch.where((t < length).unsqueeze(1), score, 0.0)
        return alpha.logsumexp(1)

    return model, forward


def test_a_mixture_is_exact_by_the_same_call() -> None:
    model, log_px = bernoulli_mixture()
    x = bits(300, 4)
    evidence = pv.log_evidence(model, None, [{"x": x[:200]}, {"x": x[200:]}])
    torch.testing.assert_close(evidence.log_px, log_px(x).detach(), atol=1e-12, rtol=0)
    assert (evidence.se == 0).all() and evidence.num_particles == 0
    assert str(evidence).endswith("N = 300 data; exact)")


def test_an_hmm_is_the_forward_algorithm() -> None:
    model, forward = hmm(12)
    batch = {"y": torch.randn(7, 12).double(), "length": torch.randint(1, 13, (7,))}
    evidence = pv.log_evidence(model, None, batch)
    torch.testing.assert_close(evidence.log_px, forward(**batch), atol=1e-8, rtol=0)


def test_particles_see_sums_of_their_own() -> None:
    model, guide, part = deep_mixture()
    x = bits(5, 4)
    torch.manual_seed(1)
    ours = pv.log_weights(pv.Marginal(model), guide, {"x": x}, 6)
    torch.manual_seed(1)
    fn = guide.nodes["z"].conditional(x)
    z = fn.rsample((6,))
    terms = [
        model.nodes["k"].conditional.logits.log_softmax(0)[k]
        + part(torch.tensor(k)).log_prob(z)
        + dist.Bernoulli(logits=part.net(z) + part.shift.weight[k]).log_prob(x).sum(-1)
        for k in range(3)
    ]
    exact = torch.stack(terms).logsumexp(0) - fn.log_prob(z)
    torch.testing.assert_close(ours, exact, atol=1e-12, rtol=0)


def test_evidence_sums_out_what_the_guide_leaves() -> None:
    """Importance sampling over z alone agrees with a fine grid over z."""
    model, _, part = deep_mixture()
    x = bits(20, 4)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 2.5).to_event(1))

    torch.manual_seed(0)
    ours = pv.log_evidence(model, guide, {"x": x}, num_particles=4000)
    line = torch.linspace(-8, 8, 161, dtype=torch.double)
    z = torch.cartesian_prod(line, line)
    cell = 2 * (line[1] - line[0]).log()
    terms = [
        model.nodes["k"].conditional.logits.log_softmax(0)[k]
        + part(torch.tensor(k)).log_prob(z).unsqueeze(1)
        + dist.Bernoulli(logits=(part.net(z) + part.shift.weight[k]).unsqueeze(1))
        .log_prob(x)
        .sum(-1)
        for k in range(3)
    ]
    exact = torch.stack(terms).logsumexp((0, 1)) + cell
    error = (ours.log_px - exact).mean().item()
    assert abs(error) < 5 * ours.monte_carlo_se and ours.monte_carlo_se < 0.02


def test_losses_on_a_marginal_are_those_of_enumeration() -> None:
    model, log_px = bernoulli_mixture()
    x = bits(6, 4)
    ours = pv.ElboLoss(pv.Marginal(model))(x=x)
    theirs = pv.ElboLoss(model, lambda x: None, elbo=TraceEnum_ELBO())(x=x)
    torch.testing.assert_close(ours, -log_px(x).mean())
    torch.testing.assert_close(ours, theirs)
    weights = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights)
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_marginal_trains_and_is_captured(compile: str) -> None:
    model, guide, _ = deep_mixture()
    data = [{"x": bits(50, 4)}]
    torch.manual_seed(0)
    history = pv.fit(
        pv.IwaeLoss(pv.Marginal(model), guide, num_particles=3, gradient="dreg"),
        data,
        epochs=20,
        lr=0.05,
        compile=compile,
    )
    assert history[-1]["loss"] < history[0]["loss"] - 0.1


@pytest.mark.parametrize("density", ["autoregressive", "flow"])
def test_models_without_latents_are_scored_and_trained_by_the_same_calls(density: str) -> None:
    if density == "flow":
        model, x = pv.Model(x=zuko.flows.NSF(2, hidden_features=(8,))), torch.randn(40, 2)
        exact = model.nodes["x"].conditional().log_prob
    else:
        head = AutoregressiveBernoulliHead(features=4, context=0, hidden=[16])
        model, x = pv.Model(x=head), (torch.rand(40, 4) < 0.2).float()
        exact = head().log_prob
    evidence = pv.log_evidence(model, None, {"x": x})
    torch.testing.assert_close(evidence.log_px, exact(x).double().detach())
    history = pv.fit(pv.ElboLoss(model), [{"x": x}], epochs=30, lr=0.01)
    assert history[-1]["elbo"] > evidence.mean + 0.05


def test_nested_plates_within_a_datum() -> None:
    """A topic a document, a word model a topic: the plate of words lies at dim -2."""
    words = torch.randn(3, 5).softmax(-1).double()

    def model(w: Tensor) -> None:
        with pyro.plate("data", len(w), dim=-1):
            topic = pyro.sample("topic", dist.Categorical(torch.ones(3).double()), infer=PARALLEL)
            with pyro.plate("words", w.shape[1], dim=-2):
                pyro.sample("w", dist.Categorical(words[topic]), obs=w.T)

    w = torch.randint(5, (6, 7))
    exact = words.log()[:, w].sum(-1).logsumexp(0) - torch.tensor(3.0).log()
    torch.testing.assert_close(pv.log_evidence(model, None, {"w": w}).log_px, exact)


def test_a_prior_for_each_datum_and_one_datum_alone() -> None:
    logits, loc = torch.randn(4, 3).double(), torch.randn(3).double()

    def model(x: Tensor, c: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=logits[c]), infer=PARALLEL)
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)

    x, c = torch.randn(9).double(), torch.randint(4, (9,))
    joint = logits[c].log_softmax(-1) + dist.Normal(loc, 1.0).log_prob(x.unsqueeze(1))
    for rows in (slice(None), slice(3, 4)):
        ours = pv.log_evidence(model, None, {"x": x[rows], "c": c[rows]})
        torch.testing.assert_close(ours.log_px, joint.logsumexp(1)[rows])


def test_latents_that_nobody_infers_are_refused() -> None:
    """Pyro's Trace_ELBO draws them from the prior, in silence where validation is off."""
    model, _ = bernoulli_mixture()
    with (
        pyro.validation_enabled(False),
        pytest.raises(pv.PairError, match=r"\['k'\] of the model are not in the guide.*Marginal"),
    ):
        pv.ElboLoss(model)(x=bits(3, 4))


def test_a_guide_may_not_sample_what_is_summed_out() -> None:
    model, _ = bernoulli_mixture()

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(torch.ones(3)))

    with pytest.raises(pv.PairError, match="the guide samples it too"):
        pv.ElboLoss(pv.Marginal(model), guide)(x=bits(3, 4))


def test_a_marginal_does_not_draw_what_depends_on_the_sum() -> None:
    model, _ = bernoulli_mixture()
    with local_param_scope():
        with pytest.raises(pv.PairError, match="'x' depends on a latent that is summed out"):
            pv.Marginal(model)(num=3)
        assert model(num=3)["x"].shape == (3, 4)


def test_a_scale_within_the_sum_is_refused() -> None:
    model, _ = bernoulli_mixture()
    scaled = pv.Marginal(pyro.poutine.scale(model, scale=0.5))
    with pytest.raises(pv.PairError, match="has no place within the sum"):
        pv.ElboLoss(scaled)(x=bits(3, 4))
    outside, x = pyro.poutine.scale(pv.Marginal(model), scale=0.5), bits(3, 4)
    torch.testing.assert_close(pv.ElboLoss(outside)(x=x) * 2, pv.ElboLoss(pv.Marginal(model))(x=x))


def test_values_shared_by_all_data_are_refused() -> None:
    def model(x: Tensor) -> None:
        k = pyro.sample("k", dist.Bernoulli(0.5), infer=PARALLEL)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(k, 1.0), obs=x)

    with pytest.raises(pv.PairError, match="'k' is enumerated outside plate 'data'"):
        pv.ElboLoss(pv.Marginal(model))(x=torch.randn(3))
