"""fit: any data, any pair, the same result for the same seed, and no silence when something is
wrong."""

import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pyrovae as pv
from pyrovae.bnn.guides import MeanField
from pyrovae.data import Batches, DictDataset, dynamic
from pyrovae.heads import BernoulliHead, CategoricalHead, FixedScaleNormalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF
from pyrovae.priors import StandardNormal
from pyrovae.training.hooks import Checkpoint, EarlyStopping, HistoryFile, ProgressBar, TensorBoard

PIXELS = torch.rand(50, 4, dtype=torch.float64)
X = (PIXELS > 0.5).double()


def vae_loss(**options: object) -> pv.ElboLoss:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")), **options)


def batches() -> Batches:
    return Batches(DictDataset(x=PIXELS), 16, shuffle=True, transform=dynamic)


def test_same_seed_same_result_and_rows_are_complete() -> None:
    histories = []
    for _ in range(2):
        torch.manual_seed(3)
        histories.append(
            pv.fit(vae_loss(beta=pv.LinearWarmup(6)), batches(), valid=[{"x": X}], epochs=3)
        )
    first, second = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in history]
        for history in histories
    )
    assert first == second
    row = first[-1]
    assert set(row) == {
        "epoch",
        "lr",
        "beta",
        "loss",
        "elbo",
        "reconstruction",
        "kl",
        "active_units",
        "valid_loss",
        "valid_elbo",
        "valid_reconstruction",
        "valid_kl",
    }
    assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"])
    assert row["valid_elbo"] == pytest.approx(row["valid_reconstruction"] - row["valid_kl"])
    assert [r["beta"] for r in first] == pytest.approx([0, 4 / 6, 1.0])


