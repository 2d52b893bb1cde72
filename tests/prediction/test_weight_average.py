"""Predictions from draws of weights against exact ones, and what they may look at."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import assert_mean, bayesian_regression
from torch import Tensor, nn
from torch.distributions import SigmoidTransform

import pyrovae as pv
from pyrovae.bnn.guides import (
    Empirical,
    Ensemble,
    JointNormal,
    MCDropout,
    MeanField,
    PointEstimate,
)
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    FixedScaleNormalHead,
    NormalHead,
    SharedVarianceHead,
    StudentTHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior, StandardNormal


def exact_pair(num_data: int = 12) -> tuple:
    exact = bayesian_regression(num_data)
    return exact, JointNormal(exact.net).set(
        exact.mean, scale_tril=torch.linalg.cholesky(exact.covariance)
    )


def test_log_predictive_is_the_exact_one() -> None:
    exact, guide = exact_pair()
    new = {"x": torch.randn(7, 2), "y": torch.randn(7, 1)}
    expected = exact.predictive(new["x"]).log_prob(new["y"].squeeze(-1))
    runs = torch.stack(
        [pv.log_predictive(exact.model, guide, new, num_samples=500) for _ in range(40)]
    )
    assert_mean(runs.exp(), expected.exp())  # the density is unbiased, its log is not
    assert ((runs.exp().mean(0).log() - expected).abs() < 0.05).all()


def test_of_a_point_it_is_the_likelihood() -> None:
    exact = bayesian_regression()
    guide = PointEstimate(exact.net)
    mean = exact.batch["x"] @ guide.loc[0].T + guide.loc[1]
    expected = dist.Normal(mean, exact.noise).log_prob(exact.batch["y"]).squeeze(-1)
    for num_samples in (1, 3, 1000):
        got = pv.log_predictive(exact.model, guide, exact.batch, num_samples=num_samples)
        torch.testing.assert_close(got, expected.detach())
    moments = pv.predict_moments(exact.model, guide, exact.batch, num_samples=5)
    assert moments.epistemic.abs().max() < 1e-12
    torch.testing.assert_close(moments.aleatoric, torch.full((12, 1), exact.noise**2))


@pytest.mark.parametrize("num_samples", [3, 100])
def test_a_point_has_no_mutual_information(num_samples: int) -> None:
    net = pv.Bayesian(MLP(5, [20], 4))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    moments = pv.predict_moments(
        model, PointEstimate(net), {"x": torch.randn(90, 5)}, num_samples=num_samples
    )
    assert (moments.epistemic == 0).all()
    torch.testing.assert_close(moments.total, moments.aleatoric)
    narrow = MeanField(net, init_scale=1e-3)
    moments = pv.predict_moments(model, narrow, {"x": torch.randn(90, 5)}, num_samples=num_samples)
    assert (moments.epistemic > 0).all()


def test_moments_are_the_exact_ones() -> None:
    exact, guide = exact_pair()
    new, runs = {"x": torch.randn(5, 2)}, 50
    moments = [pv.predict_moments(exact.model, guide, new, num_samples=400) for _ in range(runs)]
    fn = exact.predictive(new["x"])
    assert_mean(torch.stack([part.mean for part in moments]), fn.mean.unsqueeze(-1))
    epistemic = (fn.variance - exact.noise**2).unsqueeze(-1)
    assert_mean(
        torch.stack([part.epistemic for part in moments]), epistemic * 399 / 400
    )  # divided by S, not S - 1
    for part in moments:
        torch.testing.assert_close(part.aleatoric, torch.full((5, 1), exact.noise**2))
        torch.testing.assert_close(part.total, part.aleatoric + part.epistemic)


@pytest.mark.parametrize("num_data", [1, 5000])
def test_parts_and_batches_share_their_draws(num_data: int) -> None:
    """One set of draws serves all data, however they come."""
    exact, guide = exact_pair()
    rows = {"x": torch.randn(1, 2).expand(num_data, 2), "y": torch.zeros(num_data, 1)}
    got = pv.log_predictive(exact.model, guide, rows, num_samples=6)
    torch.testing.assert_close(got, got[:1].expand(num_data))
    batches = [{name: value[:1] for name, value in rows.items()}] * 3
    pyro.set_rng_seed(2)
    several = pv.log_predictive(exact.model, guide, batches, num_samples=6)
    pyro.set_rng_seed(2)
    torch.testing.assert_close(
        several, pv.log_predictive(exact.model, guide, batches[0], num_samples=6).expand(3)
    )
    moments = pv.predict_moments(exact.model, guide, batches, num_samples=6)
    torch.testing.assert_close(moments.mean, moments.mean[:1].expand(3, 1))


def test_draws_are_used_each_alike() -> None:
    exact = bayesian_regression()
    flat = torch.randn(4, 3)
    guide = Empirical(exact.values(flat))
    rows = torch.cat([exact.batch["x"], torch.ones(12, 1)], 1)
    each = dist.Normal(rows @ flat.T, exact.noise).log_prob(exact.batch["y"])
    for num_samples in (4, 8, 4000):
        got = pv.log_predictive(exact.model, guide, exact.batch, num_samples=num_samples)
        torch.testing.assert_close(got, each.logsumexp(1) - torch.log(torch.tensor(4.0)))
        moments = pv.predict_moments(exact.model, guide, exact.batch, num_samples=num_samples)
        torch.testing.assert_close(moments.mean.squeeze(-1), (rows @ flat.T).mean(1))
        torch.testing.assert_close(
            moments.epistemic.squeeze(-1), (rows @ flat.T).var(1, correction=0)
        )
    two = pv.predict_moments(
        exact.model, guide, exact.batch, num_samples=2
    )  # fewer are spread over the chain
    torch.testing.assert_close(two.mean.squeeze(-1), (rows @ flat[[0, 2]].T).mean(1))
    one = torch.stack([guide()["w.bias"] for _ in range(400)])
    shares = torch.stack([(one == value).double().mean() for value in flat[:, 2]])
    assert (shares - 0.25).abs().max() < 5 * (0.1875 / 400) ** 0.5
    with pytest.raises(ValueError, match="expected one number S"):
        Empirical({"a": torch.zeros(2, 1), "b": torch.zeros(3, 1)})


def test_an_ensemble_is_its_members() -> None:
    nets = [MLP(4, [3], 3) for _ in range(3)]
    net = pv.Bayesian(MLP(4, [3], 3))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    guide, x = Ensemble(net, nets), torch.randn(5, 4)
    moments = pv.predict_moments(model, guide, {"x": x}, num_samples=3)
    probs = torch.stack([member(x).softmax(-1) for member in nets]).detach()
    entropy = -(probs * probs.log()).sum(-1).mean(0)
    torch.testing.assert_close(moments.mean, probs.mean(0))
    torch.testing.assert_close(moments.aleatoric, entropy)
    torch.testing.assert_close(moments.total, -(probs.mean(0) * probs.mean(0).log()).sum(-1))
    assert (moments.epistemic >= 0).all()
    nested = nn.ModuleDict(
        {"0": nn.Linear(2, 2), "a": nn.ModuleDict({"0": nn.Linear(2, 2)})}
    )  # "a.0.bias" ends in "0.bias"
    values = Ensemble(pv.Bayesian(nested), [nested]).samples()
    assert all(
        torch.equal(values[f"w.{name}"][0], parameter)
        for name, parameter in nested.named_parameters()
    )


def test_classes_and_bits() -> None:
    net, x = pv.Bayesian(MLP(3, [4], 2)), torch.randn(6, 3)
    guide = MeanField(net, init_scale=2.0)
    classes = pv.predict_moments(
        pv.Model(y=pv.Node(CategoricalHead(net), "x")), guide, {"x": x}, num_samples=50
    )
    assert classes.mean.shape == (6, 2) and classes.aleatoric.shape == classes.epistemic.shape == (
        6,
    )
    torch.testing.assert_close(classes.mean.sum(-1), torch.ones(6))
    assert (classes.epistemic > 0).all() and (
        classes.total <= torch.log(torch.tensor(2.0)) + 1e-12
    ).all()
    bits = pv.predict_moments(
        pv.Model(y=pv.Node(BernoulliHead(net), "x")), guide, {"x": x}, num_samples=50
    )
    assert bits.epistemic.shape == (6, 2) and (bits.epistemic > 0).all()
    assert bits.aleatoric.shape == (6, 2) and bits.mean.shape == (6, 2, 2)
    torch.testing.assert_close(bits.total, -torch.xlogy(bits.mean, bits.mean).sum(-1))


def test_two_targets_and_one_that_is_masked() -> None:
    net = pv.Bayesian(nn.Linear(2, 1))
    head = FixedScaleNormalHead(net, scale=0.5)

    def model(x: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> None:
        with net.drawn(), pyro.plate("data", len(x), dim=-1):
            pyro.sample("a", head(x), obs=a)
            with pyro.poutine.mask(mask=torch.tensor([True, False, True])):
                pyro.sample("b", head(x), obs=b)

    guide, x = PointEstimate(net), torch.randn(3, 2)
    a, b = torch.randn(3, 1), torch.randn(3, 1)
    first, second = (
        dist.Normal(net.net(x).detach(), 0.5).log_prob(value).squeeze(-1) for value in (a, b)
    )
    got = pv.log_predictive(model, guide, {"x": x, "a": a, "b": b}, num_samples=2)
    torch.testing.assert_close(got, first + second * torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(
        pv.log_predictive(model, guide, {"x": x, "a": a}, num_samples=2), first
    )
    with pytest.raises(
        pv.PairError, match=r"expected one of the model's sites in plate 'data': \['a', 'b'\]"
    ):
        pv.predict_moments(model, guide, {"x": x}, num_samples=2)
    assert pv.predict_moments(model, guide, {"x": x}, num_samples=2, site="b").mean.shape == (3, 1)


def test_targets_are_not_looked_at() -> None:
    exact = bayesian_regression()
    inner = MeanField(exact.net)

    def guide(x: Tensor, **others: Tensor) -> None:
        assert not others, "the guide saw the targets"
        inner()

    pv.log_predictive(exact.model, guide, exact.batch, num_samples=3)
    pyro.set_rng_seed(1)
    first = pv.predict_moments(exact.model, guide, exact.batch, num_samples=3)
    pyro.set_rng_seed(1)
    second = pv.predict_moments(
        exact.model, guide, {**exact.batch, "y": exact.batch["y"] + 1e6}, num_samples=3
    )
    assert torch.equal(first.mean, second.mean) and torch.equal(first.epistemic, second.epistemic)


def test_what_is_fixed_outside_the_plate_stays_fixed() -> None:
    net = pv.Bayesian(nn.Linear(2, 1))
    model = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(net), "x", "v")
    )
    fixed, guide = pyro.condition(model, data={"v": torch.tensor(0.01)}), PointEstimate(net)
    batch = {"x": torch.randn(3, 2), "y": torch.randn(3, 1)}
    moments = pv.predict_moments(fixed, guide, batch, num_samples=4)
    torch.testing.assert_close(moments.aleatoric, torch.full((3, 1), 0.01))
    draws = pv.predict(fixed, guide, batch, num_samples=400)["y"]
    assert not torch.equal(draws[0], batch["y"]) and (draws.var(0) < 0.02).all()
    replicates = pv.posterior_draws(fixed, guide, batch, num_samples=400)["posterior_predictive"]
    assert (replicates["y"].var(0) < 0.02).all()


def test_flags_buffers_and_gradients() -> None:
    net = pv.Bayesian(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    guide, batch = PointEstimate(net), {"x": torch.randn(5, 3), "y": torch.zeros(5).long()}
    model.train(), guide.eval()
    values = [pv.log_predictive(model, guide, batch, num_samples=4) for _ in range(2)]
    assert torch.equal(*values)  # no dropout
    assert model.training and net.net[1].training and not guide.training
    assert not values[0].requires_grad and torch.is_grad_enabled()
    state = torch.get_rng_state()
    pv.log_predictive(model, MeanField(net), batch, num_samples=4)
    assert not torch.equal(state, torch.get_rng_state())  # draws move the generator on


def test_refusals() -> None:
    exact = bayesian_regression()
    guide = MeanField(exact.net)
    with pytest.raises(ValueError, match="num_samples=0"):
        pv.log_predictive(exact.model, guide, exact.batch, num_samples=0)
    with pytest.raises(pv.PairError, match="observes nothing"):
        pv.log_predictive(exact.model, guide, {"x": exact.batch["x"]}, num_samples=2)
    with pytest.raises(pv.PairError, match="expected one of the model's sites"):
        pv.predict_moments(exact.model, guide, exact.batch, num_samples=2, site="z")
    vae = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [3], 4)), "z"))
    encoder, batch = pv.Guide(z=pv.Node(NormalHead(MLP(4, [3], 4)), "x")), {"x": torch.ones(3, 4)}
    for run in (pv.log_predictive, pv.predict_moments):
        with pytest.raises(pv.PairError, match="one for each datum"):
            run(vae, encoder, batch, num_samples=2)

    class LogisticNormalHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = exact.net

        def forward(self, x: Tensor) -> dist.Distribution:
            return dist.TransformedDistribution(
                dist.Normal(self.net(x), 1.0), [SigmoidTransform()]
            ).to_event(1)

    with pytest.raises(pv.PairError, match="knows no mean and variance"):
        pv.predict_moments(
            pv.Model(y=pv.Node(LogisticNormalHead(), "x")),
            guide,
            {"x": exact.batch["x"]},
            num_samples=2,
        )


def test_a_guide_that_misses_a_latent_site_is_refused() -> None:
    """Its draws would come from the prior."""
    net = pv.Bayesian(nn.Linear(2, 1))
    model = pv.Model(
        variance=pv.Global(InverseGammaPrior(2.0, 1.0)),
        y=pv.Node(SharedVarianceHead(net), "x", "variance"),
    )
    batch = {"x": torch.randn(4, 2), "y": torch.randn(4, 1)}
    with pytest.raises(pv.PairError, match=r"no draws of .* latent sites \['variance'\]"):
        pv.log_predictive(model, MeanField(net), batch, num_samples=2)
    held = pyro.condition(model, data={"variance": torch.tensor(0.5)})
    assert pv.log_predictive(held, MeanField(net), batch, num_samples=2).shape == (4,)


def test_dropout_predicts_the_mixture_over_masks() -> None:
    net = pv.Bayesian(nn.Linear(2, 1, bias=False))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    guide, batch = MCDropout(net, rate=0.3), {"x": torch.randn(4, 2), "y": torch.randn(4, 1)}
    density = 0.0
    for mask, probability in (((1, 1), 0.49), ((1, 0), 0.21), ((0, 1), 0.21), ((0, 0), 0.09)):
        weight = guide.loc[0].detach() * torch.tensor(mask)
        density += probability * dist.Normal(batch["x"] @ weight.T, 0.5).log_prob(
            batch["y"]
        ).exp().squeeze(-1)
    runs = torch.stack(
        [pv.log_predictive(model, guide, batch, num_samples=500) for _ in range(30)]
    )
    assert_mean(runs.exp(), density)


def test_student_t_noise_has_its_variance() -> None:
    net = pv.Bayesian(MLP(2, [], 2))
    guide, x = PointEstimate(net), torch.randn(4, 2)
    head = StudentTHead(net, initial_df=5.0)
    moments = pv.predict_moments(pv.Model(y=pv.Node(head, "x")), guide, {"x": x}, num_samples=2)
    with pyro.poutine.block(), pyro.poutine.condition(data=guide.values()), net.drawn():
        fn = head(x)
    torch.testing.assert_close(moments.aleatoric, fn.variance.detach())
