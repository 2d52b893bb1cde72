"""Losses side by side: each member is what it would be alone."""

from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MCDropout, MeanField, PointEstimate
from pyrovae.bnn.priors import hierarchical, normal
from pyrovae.heads import BernoulliHead, CategoricalHead, FixedScaleNormalHead
from pyrovae.nets import MLP, Standardized
from pyrovae.training.hooks import Checkpoint

OPTIMIZERS = {
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.05),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
}


def make(
    guide: Callable = PointEstimate, prior: Callable = normal(1.0), **settings: object
) -> pv.ElboLoss:
    net = pv.Bayesian(MLP(3, [4], 1), prior)
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    return pv.ElboLoss(model, guide(net), num_data=6, **settings)


def data(*lead: int) -> dict[str, Tensor]:
    return {"x": torch.randn(*lead, 6, 3), "y": torch.randn(*lead, 6, 1)}


def row(batch: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index] for name, value in batch.items()}


def step(loss: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> float:
    value = loss(**batch)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shared", [False, True])
def test_members_train_as_they_would_alone(optimizer: str, shared: bool) -> None:
    losses = [make() for _ in range(3)]
    stacked = pv.Stacked(losses, shared=shared)
    batches = [data() if shared else data(3) for _ in range(5)]
    together = OPTIMIZERS[optimizer](list(stacked.parameters()))
    values = [step(stacked, together, batch) for batch in batches]
    alone = []
    for index, loss in enumerate(losses):
        own = OPTIMIZERS[optimizer]([p for p in loss.parameters() if p.requires_grad])
        alone.append(
            [step(loss, own, batch if shared else row(batch, index)) for batch in batches]
        )
        for name, parameter in stacked.member(index).named_parameters():
            torch.testing.assert_close(parameter, loss.get_parameter(name), atol=1e-10, rtol=0)
    torch.testing.assert_close(torch.tensor(values), torch.tensor(alone).mean(0))
    read = stacked.values(lambda loss: loss.guide.values())
    for index, loss in enumerate(losses):
        for name, value in loss.guide.values().items():
            torch.testing.assert_close(read[name][index], value)


def test_through_fit_with_history_and_resume(tmp_path: Path) -> None:
    losses = [make(beta=pv.LinearWarmup(8)) for _ in range(2)]
    whole = data(2)
    batches = [
        {name: value[:, start:stop] for name, value in whole.items()}
        for start, stop in ((0, 4), (4, 6))
    ]

    def fresh() -> pv.Stacked:
        pyro.set_rng_seed(7)
        return pv.Stacked([make(beta=pv.LinearWarmup(8)) for _ in range(2)])

    stacked = pv.Stacked(losses)
    history = pv.fit(stacked, batches, epochs=3, lr=0.01)
    alone = [
        pv.fit(loss, [row(batch, index) for batch in batches], epochs=3, lr=0.01)
        for index, loss in enumerate(losses)
    ]
    for name in ("loss", "elbo", "kl"):
        torch.testing.assert_close(
            torch.tensor(history[name]), torch.tensor([rows[name] for rows in alone]).mean(0)
        )
    for index, loss in enumerate(losses):
        assert stacked.member(index).beta.step == loss.beta.step == 6
        for name, parameter in stacked.member(index).named_parameters():
            torch.testing.assert_close(parameter, loss.get_parameter(name), atol=1e-10, rtol=0)
    whole = fresh()
    pv.fit(whole, batches, epochs=4)
    pv.fit(fresh(), batches, epochs=2, hooks=[Checkpoint(tmp_path / "run")])
    resumed = fresh()
    pv.fit(resumed, batches, epochs=4, resume=tmp_path / "run")
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), resumed.state_dict().values())
    )


@pytest.mark.parametrize(
    "make_guide",
    [
        MeanField,
        JointNormal,
        lambda net: MCDropout(net, 0.5),
        lambda net: MCDropout(net, 0.5, learn_rate=True),
    ],
)
@pytest.mark.parametrize(
    ("elbo", "prior"),
    [
        (Trace_ELBO(), normal(1.0)),
        (Trace_ELBO(), hierarchical(point=False)),
        (Trace_ELBO(num_particles=3, vectorize_particles=True), hierarchical(point=False)),
        (TraceMeanField_ELBO(), normal(1.0)),
    ],
)
def test_members_have_noise_of_their_own(
    make_guide: Callable, elbo: Trace_ELBO, prior: Callable
) -> None:
    one = make(make_guide, prior, elbo=elbo)
    stacked = pv.Stacked([one] * 100, shared=True)
    batch = data()
    values = stacked.losses(batch).detach()
    assert len(values.unique()) > 25  # of 128 masks
    with torch.no_grad(), pyro.validation_enabled(False):
        alone = torch.stack([one(**batch) for _ in range(100)])
    error = ((values.var() + alone.var()) / 100).sqrt()
    assert (values.mean() - alone.mean()).abs() < 5 * error
    assert 0.5 < values.std() / alone.std() < 2


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(1.0, 2.0),
        dist.Laplace(1.0, 2.0),
        dist.Cauchy(1.0, 2.0),
        dist.Exponential(2.0),
        dist.HalfCauchy(2.0),
        dist.Gamma(2.0, 3.0),
        dist.InverseGamma(2.0, 3.0),
        dist.LogNormal(0.5, 1.0),
        dist.Uniform(1.0, 3.0),
        dist.Gumbel(1.0, 2.0),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_draws_of_members_follow_their_distribution(fn: dist.Distribution) -> None:
    """Quartiles of 2000 members' draws, which the guide takes for each at one place of the stack."""

    class Draw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return pyro.sample("z", fn).flatten()[0] + self.zero

    draws = pv.Stacked([Draw()] * 2000, shared=True).losses({"x": torch.zeros(1)}).detach()
    reference = fn.sample((20_000,)).reshape(20_000, -1)[:, 0]
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        share = (draws < reference.quantile(level)).double().mean()
        assert (share - level).abs() < 5 * (
            level * (1 - level) * (1 / 2000 + 1 / 20_000)
        ) ** 0.5, level