class Diagonal(nn.Module):
    """N(W x + b, diag(s)^2): the family that holds the best diagonal guide of a linear-Gaussian
    model."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Linear(4, 2), nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> dist.Independent:
        return dist.Normal(self.loc(x), self.log_scale.exp()).to_event(1)


def test_learns_the_evidence_of_a_linear_gaussian_model() -> None:
    oracle = oracles.linear_gaussian(num_data=40)
    guide = pv.Guide(z=pv.Node(Diagonal(), "x"))
    oracle.model.requires_grad_(False)
    elbo = pyro.infer.Trace_ELBO(num_particles=20, vectorize_particles=True, max_plate_nesting=1)
    pv.fit(
        pv.ElboLoss(oracle.model, guide, elbo=elbo),
        [oracle.batch],
        epochs=600,
        lr=3e-2,
        schedule=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600),
    )
    posterior = oracle.guide.nodes["z"](oracle.batch)
    # The best diagonal guide has the posterior's mean and the inverse diagonal of its precision
    # (Bishop 2006, 10.12);
    # what training lost against it is a difference of KLs, in nats: 0.02 is the noise of the last
    # steps.
    scale = posterior.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
    best = dist.MultivariateNormal(posterior.loc, scale_tril=scale.diag_embed())
    got = guide.nodes["z"](oracle.batch).base_dist
    got = dist.MultivariateNormal(got.loc, scale_tril=got.scale.diag_embed())
    lost = (
        torch.distributions.kl_divergence(got, posterior)
        - torch.distributions.kl_divergence(best, posterior)
    ).mean()
    assert 0 <= lost < 0.02


def test_validation_leaves_everything_untouched() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    loss = pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(net), "x")), beta=pv.LinearWarmup(10))
    loss.train()
    net[2].eval()
    random_before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    buffers = [b.clone() for b in loss.buffers()]
    first, second = (pv.evaluate(loss, [{"x": X}, {"x": X[:7]}]) for _ in range(2))
    assert first == second
    assert (
        torch.equal(torch.get_rng_state(), random_before[0])
        and random.getstate() == random_before[1]
    )
    assert np.random.get_state()[1].tolist() == random_before[2]
    assert all(torch.equal(a, b) for a, b in zip(buffers, loss.buffers()))
    assert loss.training and net[1].training and not net[2].training


def test_training_does_not_depend_on_being_watched() -> None:
    results = []
    for options in ({}, {"valid": [{"x": X}], "hooks": [lambda run: None]}):
        torch.manual_seed(3)
        loss = vae_loss()
        pv.fit(loss, batches(), epochs=3, **options)
        results.append(loss.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_tuples_of_a_data_loader() -> None:
    loader = DataLoader(TensorDataset(X, torch.arange(50)), batch_size=16, shuffle=True)
    assert len(pv.fit(vae_loss(), loader, epochs=2, names=("x", "y"), valid=loader)) == 2
    with pytest.raises(pv.PairError, match=r"name their parts, e.g. names=\('x', 'y'\)"):
        pv.fit(vae_loss(), loader, epochs=2)
    with pytest.raises(pv.PairError, match="name more than the 2 parts"):
        pv.fit(vae_loss(), loader, epochs=2, names=("x", "y", "z"))


def test_ragged_batches_weigh_by_their_size() -> None:
    oracle = oracles.linear_gaussian(num_data=12)
    loss = pv.ElboLoss(oracle.model, oracle.guide)
    got = pv.evaluate(loss, [{"x": part} for part in oracle.batch["x"].split(7)])
    assert got["elbo"] == pytest.approx(float(oracle.log_px.mean()), abs=1e-9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data yield no batch"),
        (iter([{"x": X}]), "used up after one pass"),
        ([{"x": PIXELS}], "grey values"),
        ([torch.ones(3, 5)], "expected mappings"),
    ],
)
def test_bad_data(data: object, message: str) -> None:
    with pytest.raises(pv.PairError, match=message):
        pv.fit(vae_loss(), data, epochs=2)


def test_bad_validation_data() -> None:
    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(vae_loss(), [{"x": X}], valid=[{"x": PIXELS}], epochs=1)
    with pytest.raises(pv.PairError, match="validation data yield no batch"):
        pv.evaluate(vae_loss(), [])
    with pytest.raises(pv.PairError, match="used up"):
        pv.fit(vae_loss(), [{"x": X}], valid=iter([{"x": X}]), epochs=1)
    steps = []
    with pytest.raises(pv.PairError, match="NaN"):
        pv.fit(
            vae_loss(), [{"x": X}], valid=[{"x": X * torch.nan}], epochs=1, hooks=[steps.append]
        )
    assert not steps


def pyros_own_loss() -> nn.Module:
    loss = vae_loss()
    return pyro.infer.Trace_ELBO()(loss.model, loss.guide)


@pytest.mark.parametrize(
    "make", [vae_loss, pyros_own_loss, lambda: vae_loss(elbo=pyro.infer.TraceMeanField_ELBO())]
)
def test_grey_pixels_in_a_later_batch(make: object) -> None:
    data, epochs = [{"x": X[:20]}, {"x": X[20:40]}, {"x": PIXELS[40:]}], []
    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(make(), data, epochs=3, hooks=[lambda run: epochs.append(run.epoch)])
    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(
            make(), [{"x": X}], valid=data, epochs=3, hooks=[lambda run: epochs.append(run.epoch)]
        )
    assert not epochs
    with pytest.raises(pv.PairError, match="grey values"):
        pv.evaluate(make(), data)


def test_nan_in_a_later_batch() -> None:
    with pytest.raises(
        pv.PairError, match="site 'x' is Bernoulli and its data hold NaN. Remove or impute"
    ):
        pv.fit(vae_loss(), [{"x": X}, {"x": X * torch.nan}], epochs=1)


def test_grey_pixels_in_a_later_batch_of_a_resumed_run(tmp_path: object) -> None:
    path = tmp_path / "run"
    pv.fit(vae_loss(), [{"x": X}, {"x": X}], epochs=1, hooks=[Checkpoint(path)])
    with pytest.raises(pv.PairError, match="grey values"):
        pv.fit(vae_loss(), [{"x": X}, {"x": PIXELS}], epochs=2, resume=path)


def test_losses_without_sites_are_not_checked() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP(4, [8], 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.net(x) - x).square().mean()

    history = pv.fit(Squares(), [{"x": X}, {"x": 300 * PIXELS}], epochs=2)
    assert len(history) == 2


def test_a_plateau_lowers_the_learning_rate(tmp_path: object) -> None:
    def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=0, factor=0.1, threshold=0.9
        )

    path = tmp_path / "run"
    history = pv.fit(vae_loss(), [{"x": X}], epochs=3, schedule=schedule, hooks=[Checkpoint(path)])
    assert history["lr"] == pytest.approx([1e-3, 1e-3, 1e-4])
    again = pv.fit(vae_loss(), [{"x": X}], epochs=4, schedule=schedule, resume=path)
    assert again["lr"][-1] == pytest.approx(1e-5)


def test_non_finite_loss_stops_before_the_step(tmp_path: object) -> None:
    model = pv.Model(
        z=StandardNormal(2), x=pv.Node(FixedScaleNormalHead(MLP(2, [8], 4), scale=1.0), "z")
    )
    loss = pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")))

    class Breaks:
        epochs = 0

        def __iter__(self) -> object:
            self.epochs += 1
            yield {"x": X}
            yield {"x": torch.where(torch.eye(50, 4) > 0, torch.nan, X) if self.epochs == 4 else X}

    path = tmp_path / "run.safetensors"
    with pytest.raises(
        pv.NonFiniteLossError,
        match=r"nan in epoch 3, batch 1\. Nats per datum by site: x nan, z nan\. "
        r"Largest parameter norms: .*min_scale",
    ):
        pv.fit(loss, Breaks(), epochs=5, hooks=[Checkpoint(path)])
    assert all(torch.isfinite(p).all() for p in loss.parameters())
    assert len(pv.fit(loss, [{"x": X}], epochs=2, resume=path)) == 2


def test_early_stopping_keeps_the_best(tmp_path: object) -> None:
    loss, best = vae_loss(), tmp_path / "best.safetensors"
    valid = [{"x": 1 - X}]  # what is good for training is bad for this
    history = pv.fit(
        loss,
        [{"x": X}],
        epochs=200,
        lr=3e-2,
        valid=valid,
        hooks=[EarlyStopping(best, patience=4), HistoryFile(tmp_path / "history.csv")],
    )
    values = history["valid_elbo"]
    assert len(history) < 200 and values.index(max(values)) == len(values) - 5
    assert pv.evaluate(loss, valid)["elbo"] == max(values)
    assert (tmp_path / "history.csv").read_text().count("\n") == len(history) + 1
    with pytest.raises(KeyError, match="no column 'valid_elbo'"):
        pv.fit(vae_loss(), [{"x": X}], epochs=1, hooks=[EarlyStopping(best, patience=4)])


def test_schedule_clipping_and_optimizers() -> None:
    history = pv.fit(
        vae_loss(),
        [{"x": X}],
        epochs=3,
        lr=0.5,
        schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1),
    )
    assert history["lr"] == pytest.approx([0.5, 0.05, 0.005])
    loss = vae_loss()
    before = torch.cat([p.detach().flatten() for p in loss.parameters()])
    pv.fit(
        loss,
        [{"x": X}],
        epochs=1,
        optimizer=lambda ps: torch.optim.SGD(ps, lr=1.0),
        clip_norm=1e-3,
    )
    moved = (torch.cat([p.detach().flatten() for p in loss.parameters()]) - before).norm()
    assert moved == pytest.approx(1e-3, rel=1e-2)
    with pytest.raises(pv.PairError, match="the optimizer does not hold"):
        pv.fit(
            loss,
            [{"x": X}],
            epochs=1,
            optimizer=torch.optim.SGD(list(loss.model.parameters()), lr=1.0),
        )
    for p in loss.parameters():
        p.requires_grad_(False)
    with pytest.raises(pv.PairError, match="no trainable tensor"):
        pv.fit(loss, [{"x": X}], epochs=1)


def test_autocast_computes_densities_in_float32() -> None:
    torch.set_default_dtype(torch.float32)
    loss = vae_loss()
    data = [{"x": X.float()}]
    history = pv.fit(loss, data, epochs=2, context=lambda: torch.autocast("cpu", torch.bfloat16))
    assert all(p.dtype == torch.float32 for p in loss.parameters())
    exact = pv.evaluate(loss, data)
    rough = pv.evaluate(loss, data, context=lambda: torch.autocast("cpu", torch.bfloat16))
    assert rough["elbo"] != exact["elbo"] and rough["elbo"] == pytest.approx(
        exact["elbo"], rel=0.02
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.guide.nodes["z"](data[0]).base_dist.scale.dtype == torch.float32
    assert len(history) == 2


def test_fabric_like_objects_set_up_and_do_the_backward() -> None:
    calls = []
    fabric = SimpleNamespace(
        setup=lambda module, optimizer: calls.append("setup") or (module, optimizer),
        backward=lambda loss: calls.append("backward") or loss.backward(),
    )
    pv.fit(vae_loss(), [{"x": X}], epochs=2, fabric=fabric)
    assert calls == ["setup", "backward", "backward"]


def test_progress_bar_and_tensorboard(tmp_path: object, capsys: pytest.CaptureFixture) -> None:
    hooks = [ProgressBar()]
    try:
        hooks.append(TensorBoard(tmp_path / "events"))
    except ImportError:
        pass
    pv.fit(vae_loss(), [{"x": X}], epochs=2, hooks=hooks)
    shown = capsys.readouterr()
    assert "2/2" in shown.err and "elbo=" in shown.err and not shown.out
    assert len(hooks) == 1 or list((tmp_path / "events").iterdir())


# --- pairs of every origin
# -----------------------------------------------------------------------------------------


class TutorialVAE(nn.Module):
    """As Pyro's tutorials write it: programs are methods, nets are announced by pyro.module."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = MLP(4, [8], 4), MLP(2, [8], 4)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample(
                "z", dist.Normal(torch.zeros(2), 1.0).expand([x.shape[0], 2]).to_event(1)
            )
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def closures() -> tuple[object, object, list[Tensor]]:
    vae = TutorialVAE()
    encoder, decoder = vae.encoder, vae.decoder

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide, [*encoder.parameters(), *decoder.parameters()]


