"""SemiAmortized: a guide that is moved to each datum's own optimum, and leaves everything else
where it was."""

import copy

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    BernoulliHead,
    DeltaHead,
    FixedScaleNormalHead,
    FullRankNormalHead,
    MixtureNormalHead,
    NormalHead,
)
from pyrovae.nets import MLP, Batched, ConvEncoder
from pyrovae.posteriors import IAF
from pyrovae.priors import StandardNormal
from pyrovae.programs.semi_amortized import Refined, SemiAmortized

X = torch.eye(2, dtype=torch.float64)[torch.arange(20) % 2].repeat_interleave(2, dim=1)


def vae() -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))


def test_refining_reaches_the_posterior_where_the_family_holds_it() -> None:
    oracle = oracles.linear_gaussian()
    guide = pv.Guide(z=pv.Node(FullRankNormalHead(MLP(4, [8], 5), 2), "x"))
    refined = SemiAmortized(guide, oracle.model, steps=400, num_particles=20).for_batch(
        oracle.batch
    )
    elbo = pv.log_weights(oracle.model, refined, oracle.batch, 2000).mean(0)
    before = pv.log_weights(oracle.model, guide, oracle.batch, 2000).mean(0)
    assert (oracle.log_px - before > 0.5).all()
    # log p(x) - ELBO = KL(q || p), which vanishes at the posterior; what is left is the noise of
    # the last steps
    assert (oracle.log_px - elbo).abs().max() < 0.01


def test_more_steps_close_more_of_the_gap_that_amortising_leaves() -> None:
    oracle = oracles.linear_gaussian(num_data=40)
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    elbos = [
        pv.log_weights(
            oracle.model,
            SemiAmortized(guide, oracle.model, steps=steps, lr=0.1).for_batch(oracle.batch),
            oracle.batch,
            500,
        ).mean()
        for steps in (0, 10, 100)
    ]
    assert elbos[0] < elbos[1] < elbos[2] <= oracle.log_px.mean()


def test_no_steps_change_nothing() -> None:
    model, guide = vae()
    results = []
    for q in (guide, SemiAmortized(guide, model, steps=0).for_batch({"x": X})):
        torch.manual_seed(1)
        results.append(pv.log_weights(model, q, {"x": X}, 3))
    torch.testing.assert_close(*results)


def test_a_datum_is_refined_for_itself() -> None:
    model, _ = vae()
    guide = pv.Guide(
        z=pv.Node(DeltaHead(MLP(4, [8], 2)), "x")
    )  # without noise: together and alone must agree to rounding
    refine, x = SemiAmortized(guide, model, steps=50), torch.bernoulli(torch.full((4, 4), 0.5))
    together = refine.for_batch({"x": x})(x=x)["z"]
    alone = torch.cat([refine.for_batch({"x": row})(x=row)["z"] for row in x.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
    assert ((together - guide(x=x)["z"]).norm(dim=-1) > 0.05).all()


def test_noise_aside_a_datum_is_refined_for_itself() -> None:
    oracle = oracles.linear_gaussian(num_data=4)
    net = MLP(4, [8], 4)
    nn.init.zeros_(
        net.layers[-1].weight
    )  # every datum starts at the prior, from where it is not far
    guide = pv.Guide(z=pv.Node(NormalHead(net), "x"))
    refine = SemiAmortized(guide, oracle.model, steps=200, num_particles=20)
    x, best = oracle.batch["x"], []
    together = refine.for_batch({"x": x})
    alone = [refine.for_batch({"x": row}) for row in x.split(1)]
    for row, q in [(x, together), *zip(x.split(1), alone)]:
        best.append(pv.log_weights(oracle.model, q, {"x": row}, 4000).mean(0))
    # each is within the noise of its last steps and of 4000 draws of the optimum of the family,
    # which is one number a datum
    torch.testing.assert_close(best[0], torch.cat(best[1:]), atol=0.05, rtol=0)


def test_few_steps_do_no_harm_in_wide_nets() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [64], 4)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [256, 256], 4)), "x"))
    pv.fit(pv.ElboLoss(model, guide), [{"x": X}], epochs=150, lr=1e-2)
    before = pv.log_evidence(model, guide, {"x": X}, num_particles=2000)
    for steps in (1, 3, 30):
        refined = SemiAmortized(guide, model, steps=steps, num_particles=20)
        after = pv.log_evidence(model, refined, {"x": X}, num_particles=2000)
        error = after.elbo_se + before.elbo_se
        assert (after.elbo > before.elbo - 0.05 - 5 * error).all(), steps


def test_a_datum_that_steps_make_worse_stays_where_it_was() -> None:
    oracle = oracles.linear_gaussian(num_data=4)
    net = MLP(4, [], 5)
    weight, bias = (
        oracle.guide.nodes["z"].conditional.weights[0],
        oracle.guide.nodes["z"].conditional.bias,
    )
    tril = oracle.guide.nodes["z"].conditional.scale_tril
    with torch.no_grad():  # the posterior itself, which every step leaves
        net.layers[-1].weight.zero_()
        net.layers[-1].weight[:2], net.layers[-1].bias[:2] = weight, bias
        net.layers[-1].bias[2:4], net.layers[-1].bias[4] = (
            tril.diagonal().log(),
            tril[1, 0] * 2**0.5,
        )
    guide = pv.Guide(z=pv.Node(FullRankNormalHead(net, 2), "x"))
    refined = SemiAmortized(guide, oracle.model, steps=2, lr=2.0, num_particles=200).for_batch(
        oracle.batch
    )
    elbo = pv.log_weights(oracle.model, refined, oracle.batch, 10).mean(0)
    torch.testing.assert_close(elbo, oracle.log_px, atol=1e-10, rtol=0)


