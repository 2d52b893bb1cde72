"""Models on which summing out once gave wrong numbers, or failed: against sums by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence import annealed_importance

E = {"enumerate": "parallel"}
PI, MU = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([-1.0, 0.0, 2.0]).double()
X = torch.tensor([0.3, -1.0, 2.0, 0.7]).double()
EXACT = (PI.log() + dist.Normal(MU, 1.0).log_prob(X.unsqueeze(1))).logsumexp(1)


def loss_is(model: object, exact: Tensor, **batch: Tensor) -> None:
    batch = batch or {"x": X}
    torch.testing.assert_close(-pv.ElboLoss(pv.Marginal(model))(**batch), exact.mean())
    torch.testing.assert_close(pv.log_evidence(model, None, batch).log_px, exact)


def test_a_mask_that_depends_on_the_sum_lies_within_it() -> None:
    """One of two likelihoods counts, by a switch."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3), infer=E)
            with poutine.mask(mask=k == 1):
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
            with poutine.mask(mask=k == 0):
                pyro.sample("y", dist.Normal(1.0, 1.0), obs=x)

    parts = [dist.Normal(m, 1.0).log_prob(X).exp() for m in (0.0, 1.0)]
    loss_is(model, (0.3 * parts[0] + 0.7 * parts[1]).log())


def test_a_scale_that_depends_on_the_sum_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            with poutine.scale(scale=torch.tensor([1.0, 2.0, 3.0])[k]):
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(pv.PairError, match="has no place within the sum"):
        pv.ElboLoss(pv.Marginal(model))(x=X)


def test_deterministic_values_carry_nothing() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            loc = pyro.deterministic("loc", MU[k], event_dim=0)
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    loss_is(model, EXACT)


def test_latents_to_be_summed_one_by_one_are_not_drawn_in_silence() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer={"enumerate": "sequential"})
            pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)

    with pytest.raises(pv.PairError, match=r"the guide misses latent sites \['k'\]"):
        pv.log_evidence(model, None, {"x": X})


def test_plates_where_the_summed_values_go_are_refused() -> None:
    """With as many states as rows they would be mistaken for one another."""
    x = torch.randn(3, 2, 4).double()

    def model(x: Tensor) -> None:
        with pyro.plate("data", 4, dim=-1):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            with pyro.plate("a", 2, dim=-2), pyro.plate("b", 3, dim=-3):
                pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)

    def run(model: object) -> Tensor:
        trace = poutine.trace(model).get_trace(x=x)
        trace.compute_log_prob()
        return trace.nodes["x"]["log_prob"]

    with pytest.raises(pv.PairError, match=r"'b' at dim -3.*max_plate_nesting=3"):
        run(pv.Marginal(model))
    exact = PI.log() + dist.Normal(MU, 1.0).log_prob(x.unsqueeze(-1)).sum((0, 1))
    torch.testing.assert_close(run(pv.Marginal(model, max_plate_nesting=3)), exact.logsumexp(1))


def test_particles_where_the_summed_values_go_are_refused() -> None:
    model, guide = both()
    elbo = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2)
    with pyro.validation_enabled(False), pytest.raises(pv.PairError, match="at dim -3"):
        pv.ElboLoss(pv.Marginal(model), guide, elbo=elbo)(x=X)


