"""Few labels: the loss against Pyro's enumeration, and what the other data are worth."""

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn
from torch.nn import functional

import pyrovae as pv
from pyrovae.core.traces import run_guide
from pyrovae.data import Batches, DictDataset, Interleaved, load_digits
from pyrovae.heads import BernoulliHead, NormalHead, StraightThroughCategoricalHead
from pyrovae.losses import SemiSupervisedLoss
from pyrovae.nets import MLP, Constant
from pyrovae.priors import StandardNormal
from pyrovae.recipes.semi_supervised import METHODS, Labels, Method


def m2(classes: int = 3, features: int = 4) -> tuple[pv.Model, pv.Guide, nn.Module]:
    prior = Constant(classes)
    nn.init.normal_(prior.value)
    model = pv.Model(
        y=StraightThroughCategoricalHead(prior),
        z=StandardNormal(2),
        x=pv.Node(BernoulliHead(MLP(2 + classes, [8], features)), "z", "y"),
    )
    net = MLP(features, [8], classes)
    guide = pv.Guide(
        y=pv.Node(StraightThroughCategoricalHead(net), "x"),
        z=pv.Node(NormalHead(MLP(features + classes, [8], 4)), "x", "y"),
    )
    return model, guide, net


def test_without_labels_it_is_the_elbo_that_pyro_enumerates() -> None:
    """Averaged over draws of z, 100 for each datum at once, within 5 standard errors."""
    model, guide, net = m2()
    x = (torch.rand(6, 4) < 0.5).double().repeat(100, 1)
    loss = SemiSupervisedLoss(model, guide)

    def enumerated(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample(
                "y",
                pyro.distributions.OneHotCategorical(logits=net(x)),
                infer={"enumerate": "parallel"},
            )
            batch = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
            both = x.expand(*batch, 4), y.expand(*batch, 3)
            pyro.sample("z", guide.nodes["z"].conditional(*both))

    theirs = pv.ElboLoss(model, enumerated, elbo=TraceEnum_ELBO(strict_enumeration_warning=False))
    torch.manual_seed(0)
    with torch.no_grad():
        ours_found = torch.stack([loss(x=x) for _ in range(30)])
        theirs_found = torch.stack([theirs(x=x) for _ in range(30)])
    error = ((ours_found.var() + theirs_found.var()) / 30) ** 0.5
    assert abs(ours_found.mean() - theirs_found.mean()) < 5 * error


def test_with_labels_it_is_the_joint_elbo_and_the_classifier() -> None:
    model, guide, net = m2()
    x, labels = (torch.rand(6, 4) < 0.5).double(), torch.arange(6) % 3
    y = functional.one_hot(labels, 3).double()
    torch.manual_seed(0)
    ours = SemiSupervisedLoss(model, guide, weight=2.0)(x=x, y=y)
    torch.manual_seed(0)
    run_guide(guide, {"x": x})  # the loss draws a class, too
    bound = pv.log_weights(model, guide, {"x": x, "y": y}, 1).mean()
    torch.testing.assert_close(ours, -bound + 2.0 * functional.cross_entropy(net(x), labels))


def test_mixed_batches_train_and_are_captured() -> None:
    torch.manual_seed(0)
    x = (torch.rand(40, 4) < 0.5).double()
    y = functional.one_hot(x[:10].sum(-1).long().clamp(max=2), 3).double()
    data = Interleaved(
        Batches(DictDataset(x=x), 10), Batches(DictDataset(x=x[:10], y=y), 10), every=2
    )
    assert [sorted(batch) for batch in data] == [["x"], ["x"], ["x", "y"]] * 2
    histories = []
    for compile in ("off", "on"):
        torch.manual_seed(1)
        loss = SemiSupervisedLoss(*m2()[:2])
        histories.append(pv.fit(loss, data, epochs=3, compile=compile)["loss"])
    assert histories[0] == pytest.approx(histories[1], rel=1e-6)


def test_labels_are_chosen_evenly() -> None:
    x, y = torch.rand(50, 2), torch.arange(50) % 5
    chosen = Labels.choose(x, y, 11, seed=0)
    assert chosen.y.bincount().tolist() == [3, 2, 2, 2, 2]
    assert chosen.x.shape == (50, 2) and chosen.x.sort(0).values.equal(x.sort(0).values)
    rows = [int((x == row).all(-1).nonzero()) for row in chosen.x[:11]]
    assert y[rows].equal(chosen.y)


def test_data_without_labels_help() -> None:
    """30 labels of the digits: M2 errs less than the same net on the labels alone."""
    torch.set_default_dtype(torch.float32)
    try:
        splits = load_digits()
        x, y = splits.train.tensors["x"].flatten(1).round(), splits.train.tensors["y"]
        test = splits.test.tensors["x"].flatten(1).round()
        torch.manual_seed(0)
        data = Labels.choose(x, y, 30, seed=0)
        method = Method(epochs=15, hidden=(64,), latent_size=10, lr=6e-3, dropout=0.2)
        found = {name: METHODS[name](data, method) for name in ("supervised", "m2")}
        scores = {
            name: one.accuracy(test, splits.test.tensors["y"]) for name, one in found.items()
        }
        assert scores["m2"] > scores["supervised"] + 0.03 and scores["supervised"] > 0.5
        assert found["m2"].draw(torch.eye(10)).shape == (10, 64)
    finally:
        torch.set_default_dtype(torch.float64)


def test_the_bound_of_labelled_data_has_its_weight() -> None:
    model, guide, _ = m2()
    x, y = (torch.rand(5, 4) < 0.5).double(), torch.eye(3)[[0, 1, 2, 0, 1]].double()

    def loss(weight: float, bound_weight: float) -> Tensor:
        torch.manual_seed(0)
        return SemiSupervisedLoss(model, guide, weight=weight, bound_weight=bound_weight)(x=x, y=y)

    bound, known = loss(0.0, 1.0), loss(1.0, 0.0)
    assert torch.allclose(loss(2.0, 0.1), 0.1 * bound + 2.0 * known)
    with pytest.raises(ValueError, match="bound_weight=-1"):
        loss(1.0, -1.0)