class Tokens(nn.Module):
    """Reads the two halves of x by one layer, then their average."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = nn.Linear(2, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.all(self.each(x.unflatten(-1, (2, 2))).tanh().mean(-2))


def test_layers_whose_rows_are_no_data_get_no_bias() -> None:
    model, _ = vae()
    guide, x = pv.Guide(z=pv.Node(NormalHead(Tokens()), "x")), X[:2]  # as many data as tokens
    refined = Refined(guide, {"x": x})
    first = pv.log_weights(model, refined, {"x": x}, 5)[:, 0].sum()
    for bias, gradient in zip(refined.biases, torch.autograd.grad(first, refined.biases)):
        assert bias.shape == (2, 4) and gradient[0].abs().sum() > 0 and not gradient[1].any()


class Flattened(nn.Module):
    """Images as vectors, by a layer that folds all leading dims."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Batched(
            nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)), 3
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


GUIDES = {
    "normal": (lambda: NormalHead(MLP(4, [8], 4)), (4,)),
    "mixture": (lambda: MixtureNormalHead(MLP(4, [8], 10), 2, 2), (4,)),
    "iaf": (lambda: IAF(NormalHead(MLP(4, [8], 4)), 2, 4, hidden=(8,)), (4,)),
    "batched": (lambda: NormalHead(Flattened()), (1, 2, 2)),
    "convolutional": (lambda: NormalHead(ConvEncoder((1, 2, 2), [3], 4)), (1, 2, 2)),
}


@pytest.mark.parametrize("name", GUIDES)
def test_every_guide_improves_and_nothing_else_moves(name: str) -> None:
    make, event = GUIDES[name]
    likelihood = FixedScaleNormalHead(MLP(2, [8], event), scale=0.3, event_dim=len(event))
    model = pv.Model(z=StandardNormal(2), x=pv.Node(likelihood, "z"))
    guide = pv.Guide(z=pv.Node(make(), "x"))
    model, guide, batch = model.double(), guide.double(), {"x": torch.randn(6, *event)}
    states = copy.deepcopy([program.state_dict() for program in (model, guide)])
    model.train()
    guide.eval()
    refined = SemiAmortized(guide, model, steps=40, lr=0.1).for_batch(batch)
    for state, program in zip(states, (model, guide)):
        assert all(torch.equal(value, program.state_dict()[key]) for key, value in state.items())
        assert all(p.grad is None and p.requires_grad for p in program.parameters())
    assert model.training and not guide.training
    before, after = (pv.log_weights(model, q, batch, 1000).mean(0) for q in (guide, refined))
    assert (after > before).all()
    assert all(not part._forward_hooks for part in guide.modules())


def test_it_is_a_guide_for_everything(tmp_path: object) -> None:
    model, guide = vae()
    refine = SemiAmortized(guide, model, steps=3)
    batch = {"x": X}
    pv.check(model, refine, batch)
    amortised = pv.log_evidence(model, guide, batch, num_particles=100)
    far = pv.log_evidence(model, SemiAmortized(guide, model, steps=60), batch, num_particles=100)
    assert far.elbo.mean() > amortised.elbo.mean() and far.ess.median() > amortised.ess.median()
    assert pv.predict(model, refine, batch, num_samples=5)["x"].shape == (5, 20, 4)
    history = pv.fit(
        pv.ElboLoss(model, refine),
        [{"x": X[:12]}, {"x": X[12:]}],
        valid=[batch],
        epochs=15,
        lr=1e-2,
    )
    assert history["valid_elbo"][-1] > history["valid_elbo"][0] + 0.05
    pv.fit(pv.IwaeLoss(model, refine, num_particles=3, gradient="dreg"), [batch], epochs=2)
    pv.save_weights(refine, tmp_path / "weights")
    assert set(refine.state_dict()) == {f"guide.{name}" for name in guide.state_dict()}, (
        "the model is no part of its guide"
    )


def test_training_moves_model_and_guide_alike() -> None:
    model, guide = vae()
    loss = pv.ElboLoss(model, SemiAmortized(guide, model, steps=3))
    loss(x=X).backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for p in (*model.parameters(), *guide.parameters())
    )


@pytest.mark.usefixtures("uses_param_store")
def test_pyro_s_own_particles_are_refused_where_they_leave_no_room() -> None:
    model, guide = vae()
    refine = SemiAmortized(guide, model, steps=2)
    vectorized = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    assert pv.ElboLoss(model, refine, elbo=vectorized)(x=X).isfinite()
    assert Trace_ELBO(num_particles=3)(model, refine)(x=X).isfinite()
    with pytest.raises(pv.PairError, match="vectorize_particles=False"):
        vectorized(model, refine)(x=X)


def test_what_cannot_be_refined_says_so() -> None:
    model, guide = vae()
    refined = SemiAmortized(guide, model, steps=1).for_batch({"x": X})
    with pytest.raises(pv.PairError, match="refined for a batch of 20 data, but got 5"):
        refined(x=X[:5])

    def fixed(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(pv.PairError, match="runs no linear layer"):
        Refined(fixed, {"x": X})
    with pytest.raises(ValueError, match="steps=-1"):
        SemiAmortized(guide, model, steps=-1)