def methods() -> tuple[object, object, list[Tensor]]:
    vae = TutorialVAE()
    return vae.model, vae.guide, list(vae.parameters())


def plain_object() -> tuple[object, object, list[Tensor]]:
    """Methods of an object that is no module but holds two."""

    class Pair:
        def __init__(self) -> None:
            self.vae = TutorialVAE()

        def model(self, x: Tensor) -> None:
            self.vae.model(x)

        def guide(self, x: Tensor) -> None:
            self.vae.guide(x)

    pair = Pair()
    return pair.model, pair.guide, list(pair.vae.parameters())


@pytest.mark.usefixtures("uses_param_store")
@pytest.mark.parametrize("make", [closures, methods, plain_object])
def test_hand_written_pairs_train_save_and_score(make: object, tmp_path: object) -> None:
    model, guide, parameters = make()
    before = [p.detach().clone() for p in parameters]
    loss = pv.ElboLoss(model, guide)
    history = pv.fit(
        loss, [{"x": X}], epochs=30, lr=1e-2, hooks=[Checkpoint(tmp_path / "run.safetensors")]
    )
    assert history["elbo"][-1] > history["elbo"][0]
    assert all(not torch.equal(a, b) for a, b in zip(before, parameters))
    evidence = pv.log_evidence(model, guide, {"x": X}, num_particles=100)
    assert evidence.mean > history["elbo"][-1] - 1.0
    other_model, other_guide, _ = make()
    again = pv.fit(
        pv.ElboLoss(other_model, other_guide),
        [{"x": X}],
        epochs=30,
        resume=tmp_path / "run.safetensors",
    )
    assert again["elbo"] == history["elbo"]
    assert pv.evaluate(pv.ElboLoss(other_model, other_guide), {"x": X}) == pv.evaluate(
        loss, {"x": X}
    )


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDiagonalNormal])
def test_autoguides_fit_a_regression(autoguide: type) -> None:
    model, _, batch, exact = oracles.linear_regression()
    guide = autoguide(model)
    loss = pv.ElboLoss(model, guide, num_data=12)
    history = pv.fit(loss, [batch], epochs=350, lr=4e-2)
    # 12 times the ELBO per datum is a bound on the joint evidence, and near it
    elbo = 12 * np.mean(history["elbo"][-100:])
    assert exact - 3.0 < elbo < exact
    twin = autoguide(model)
    assert (
        12 * pv.fit(pv.ElboLoss(model, twin, num_data=12), [batch], epochs=1)["elbo"][0] < elbo - 1
    ), "a fresh one"


