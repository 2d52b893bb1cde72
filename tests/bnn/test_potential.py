"""The potential energy of Pyro models: Jacobians, plates, chains side by side, refusals; and
Pyro's kernels on captured ones."""

import logging
import math

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, NUTS, RandomWalkKernel
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.samplers import Potential, chees, mcmc
from pyrovae.heads import FixedScaleNormalHead

Y = torch.tensor([28.0, 8.0, -3.0, 7.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)


def mixed(y: Tensor) -> None:
    """Real, positive, simplex, interval, correlated and replicated sites."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    pyro.sample("share", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    pyro.sample("angle", dist.Uniform(-1.0, 2.0))
    with pyro.plate("schools", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, 10.0), obs=y)


def test_energy_and_gradient_are_those_of_pyro() -> None:
    potential, (start, energy, _, _) = Potential(mixed, {"y": Y}), initialize_model(mixed, (Y,))
    points = torch.randn(3, potential.size)
    mine, gradient = potential.value_and_gradient(points)
    assert potential.batched and potential.size == sum(v.numel() for v in start.values())
    for row, value, slope in zip(points, mine, gradient):
        parts = row.clone().requires_grad_()
        pieces = parts.split([math.prod(shape) for shape in potential.shapes.values()])
        params = {
            name: piece.reshape(shape)
            for piece, (name, shape) in zip(pieces, potential.shapes.items())
        }
        expected = energy(params)
        assert torch.allclose(value, expected, atol=1e-10)  # the same sums in another order
        assert torch.allclose(slope, torch.autograd.grad(expected, parts)[0], atol=1e-10)


def test_sites_are_in_their_supports_and_map_back() -> None:
    potential = Potential(mixed, {"y": Y})
    points = torch.randn(2, 3, potential.size)
    sites = potential.sites(points)
    assert sites["share"].shape == (2, 3, 3) and sites["z"].shape == (2, 3, 4)
    assert torch.allclose(sites["share"].sum(-1), torch.ones(2, 3))
    assert (sites["tau"] > 0).all() and ((sites["angle"] + 1) / 3).gt(0).all()
    one = {name: value[1, 2] for name, value in sites.items()}
    assert torch.allclose(potential.position(one), points[1, 2], atol=1e-10)
    with pytest.raises(ValueError, match="'mu': \\(\\)"):
        potential.position({"mu": torch.zeros(())})


def test_density_integrates_to_one_where_a_support_depends_on_a_site() -> None:
    """x ~ U(0, 1), y | x ~ U(0, x): on the unconstrained scale too the mass is 1."""

    def model() -> None:
        x = pyro.sample("x", dist.Uniform(0.0, 1.0))
        pyro.sample("y", dist.Uniform(0.0, x))

    potential, axis = Potential(model, {}), torch.linspace(-25, 25, 501)
    grid = torch.cartesian_prod(axis, axis)
    mass = (-potential.energy(grid)).exp().sum() * 0.1**2
    assert abs(mass - 1) < 1e-6  # the trapezoid rule converges geometrically for such functions
    sites = potential.sites(grid)
    assert (sites["y"] <= sites["x"]).all()


def test_weights_of_nets_and_parameters_that_are_no_sites() -> None:
    net = pv.Bayesian(nn.Linear(2, 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    batch = {"x": torch.randn(6, 2), "y": torch.randn(6, 1)}
    potential = Potential(model, batch)
    points = torch.randn(2, 3)
    for row, energy in zip(points, potential.energy(points)):
        sites = {name: value[0] for name, value in potential.sites(row[None]).items()}
        trace = poutine.trace(poutine.condition(model, data=sites)).get_trace(**batch)
        assert torch.allclose(energy, -trace.log_prob_sum())


def test_a_model_that_vmap_refuses_runs_row_by_row(caplog: pytest.LogCaptureFixture) -> None:
    def model() -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("bend", w if float(w) > 0 else 2 * w)

    with caplog.at_level(logging.WARNING):
        potential = Potential(model, {})
    assert not potential.batched and "vmap" in caplog.text
    points = torch.tensor([[1.0], [-1.0]])
    expected = 0.5 + 0.5 * math.log(2 * math.pi) - torch.tensor([1.0, -2.0])
    assert torch.allclose(potential.energy(points), expected)
    assert torch.equal(potential.sites(points)["w"], points[:, 0])


def test_refusals() -> None:
    def subsampled() -> None:
        with pyro.plate("rows", 10, subsample_size=3):
            pyro.sample("w", dist.Normal(0.0, 1.0))

    def random() -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("noise", w * torch.randn(()))

    for model, message in (
        (lambda: pyro.sample("k", dist.Poisson(3.0)), "'k' is discrete \\(Poisson\\)"),
        (lambda: None, "no latent sites"),
        (subsampled, "draws 3 of its 10 rows"),
        (random, "density of the model is random"),
    ):
        with pytest.raises(ValueError, match=message):
            Potential(model, {})


@pytest.mark.parametrize(
    ("kernel", "compiled"), [(NUTS, True), (lambda model: HMC(model, num_steps=5), False)]
)
def test_captured_kernels_draw_as_eager_ones(
    kernel: object,
    compiled: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NUTS compiles the potential; HMC replays it as it was captured."""
    if not compiled:
        monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    draws = {}
    for compile in ("off", "on"):
        pyro.set_rng_seed(1)
        options = dict(num_samples=10, warmup=0, num_chains=2, compile=compile)
        with caplog.at_level(logging.INFO):
            draws[compile] = mcmc(mixed, {"y": Y}, kernel, **options).draws
    for name, eager in draws["off"].items():
        assert torch.allclose(eager, draws["on"][name], atol=1e-5), name
    assert caplog.text.count("captured an evaluation") == 1  # both chains replay it
    assert "not compiled" not in caplog.text


@pytest.mark.parametrize(
    "kernel, message",
    [(NUTS, "value of a tensor decides"), (RandomWalkKernel, "RandomWalkKernel, expected")],
)
def test_what_cannot_be_captured_runs_eagerly_and_says_so(
    kernel: object, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    def model() -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("bend", w if w > 0 else 2 * w)

    with caplog.at_level(logging.WARNING):
        chains = mcmc(model, {}, kernel, num_samples=3, warmup=2, compile="on")
    assert chains.draws["w"].shape == (3, 1) and message in caplog.text


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="compile='fast'"):
        mcmc(mixed, {"y": Y}, NUTS, num_samples=1, warmup=0, compile="fast")


@pytest.mark.parametrize("sampler", ["chees", "mcmc"])
def test_rows_that_are_known_do_not_run_off(sampler: str) -> None:
    """`obs_mask` adds a latent number for each row; the posterior of the mean is that of the known
    ones."""
    y, known = torch.tensor([0.5, 3.0, 1.5, -1.0]), torch.tensor([True, False, True, False])

    def model(y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("data", 4):
            pyro.sample("y", dist.LogNormal(mean, 1.0), obs=y, obs_mask=known)

    if sampler == "chees":
        chains = chees(model, {"y": y.exp()}, num_samples=100, warmup=150, compile="off")
    else:
        chains = mcmc(model, {"y": y.exp()}, NUTS, num_samples=400, warmup=150, compile="off")
    assert not chains.divergent.any()
    exact, variance = float(y[known].sum()) / 2.25, 1 / 2.25
    draws = chains.draws["mean"].T.numpy()
    for values, moment in ((draws, exact), ((draws - exact) ** 2, variance)):
        error = values.std() / math.sqrt(float(arviz.ess(values, method="mean")))
        assert abs(values.mean() - moment) < 5 * error
    logs = chains.draws["y_unobserved"].log()
    assert float((logs - chains.draws["mean"][..., None]).abs().max()) < 8.0