def both() -> tuple[object, object]:
    """z and x both depend on k; the guide of z."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            z = pyro.sample("z", dist.Normal(MU[k], 1.0))
            pyro.sample("x", dist.Normal(z + MU[k], 0.5), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * x, torch.full((), 0.74).double()))

    return model, guide


def test_the_kl_is_that_of_the_summed_prior() -> None:
    """log p(z) and log p(x | z) apart, so that beta and free bits weigh the KL and nothing else."""
    model, guide = both()
    loss = pv.ElboLoss(pv.Marginal(model), guide)
    found = []
    for seed in range(300):
        torch.manual_seed(seed)
        loss(x=X)
        found.append(loss.terms.kl["z"].item())
    grid = torch.linspace(-12, 12, 4001).double().unsqueeze(1)
    q = dist.Normal(0.5 * X, 0.74).log_prob(grid)
    p = (PI.log() + dist.Normal(MU, 1.0).log_prob(grid)).logsumexp(1, keepdim=True)
    exact = ((q.exp() * (q - p)).sum(0) * 24 / 4000).mean()
    values = torch.tensor(found)
    assert abs(values.mean() - exact) < 5 * values.std() / 300**0.5 and exact > 0


def test_impossible_transitions_have_gradients() -> None:
    weights = nn.Parameter(torch.randn(3, 3).double())
    forbidden = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]]).bool()
    y = torch.randn(3, 4).double()
    start = torch.tensor([0.0, -torch.inf, -torch.inf]).double()

    def model(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            k, moves = (
                torch.zeros((), dtype=torch.long),
                weights.masked_fill(forbidden, -torch.inf),
            )
            for t in pyro.markov(range(4)):
                logits = moves[k] if t else start
                k = pyro.sample(f"k{t}", dist.Categorical(logits=logits), infer=E)
                pyro.sample(f"y{t}", dist.Normal(MU[k], 1.0), obs=y[:, t])

    moves = weights.masked_fill(forbidden, -1e30).log_softmax(1)
    alpha = torch.tensor([0.0, -1e30, -1e30]).double() + dist.Normal(MU, 1.0).log_prob(y[:, :1])
    for t in range(1, 4):
        alpha = (alpha.unsqueeze(2) + moves).logsumexp(1) + dist.Normal(MU, 1.0).log_prob(
            y[:, t : t + 1]
        )
    exact = -alpha.logsumexp(1).mean()
    ours = pv.ElboLoss(pv.Marginal(model))(y=y)
    torch.testing.assert_close(ours, exact)
    (slope,), (theirs,) = (torch.autograd.grad(value, [weights]) for value in (ours, exact))
    torch.testing.assert_close(slope, theirs)


def test_one_state_two_inner_sites_and_a_factor() -> None:
    def one_state(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(1).double()), infer=E)
            pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)

    loss_is(one_state, dist.Normal(MU[0], 1.0).log_prob(X))

    def inner(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            with pyro.plate("rows", 2, dim=-2):
                pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x.T)
                pyro.sample("y", dist.Normal(-MU[k], 1.0), obs=y.T)

    x, y = torch.randn(4, 2).double(), torch.randn(4, 2).double()
    parts = dist.Normal(MU, 1.0).log_prob(x.unsqueeze(2)) + dist.Normal(-MU, 1.0).log_prob(
        y.unsqueeze(2)
    )
    exact = (PI.log() + parts.sum(1)).logsumexp(1)
    torch.testing.assert_close(pv.log_evidence(inner, None, {"x": x, "y": y}).log_px, exact)


def test_a_guide_of_one_of_two_marked_sites_keeps_it() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            j = pyro.sample("j", dist.Categorical(PI), infer=E)
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            pyro.sample("x", dist.Normal(MU[j] + MU[k], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("j", dist.Categorical(torch.ones(3).double()))

    torch.manual_seed(0)
    ours = pv.log_evidence(model, guide, {"x": X}, num_particles=4000)
    exact = pv.log_evidence(model, None, {"x": X})
    assert ((ours.log_px - exact.log_px).abs() < 5 * ours.se).all()


def test_a_marginal_is_annealed_over_what_is_left() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PI), infer=E)
            z = pyro.sample("z", dist.Normal(torch.zeros(()).double(), 1.0))
            pyro.sample("x", dist.Normal(z + MU[k], 0.5), obs=x)

    torch.manual_seed(0)
    ours = annealed_importance(
        pv.Marginal(model), {"x": X}, num_chains=40, num_steps=40, num_leapfrog=3
    )
    parts = dist.Normal(MU, (1.0 + 0.25) ** 0.5).log_prob(X.unsqueeze(1))
    exact = (PI.log() + parts).logsumexp(1)
    assert ((ours.log_px - exact).abs() < 5 * ours.se).all()