@pytest.mark.usefixtures("uses_param_store")
def test_autoguides_do_not_remember_the_particle_plate() -> None:
    oracle = oracles.linear_gaussian(num_data=5)
    first, second = AutoNormal(oracle.model), pv.Joint(AutoNormal(oracle.model))
    assert pv.log_weights(oracle.model, first, oracle.batch, 7).shape == (7, 5)
    assert pv.log_weights(oracle.model, second, oracle.batch, 7).shape == (7, 5)
    third = AutoNormal(oracle.model)
    elbo = pyro.infer.Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1)
    pv.ElboLoss(oracle.model, third, elbo=elbo)(**oracle.batch)
    for guide in (first, second.programs[0], third):
        assert [p.shape for p in guide.parameters()] == [(5, 2), (5, 2)]
        guide(**oracle.batch)


@pytest.mark.usefixtures("uses_param_store")
def test_pyro_param_programs_train_and_resume(tmp_path: object) -> None:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(3.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, scale), obs=x)

    x, path = torch.randn(200), tmp_path / "run.safetensors"
    pv.fit(
        pv.ElboLoss(model, lambda x: None),
        [{"x": x}],
        epochs=200,
        lr=3e-2,
        hooks=[Checkpoint(path)],
    )
    fitted = pyro.param("scale").item()
    assert fitted == pytest.approx(float(x.square().mean().sqrt()), rel=1e-2)
    pyro.clear_param_store()
    pv.fit(pv.ElboLoss(model, lambda x: None), [{"x": x}], epochs=200, resume=path)
    assert pyro.param("scale").item() == fitted


