"""Model, Guide and Joint under Pyro's own tools: what a Pyro user tries first must work, and
train."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.log_weights import log_joint
from pyrovae.core.traces import run_guide
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF
from pyrovae.priors import StandardNormal, VampPrior

pytestmark = pytest.mark.usefixtures("uses_param_store")
X = torch.bernoulli(torch.full((6, 4), 0.5, dtype=torch.float64))


def shared_pair() -> tuple[pv.Model, pv.Guide]:
    """A VampPrior over the guide's own encoder: model and guide share tensors."""
    encoder = NormalHead(MLP(4, [8], 4))
    model = pv.Model(
        z=VampPrior(encoder, torch.rand(3, 4)), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")
    )
    return model, pv.Guide(z=pv.Node(IAF(encoder, 2, 4, hidden=(8,)).double(), "x"))


def values(*programs: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for program in programs for p in program.parameters()]


def svi_steps(model: object, guide: object, steps: int = 3, seed: int = 0) -> list[float]:
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    torch.manual_seed(seed)
    return [svi.step(x=X) for _ in range(steps)]


def test_svi_trains_every_parameter_and_shared_ones_once() -> None:
    model, guide = shared_pair()
    before = values(model, guide)
    svi_steps(model, guide)
    assert all(not torch.equal(old, new) for old, new in zip(before, values(model, guide)))
    tensors = {p for program in (model, guide) for p in program.parameters()}
    assert len(pyro.get_param_store().keys()) == len(tensors)


def test_two_pairs_train_as_each_would_alone() -> None:
    first = shared_pair()
    second, lone = copy.deepcopy(first), copy.deepcopy(first)
    other = shared_pair()
    svi_steps(*first)
    svi_steps(*other)
    losses = svi_steps(*second)
    pyro.clear_param_store()
    assert losses == svi_steps(*lone)
    assert all(torch.equal(a, b) for a, b in zip(values(*second), values(*lone)))


def test_fit_trains_two_pairs_as_each_would_alone() -> None:
    first = shared_pair()
    second = copy.deepcopy(first)
    torch.manual_seed(1)
    alone = pv.fit(pv.ElboLoss(*first), [{"x": X}], epochs=3)
    pv.fit(pv.ElboLoss(*shared_pair()), [{"x": X}], epochs=2)
    torch.manual_seed(1)
    assert pv.fit(pv.ElboLoss(*second), [{"x": X}], epochs=3)["elbo"] == alone["elbo"]


def test_svi_and_fit_take_the_same_step() -> None:
    model, guide = shared_pair()
    twin = copy.deepcopy((model, guide))
    svi_steps(model, guide, steps=1)
    loss = pv.ElboLoss(*twin)
    torch.manual_seed(0)
    (6 * loss(x=X)).backward()
    torch.optim.Adam(loss.parameters(), lr=1e-2).step()
    for a, b in zip(values(model, guide), values(*twin)):
        torch.testing.assert_close(a, b)


def test_svi_trains_a_parameter_that_is_not_contiguous() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 2).t())

        def forward(self, z: Tensor) -> Tensor:
            return z @ self.weight

    net = Transposed()
    before = net.weight.detach().clone()
    svi_steps(
        pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(net), "z")),
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")),
    )
    assert not torch.equal(before, net.weight)


def test_svi_with_an_autoguide_runs_in_silence() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    assert all(loss > 0 for loss in svi_steps(model, AutoNormal(model)))
    joint = pv.Joint(pv.Guide(z=StandardNormal(2)), pv.Guide(a=StandardNormal(2)))
    assert set(poutine.trace(joint).get_trace(x=X).stochastic_nodes) == {"data", "z", "a"}


def test_a_plain_pyro_script_works_before_and_after() -> None:
    class Plain(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.tensor(0.0))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample(
                    "x",
                    dist.Normal(pyro.sample("z", dist.Normal(self.loc, 1.0)).unsqueeze(-1), 1.0)
                    .expand([len(x), 4])
                    .to_event(1),
                    obs=x,
                )

    for _ in range(2):
        model = Plain()
        assert all(torch.isfinite(torch.tensor(svi_steps(model, AutoNormal(model)))))
        pyro.clear_param_store()
        pair = shared_pair()
        pv.fit(pv.ElboLoss(*pair), [{"x": X}], epochs=1)
        assert not pyro.settings.get("module_local_params")


def test_predictive_trace_and_render() -> None:
    model, guide = shared_pair()
    assert Predictive(model, guide=guide, num_samples=5)(x=X)["z"].shape == (5, 6, 2)
    assert Predictive(model, num_samples=5, parallel=True)(num=3)["x"].shape == (5, 3, 4)
    replicate = Predictive(poutine.uncondition(model), guide=guide, num_samples=5, parallel=True)(
        x=X
    )
    assert replicate["x"].shape == (5, 6, 4)
    trace = poutine.trace(model).get_trace(x=X)
    assert trace.nodes["x"]["is_observed"] and trace.nodes["z"]["fn"].batch_shape == (6,)
    relations = pyro.infer.inspect.get_model_relations(model, model_kwargs={"x": X})
    assert "z" in relations["sample_sample"]["x"] and relations["plate_sample"] == {
        "data": ["z", "x"]
    }
    graphviz = pytest.importorskip("graphviz")
    assert isinstance(pyro.render_model(model, model_kwargs={"x": X}), graphviz.Digraph)


def test_guide_skips_what_data_supply() -> None:
    class Classifier(nn.Module):
        def forward(self, x: Tensor) -> dist.Categorical:
            return dist.Categorical(logits=x)

    guide = pv.Guide(y=pv.Node(Classifier(), "x"), z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    assert set(guide(x=X)) == {"y", "z"}
    assert set(guide(x=X, y=torch.zeros(6))) == {"z"}


def test_conditional_model_by_wiring() -> None:
    model = pv.Model(
        z=pv.Node(NormalHead(MLP(3, [8], 4)), "c"),
        x=pv.Node(BernoulliHead(MLP(5, [8], 4)), "z", "c"),
    )
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(7, [8], 4)), "x", "c"))
    batch = {"x": X, "c": torch.randn(6, 3)}
    pv.check(model, guide, batch)
    assert pv.log_weights(model, guide, batch, 5).shape == (5, 6)
    assert model(c=batch["c"])["x"].shape == (6, 4)


def test_joint_of_two_guides_is_their_product() -> None:
    parts = {
        name: pv.Guide(**{name: pv.Node(NormalHead(MLP(4, [8], 4)), "x")}) for name in ("a", "b")
    }
    joint = pv.Joint(*parts.values())
    assert set(joint(x=X)) == {"a", "b"}
    trace = run_guide(joint, {"x": X}, 3)
    exact = sum(
        part.nodes[name]({"x": X}).log_prob(trace.nodes[name]["value"])
        for name, part in parts.items()
    )
    torch.testing.assert_close(log_joint(trace, 3), exact)  # (K, B)
    model = pv.Model(
        a=StandardNormal(2),
        b=StandardNormal(2),
        x=pv.Node(BernoulliHead(MLP(4, [8], 4)), "a", "b"),
    )
    pv.check(model, joint, {"x": X})


def test_as_svi_trains_hand_written_modules() -> None:
    class Coin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Bernoulli(logits=self.logit).to_event(1), obs=x)

    coin = Coin()
    svi_steps(coin, lambda x: None)
    assert coin.logit.abs().max() == 0, "plain modules do not train under SVI: this is the trap"
    svi_steps(*pv.as_svi(coin, lambda x: None))
    assert coin.logit.abs().max() > 0