@pytest.mark.parametrize("handler", [pv.LocalReparameterization, pv.Flipout])
def test_local_noise_reaches_the_members(handler: type) -> None:
    net = pv.Bayesian(nn.Linear(2, 1), normal(1.0))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    loss = pv.ElboLoss(
        model, MeanField(net, init_scale=0.5), num_data=40, elbo=TraceMeanField_ELBO()
    )
    stacked, batch = (
        pv.Stacked([loss] * 200, shared=True),
        {"x": torch.randn(40, 2), "y": torch.randn(40, 1)},
    )
    plain = stacked.losses(batch)
    with handler():
        local = stacked.losses(batch)
    assert (local.mean() - plain.mean()).abs() < 5 * ((local.var() + plain.var()) / 200).sqrt()
    assert local.std() < 0.7 * plain.std()
    assert len(local.unique()) == 200


def test_members_keep_what_they_hold() -> None:
    """Buffers and starting points that differ, read by data transforms and by priors."""

    def build(shift: float) -> pv.ElboLoss:
        net = pv.Bayesian(
            Standardized(nn.Linear(3, 1), shift, 1.0),
            lambda site, tensor: dist.Normal(tensor, 1.0),
        )
        return pv.ElboLoss(
            pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x")),
            PointEstimate(net),
            num_data=6,
        )

    losses = [build(shift) for shift in (0.0, 1.0, 5.0)]
    stacked, batch = pv.Stacked(losses, shared=True), data()
    torch.testing.assert_close(
        stacked.losses(batch), torch.stack([loss(**batch) for loss in losses])
    )
    read = stacked.values(lambda loss: {"mean": loss.model.nodes["y"].conditional.net.net.mean})[
        "mean"
    ]
    assert read.tolist() == [0.0, 1.0, 5.0]
    assert [
        stacked.member(i).model.nodes["y"].conditional.net.net.mean.item() for i in range(3)
    ] == [0.0, 1.0, 5.0]


def test_wrong_stacks() -> None:
    losses = [make(), make()]
    with pytest.raises(ValueError, match="nothing to stack"):
        pv.Stacked([])
    with pytest.raises(ValueError, match=r"expected \(2, B, \*event\)"):
        pv.Stacked(losses)(**data(3))
    net = pv.Bayesian(MLP(3, [4], 1), normal(1.0))
    other = pv.ElboLoss(
        pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x")),
        PointEstimate(net),
        num_data=7,
    )
    with pytest.raises(ValueError, match="0 and 1 differ in num_data: 6 and 7"):
        pv.Stacked([make(), other])
    wide = pv.Bayesian(MLP(3, [5], 1), normal(1.0))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(wide, scale=0.5), "x"))
    with pytest.raises(ValueError, match="out_features: 4 and 5"):
        pv.Stacked([make(), pv.ElboLoss(model, PointEstimate(wide), num_data=6)])


def test_fit_checks_the_first_member() -> None:
    def build(num_data: int | None) -> pv.ElboLoss:
        net = pv.Bayesian(MLP(3, [4], 1))
        return pv.ElboLoss(
            pv.Model(y=pv.Node(BernoulliHead(net), "x")), PointEstimate(net), num_data=num_data
        )

    grey = {"x": torch.randn(2, 6, 3), "y": torch.full((2, 6, 1), 0.5)}
    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(pv.Stacked([build(6), build(6)]), grey, epochs=1)
    with pytest.raises(pv.PairError, match="num_data=5 is less than the 6 data"):
        pv.fit(pv.Stacked([build(5), build(5)]), {**grey, "y": torch.ones(2, 6, 1)}, epochs=1)
    with pytest.raises(pv.PairError, match="pass num_data=N"):
        pv.fit(pv.Stacked([build(None)]), {**grey, "y": torch.ones(2, 6, 1)}, epochs=1)


def test_it_runs_with_validation_on_and_classifies() -> None:
    def build() -> pv.ElboLoss:
        net = pv.Bayesian(MLP(3, [4], 3))
        return pv.ElboLoss(
            pv.Model(y=pv.Node(CategoricalHead(net), "x")), MeanField(net), num_data=6
        )

    losses = [build() for _ in range(3)]
    stacked, batch = pv.Stacked(losses), {"x": torch.randn(3, 6, 3), "y": torch.randint(3, (3, 6))}
    pv.fit(stacked, [batch] * 5, epochs=20, lr=0.05)
    member = stacked.member(1)
    assert (
        pv.log_predictive(member.model, member.guide, row(batch, 1), num_samples=20).mean() > -1.2
    )


def test_a_program_of_each_member_on_its_own_data() -> None:
    stacked, batch = pv.Stacked([make(MeanField) for _ in range(3)]), data(3)

    def read(loss: nn.Module, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = loss.guide()["w.layers.0.weight"]
        return {"x": rows["x"].sum(), "weight": weight, "noise": torch.randn(())}

    found = stacked.run(read, batch)
    torch.testing.assert_close(found["x"], batch["x"].sum((1, 2)))
    assert found["weight"].shape == (3, 4, 3) and len(found["noise"].unique()) == 3
    with pytest.raises(ValueError, match=r"expected \(3, B, \*event\)"):
        stacked.run(read, data(2))