def test_nets_reached_by_helpers_partials_and_containers_are_found() -> None:
    nets = {name: nn.Linear(2, 4) for name in ("helper", "partial", "default", "listed")}
    helper_net, listed = nets["helper"], [nets["listed"]]

    def helper(z: Tensor) -> Tensor:
        return helper_net(z)

    def model(x: Tensor, net: nn.Module = nets["default"], extra: nn.Module | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = helper(z) + net(z) + extra(z) + listed[0](z)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    loss = pv.ElboLoss(partial(model, extra=nets["partial"]), guide)
    assert {id(p) for net in nets.values() for p in net.parameters()} <= {
        id(p) for p in loss.parameters()
    }
    pv.fit(loss, [{"x": X}], epochs=1)


def test_evaluation_puts_a_helpers_dropout_to_sleep() -> None:
    drop = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.9))

    def decode(z: Tensor) -> Tensor:
        return drop(z)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    results = []
    for training in (True, False):
        drop.train(training)
        torch.manual_seed(0)
        results.append(pv.log_evidence(model, guide, {"x": X}, num_particles=20).log_px)
        assert drop.training == training
    assert torch.equal(*results)


def test_parameters_without_influence_are_named() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP(4, [8], 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.net(x)

    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    loss = pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(Frozen()), "x")))
    with pytest.warns(
        UserWarning,
        match="4 parameters have no influence on the loss and will not train: guide.nodes.z",
    ):
        pv.fit(loss, [{"x": X}], epochs=1)


def test_buffers_that_a_forward_replaces_come_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP(4, [8], 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls = self.calls + 1
            return self.net(x)

    counts = Counts()
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(counts), "x"))
    pv.evaluate(pv.ElboLoss(model, guide), [{"x": X}])
    pv.log_evidence(model, guide, {"x": X}, num_particles=5)
    assert counts.calls == 0


def test_active_units_of_a_collapsed_flow_guide_are_none() -> None:
    encoder, flow = NormalHead(MLP(4, [], 2 * 6)), None
    for p in encoder.parameters():
        nn.init.zeros_(p)
    flow = IAF(encoder, 6, 4, hidden=(8,)).double()
    for p in flow.flow.transform.parameters():
        nn.init.zeros_(p)
    model = pv.Model(z=StandardNormal(6), x=pv.Node(BernoulliHead(MLP(6, [8], 4)), "z"))
    batch = {"x": torch.bernoulli(torch.full((500, 4), 0.5))}
    row = pv.evaluate(pv.ElboLoss(model, pv.Guide(z=pv.Node(flow, "x"))), [batch])
    assert row["kl"] == pytest.approx(0.0, abs=1e-9) and row["active_units"] == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"x": X[:25]}, {"x": X[25:]}], "several batches"),
        (Batches(DictDataset(x=X), 50, shuffle=True), "are shuffled"),
        (DataLoader(TensorDataset(X), batch_size=50, shuffle=True), "are shuffled"),
    ],
)
def test_autoguides_of_local_latents_need_all_data_in_one_order(
    data: object, message: str
) -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    with pytest.raises(pv.PairError, match=message):
        pv.fit(pv.ElboLoss(model, AutoNormal(model)), data, names=("x",), epochs=2)


def test_deterministic_notes_are_neither_data_nor_latent() -> None:
    decoder, encoder = MLP(2, [8], 4), MLP(4, [8], 4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            p = pyro.deterministic("p", decoder(z).sigmoid(), event_dim=1)
            pyro.sample("x", dist.Bernoulli(p).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            loc = pyro.deterministic("loc", loc, event_dim=1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    pv.check(model, guide, {"x": X})
    assert pv.log_weights(model, guide, {"x": X}, 3).shape == (3, 50)
    draws = pv.posterior_draws(model, guide, {"x": X}, num_samples=5)
    assert {group: set(values) for group, values in draws.items()} == {
        "posterior": {"z"},
        "posterior_predictive": {"x"},
        "log_likelihood": {"x"},
        "observed_data": {"x"},
    }


def test_posterior_draws_want_to_know_another_name_of_the_data_plate() -> None:
    decoder = MLP(2, [8], 4)

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(
        pv.PairError,
        match=r"\['x'\] lie outside plate 'data'.*plate='...' if your plate has another name",
    ):
        pv.posterior_draws(model, guide, {"x": X}, num_samples=5)
    draws = pv.posterior_draws(model, guide, {"x": X}, num_samples=5, plate="rows")
    assert draws["log_likelihood"]["x"].shape == (5, 50)


def test_lbfgs_is_refused() -> None:
    with pytest.raises(pv.PairError, match="LBFGS"):
        pv.fit(vae_loss(), [{"x": X}], epochs=1, optimizer=lambda ps: torch.optim.LBFGS(ps))


def test_a_tensor_nobody_holds_is_refused() -> None:
    loose = torch.zeros(4, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(logits=loose).to_event(1), obs=x)

    with pytest.raises(
        pv.PairError, match=r"trainable tensors of shapes \[\(4,\)\] that belong to no module"
    ):
        pv.fit(pv.ElboLoss(model, lambda x: None), [{"x": X}], epochs=1)


def test_pyros_own_elbo_module_is_a_loss() -> None:
    loss = vae_loss()
    history = pv.fit(
        pyro.infer.Trace_ELBO()(loss.model, loss.guide), [{"x": X}], epochs=30, lr=1e-2
    )
    assert history["loss"][-1] < history["loss"][0] and "elbo" not in history.names


# --- averages of unlike batches, and how many data there are
# -------------------------------------------------------------


def test_batches_without_terms_do_not_dilute_those_that_have_them() -> None:
    """Labelled batches report their terms, unlabelled ones, whose y is enumerated, only a loss."""
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((12, 4), 0.5))

    class Mixed(nn.Module):
        """A loss with terms for labelled batches alone."""

        def __init__(self) -> None:
            super().__init__()
            model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
            self.inner = pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")))

        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            value = self.inner(x=x)
            if y is None:
                self.inner.terms = None
            return value

    loss = Mixed()
    labelled, unlabelled = {"x": x, "y": torch.zeros(12)}, {"x": x}
    alone, mixed = pv.evaluate(loss, [labelled]), pv.evaluate(loss, [labelled, unlabelled])
    assert set(mixed) == set(alone)
    for name in ("elbo", "kl", "reconstruction"):
        assert mixed[name] == pytest.approx(alone[name], abs=1e-12)
    row = pv.fit(loss, [labelled, unlabelled], epochs=1, lr=0.0, valid=[labelled, unlabelled])[-1]
    assert row["valid_elbo"] == pytest.approx(alone["elbo"], abs=1e-12)
    assert (
        row["elbo"] == pytest.approx(alone["elbo"], abs=1.0)
        and row["active_units"] == alone["active_units"]
    )


def test_a_site_of_some_data_is_averaged_over_these() -> None:
    """y is given in half of the batches; where it is not, its KL is that of a fixed guide."""
    model = pv.Model(
        y=StandardNormal(1),
        z=StandardNormal(2),
        x=pv.Node(BernoulliHead(MLP(3, [8], 4)), "z", "y"),
    )
    guide = pv.Guide(
        y=pv.Node(NormalHead(MLP(4, [], 2)), "x"), z=pv.Node(NormalHead(MLP(5, [8], 4)), "x", "y")
    )
    with (
        torch.no_grad()
    ):  # q(y | x) = N(2, 1), whose KL is 2 nats, whatever x: no unit of it is active
        for parameter in guide.nodes["y"].parameters():
            parameter.zero_()
        guide.nodes["y"].conditional.net.layers[-1].bias[0] = 2.0
    x, y = torch.bernoulli(torch.full((400, 4), 0.5)), torch.randn(400, 1)
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    row = pv.evaluate(loss, [{"x": x}, {"x": x, "y": y}])
    alone = pv.evaluate(loss, [{"x": x}])
    assert row["kl_y"] == pytest.approx(alone["kl_y"], abs=1e-12) and row["kl_y"] == pytest.approx(
        2.0, abs=0.5
    )
    labelled = pv.evaluate(loss, [{"x": x, "y": y}])
    assert "kl_z" not in labelled and row["kl_z"] == pytest.approx(
        (alone["kl_z"] + labelled["kl"]) / 2, abs=0.2
    )
    averages = pv.fit(loss, [{"x": x}, {"x": x, "y": y}], epochs=1, lr=0.0)[-1]
    assert averages["kl_y"] == pytest.approx(2.0, abs=0.5)


def test_fewer_data_than_an_epoch_holds_are_an_error() -> None:
    net = pv.Bayesian(nn.Linear(4, 3))
    loss = pv.ElboLoss(pv.Model(y=pv.Node(CategoricalHead(net), "x")), MeanField(net), num_data=20)
    batches = [{"x": torch.zeros(10, 4), "y": torch.zeros(10).long()} for _ in range(3)]
    with pytest.raises(pv.PairError, match="num_data=20, but an epoch holds 30 data"):
        pv.fit(loss, batches, epochs=1)
    assert (
        len(pv.fit(loss, batches[:2], epochs=1))
        == len(pv.fit(loss, batches[:1] * 5, epochs=1))
        == 1
    )


class Slope(nn.Module):
    """-log of a normal density of two parameters of unlike shape, as a loss without a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor([2.0, -30.0])), nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return ((self.a * x - self.b) ** 2).sum()


@pytest.mark.parametrize(
    "kind, args",
    [
        ("Adam", {"lr": 0.1, "betas": (0.5, 0.9)}),
        ("SGD", {"lr": 1e-3, "momentum": 0.9}),
        ("ClippedAdam", {"lr": 0.1, "clip_norm": 0.5, "lrd": 0.9}),
    ],
)
def test_an_optimiser_of_pyro_takes_the_steps_that_it_takes_under_pyro(
    kind: str, args: dict
) -> None:
    ours, theirs, make = Slope(), Slope(), getattr(pyro.optim, kind)
    batch, optimizer = {"x": torch.tensor([1.0, 0.2])}, make(dict(args))
    pv.fit(ours, [batch], epochs=5, optimizer=make(dict(args)))
    for _ in range(5):
        theirs(**batch).backward()
        optimizer(list(theirs.parameters()))
        pyro.infer.util.zero_grads(theirs.parameters())
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other)
    assert not torch.equal(ours.a, Slope().a)


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (
            lambda: pyro.optim.Adam(lambda name: {"lr": 0.1}),
            r"\[\{'params': \[p\], 'lr': ...\} for p in",
        ),
        (
            lambda: pyro.optim.SGD({"lr": 0.1}, {"clip_norm": 2.0}),
            r"torch.optim.SGD\(parameters, lr=0.1\) and fit",
        ),
        (
            lambda: pyro.optim.ExponentialLR(
                {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "gamma": 0.9}
            ),
            r"torch.optim.SGD\(parameters, lr=0.1\), schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR\("
            r"optimizer, gamma=0.9\)",
        ),
        (
            lambda: pyro.optim.multi.Newton({}),
            "optimizer is Newton, expected a torch.optim.Optimizer",
        ),
        (lambda: lambda parameters: None, "returned NoneType, expected a torch.optim.Optimizer"),
    ],
)
def test_an_optimiser_that_cannot_be_taken_over_says_what_to_write(
    optimizer: object, message: str
) -> None:
    with pytest.raises(pv.PairError, match=message):
        pv.fit(Slope(), [{"x": torch.ones(2)}], epochs=1, optimizer=optimizer())


def test_an_optimiser_of_pyro_with_a_past_is_refused() -> None:
    optimizer, other = pyro.optim.Adam({"lr": 0.1}), Slope()
    other(torch.ones(2)).backward()
    optimizer(list(other.parameters()))
    with pytest.raises(pv.PairError, match="has taken steps before"):
        pv.fit(Slope(), [{"x": torch.ones(2)}], epochs=1, optimizer=optimizer)


def test_an_estimator_alone_is_no_loss() -> None:
    for loss in (pyro.infer.Trace_ELBO(), pyro.infer.Trace_ELBO):
        with pytest.raises(TypeError, match=r"ElboLoss\(model, guide, elbo=Trace_ELBO\(...\)\)"):
            pv.fit(loss, [{"x": X}], epochs=1)
    with pytest.raises(TypeError, match="the loss is function, expected a module"):
        pv.fit(lambda x: x.sum(), [{"x": X}], epochs=1)


def test_a_loss_of_pyro_takes_global_latents_as_it_scales_them(uses_param_store: None) -> None:
    model, _, batch, _ = oracles.linear_regression()
    guide = AutoNormal(model)
    loss = pyro.infer.Trace_ELBO()(model, guide)
    history = pv.fit(loss, [batch], epochs=3, lr=0.05)
    assert history[-1]["loss"] < history[0]["loss"]
    torch.manual_seed(5)
    value = loss(**batch)
    torch.manual_seed(5)
    torch.testing.assert_close(pv.ElboLoss(model, guide, num_data=12)(**batch) * 12, value)
    pv.fit(
        pv.losses.PyroLoss(model, guide, pyro.infer.RenyiELBO(num_particles=2)), [batch], epochs=1
    )
    with pytest.raises(pv.PairError, match=r"so log p\(x_i\) has no per-datum estimate"):
        pv.fit(pv.IwaeLoss(model, guide, num_particles=2), [batch], epochs=1)
    with pytest.raises(pv.PairError, match="pass num_data"):
        pv.fit(pv.ElboLoss(model, guide), [batch], epochs=1)


def test_a_learning_rate_in_a_tensor_is_written_down_as_a_number(tmp_path: object) -> None:
    loss, path = vae_loss(), tmp_path / "checkpoint.safetensors"

    def run(epochs: int, **settings: object) -> pv.History:
        return pv.fit(
            loss,
            [{"x": X}],
            epochs=epochs,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(0.1)),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
            hooks=[Checkpoint(path)],
            **settings,
        )

    assert run(3)["lr"] == pytest.approx([0.1, 0.05, 0.025])
    assert run(4, resume=path)["lr"] == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_an_optimiser_that_calls_its_rate_eta() -> None:
    history = pv.fit(
        vae_loss(), [{"x": X}], epochs=1, optimizer=pyro.optim.AdagradRMSProp({"eta": 0.5})
    )
    assert history["lr"] == [0.5]
