"""Objectives beside the plain ELBO: importance-weighted bounds and their gradients, capacity,
penalties, lagging guides."""

import math
from collections.abc import Callable

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from oracles import log_mean_exp
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.detach import frozen
from pyrovae.heads import BernoulliHead, FixedScaleNormalHead, MixtureNormalHead, NormalHead
from pyrovae.losses import CapacityLoss, Lagging, Penalized, squared_jacobian
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF, FlowPosterior, NonReparameterized, PlanarPosterior
from pyrovae.priors import StandardNormal, VampPrior
from pyrovae.training.hooks import Checkpoint

X = torch.eye(2, dtype=torch.float64)[torch.arange(20) % 2].repeat_interleave(2, dim=1)
ORACLES = [oracles.linear_gaussian, oracles.two_level, oracles.beta_bernoulli]
GRADIENTS = ["plain", "stl", "dreg"]


def vae() -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))


# --- importance-weighted bounds
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -1.0])
def test_the_bound_is_that_of_the_log_weights(gradient: str, alpha: float) -> None:
    model, guide = vae()
    torch.manual_seed(1)
    log_w = pv.log_weights(model, guide, {"x": X}, 7)
    bound = log_w.mean(0) if alpha == 1 else log_mean_exp((1 - alpha) * log_w) / (1 - alpha)
    loss = pv.IwaeLoss(model, guide, num_particles=7, gradient=gradient, alpha=alpha)
    for context in (torch.enable_grad, torch.no_grad):
        torch.manual_seed(1)
        with context():
            torch.testing.assert_close(-loss(x=X), bound.mean(), atol=1e-12, rtol=0)
            torch.testing.assert_close(loss.terms.elbo, log_w.mean(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_every_bound_at_the_exact_posterior_is_minus_the_evidence(
    oracle: Callable, gradient: str
) -> None:
    exact = oracle()
    for alpha in (0.0, 0.5, 1.0, -2.0):
        for num_particles in (1, 4):
            loss = pv.IwaeLoss(
                exact.model,
                exact.guide,
                num_particles=num_particles,
                gradient=gradient,
                alpha=alpha,
            )
            torch.testing.assert_close(
                -loss(**exact.batch), exact.log_px.mean(), atol=1e-10, rtol=0
            )


@pytest.mark.parametrize("oracle", [oracles.linear_gaussian, oracles.two_level])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_only_the_plain_gradient_is_noisy_at_the_exact_posterior(
    oracle: Callable, alpha: float
) -> None:
    exact = oracle()
    largest = {}
    for gradient in GRADIENTS:
        loss = pv.IwaeLoss(
            exact.model, exact.guide, num_particles=4, gradient=gradient, alpha=alpha
        )
        gradients = torch.autograd.grad(loss(**exact.batch), list(exact.guide.parameters()))
        largest[gradient] = max(float(g.abs().max()) for g in gradients)
    assert largest["stl"] < 1e-10 and largest["dreg"] < 1e-10 and largest["plain"] > 1e-2


def hierarchy() -> pv.Guide:
    return pv.Guide(
        z=pv.Node(NormalHead(MLP(3, [4], 4)), "x"), h=pv.Node(NormalHead(MLP(5, [4], 4)), "x", "z")
    )


GUIDES: dict[str, Callable[[], nn.Module]] = {
    "normal": lambda: NormalHead(MLP(3, [4], 4)),
    "iaf": lambda: IAF(NormalHead(MLP(3, [4], 4)), 2, 3, transforms=1, hidden=(4,)),
    "coupling": lambda: FlowPosterior(
        NormalHead(MLP(3, [4], 4)),
        zuko.flows.RealNVP(2, 3, transforms=2, hidden_features=(4,)).transform.inv,
    ),
    "planar": lambda: PlanarPosterior(
        NormalHead(MLP(3, [4], 4)), MLP(3, [4], 10), 2, transforms=2
    ),
    "mixture": lambda: MixtureNormalHead(MLP(3, [4], 10), 2, 2),
    "hierarchy": hierarchy,
}


def pair_with(guide: str) -> tuple[nn.Module, nn.Module]:
    if guide == "hierarchy":
        model = pv.Model(
            z=StandardNormal(2),
            h=pv.Node(FixedScaleNormalHead(MLP(2, [4], 2), scale=1.0), "z"),
            x=pv.Node(FixedScaleNormalHead(MLP(4, [4], 3), scale=1.0), "h", "z"),
        )
        return model.double(), GUIDES[guide]().double()
    model = pv.Model(
        z=StandardNormal(2), x=pv.Node(FixedScaleNormalHead(MLP(2, [4], 3), scale=1.0), "z")
    )
    return model.double(), pv.Guide(z=pv.Node(GUIDES[guide](), "x")).double()


def gradient_draws(guide: str, num_particles: int = 3, **options: object) -> tuple[Tensor, Tensor]:
    """Gradients of the guide's and of the model's parameters, one row a draw, each averaged over
    200 copies of two data.

    Every call draws the same latent values from the same nets.
    """
    torch.manual_seed(2)
    model, q = pair_with(guide)
    loss = pv.IwaeLoss(model, q, num_particles=num_particles, **options)
    x = torch.randn(2, 3).repeat(200, 1)
    parts = list(q.parameters()), list(model.parameters())
    rows = [torch.autograd.grad(loss(x=x), [*parts[0], *parts[1]]) for _ in range(40)]
    flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    return flat.split([sum(p.numel() for p in part) for part in parts], dim=1)


def z_scores(differences: Tensor) -> Tensor:
    """Of the mean over rows being zero."""
    error = differences.std(0) / len(differences) ** 0.5
    return (differences.mean(0) / error)[error > 1e-12]


@pytest.mark.parametrize(
    ("guide", "alpha", "gradients"),
    [
        *((guide, 1.0, ("stl",)) for guide in GUIDES if guide != "normal"),
        ("normal", 1.0, ("dreg", "stl")),
        *((guide, 0.0, ("dreg",)) for guide in GUIDES),
        *((guide, 0.5, ("dreg",)) for guide in ("normal", "hierarchy")),
    ],
)
def test_dreg_and_stl_gradients_are_unbiased(
    guide: str, alpha: float, gradients: tuple[str, ...]
) -> None:
    """Each gradient with every guide, and with every order."""
    plain, plain_model = gradient_draws(guide, gradient="plain", alpha=alpha)
    for gradient in gradients:
        got, got_model = gradient_draws(guide, gradient=gradient, alpha=alpha)
        z = z_scores(got - plain)
        assert z.abs().mean() < 1.5 and z.abs().max() < 5
        torch.testing.assert_close(got_model, plain_model, atol=1e-12, rtol=0)


def test_stl_is_unbiased_for_one_particle_and_biased_for_a_bound_of_several() -> None:
    differences = {
        num: gradient_draws("normal", gradient="stl", num_particles=num)[0]
        - gradient_draws("normal", num_particles=num)[0]
        for num in (1, 3)
    }
    assert z_scores(differences[1]).abs().mean() < 1.5
    assert z_scores(differences[3]).abs().mean() > 5


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_dreg_and_stl_gradients_are_quieter_near_the_posterior(alpha: float) -> None:
    near = oracles.linear_gaussian(shift=0.2, spread=1.1)
    total = {}
    for gradient in GRADIENTS:
        loss = pv.IwaeLoss(near.model, near.guide, num_particles=5, gradient=gradient, alpha=alpha)
        rows = [
            torch.autograd.grad(loss(**near.batch), list(near.guide.parameters()))
            for _ in range(100)
        ]
        total[gradient] = sum(float(torch.stack(part).var(0).sum()) for part in zip(*rows))
    assert total["dreg"] < 0.2 * total["plain"] and total["stl"] < 0.2 * total["plain"]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_iwae_refuses_draws_without_a_path(gradient: str) -> None:
    model, guide = vae()
    guide = pv.Guide(z=pv.Node(NonReparameterized(guide.nodes["z"].conditional), "x"))
    with pytest.raises(TypeError, match="latent site 'z' is not reparameterised"):
        pv.IwaeLoss(model, guide, num_particles=3, gradient=gradient)(x=X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "num_particles=0"),
        ({"num_particles": 2, "gradient": "score"}, "expected one of plain, stl, dreg"),
        ({"num_particles": 2, "alpha": math.inf}, "a finite order"),
    ],
)
def test_iwae_says_what_it_wants(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pv.IwaeLoss(*vae(), **options)


def test_iwae_refuses_weights_outside_the_plate() -> None:
    model, guide, batch, _ = oracles.linear_regression()
    with pytest.raises(pv.PairError, match="lies outside plate 'data'"):
        pv.IwaeLoss(model, guide, num_particles=3)(**batch)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_iwae_trains_and_resumes(gradient: str, tmp_path: object) -> None:
    def run(epochs: int, **options: object) -> pv.History:
        torch.manual_seed(4)
        return pv.fit(
            pv.IwaeLoss(*vae(), num_particles=5, gradient=gradient),
            [{"x": X}],
            valid=[{"x": X}],
            epochs=epochs,
            lr=2e-2,
            **options,
        )

    whole = run(30)
    run(25, hooks=[Checkpoint(tmp_path / "run")])
    again = run(30, resume=tmp_path / "run")
    assert again["loss"] == whole["loss"] and again["valid_loss"] == whole["valid_loss"]
    assert whole["valid_loss"][-1] < whole["valid_loss"][0] - 0.2
    assert all(-loss >= elbo for loss, elbo in zip(whole["valid_loss"], whole["valid_elbo"]))


# --- parameters held fixed
# ------------------------------------------------------------------------------------------


class PyroPosterior(pyro.nn.PyroModule):
    """The linear-Gaussian posterior as a PyroModule whose scale is constrained."""

    def __init__(self, weight: Tensor, bias: Tensor, scale_tril: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = pyro.nn.PyroParam(bias)
        self.scale_tril = pyro.nn.PyroParam(scale_tril, constraint=dist.constraints.lower_cholesky)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample(
                "z",
                dist.MultivariateNormal(x @ self.weight.T + self.bias, scale_tril=self.scale_tril),
            )


def exact_guides() -> dict[str, tuple[oracles.Oracle, object]]:
    """The exact posterior, its parameters held by a module, by `pyro.param`, by a PyroModule and
    by a function's net."""
    oracle = oracles.linear_gaussian()
    posterior = oracle.guide.nodes["z"].conditional
    weight, bias, tril = (
        p.detach().clone() for p in (posterior.weights[0], posterior.bias, posterior.scale_tril)
    )

    def with_params(x: Tensor) -> None:
        loc = x @ pyro.param("weight", weight).T + pyro.param("bias", bias)
        scale_tril = pyro.param("tril", tril, constraint=dist.constraints.lower_cholesky)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=scale_tril))

    def with_net(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", posterior(x))

    return {
        "pyro.param": (oracle, with_params),
        "PyroModule": (oracle, PyroPosterior(weight, bias, tril)),
        "function": (oracle, with_net),
    }


@pytest.mark.usefixtures("uses_param_store")
@pytest.mark.parametrize("kind", ["pyro.param", "PyroModule", "function"])
@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_guides_of_every_origin_are_held_fixed_where_they_are_scored(
    kind: str, gradient: str
) -> None:
    oracle, guide = exact_guides()[kind]
    for name, bound in ((gradient, 1e-10), ("plain", math.inf)):
        loss = pv.IwaeLoss(oracle.model, guide, num_particles=4, gradient=name)
        value = loss(**oracle.batch)
        torch.testing.assert_close(-value, oracle.log_px.mean(), atol=1e-10, rtol=0)
        loss.zero_grad()
        value.backward()
        store = pyro.get_param_store()
        held = [store[key].unconstrained() for key in store] + list(
            loss.guide.parameters() if kind == "PyroModule" else ()
        )
        if kind == "function":
            held = list(oracle.guide.parameters())
        assert len(held) == 3 and all(p.grad is not None for p in held)
        largest = max(float(p.grad.abs().max()) for p in held)
        assert largest < bound and (name != "plain" or largest > 1e-2)
        for p in held:
            p.grad = None


def test_freezing_ends_with_the_block_and_leaves_other_graphs_alone() -> None:
    net = nn.Linear(2, 1)
    before = net(torch.ones(2))
    with pytest.raises(RuntimeError, match="stop"), frozen(net):
        assert not net.weight.requires_grad and not net(torch.ones(2)).requires_grad
        raise RuntimeError("stop")
    (before + net(torch.ones(2))).backward()
    assert isinstance(net.weight, nn.Parameter) and torch.equal(
        net.weight.grad, torch.full((1, 2), 2.0)
    )


# --- capacity
# -------------------------------------------------------------------------------------------------------


def test_capacity_is_its_formula_and_reports_the_elbo() -> None:
    model, guide = vae()
    torch.manual_seed(1)
    elbo = pv.ElboLoss(model, guide)
    plain, kl = elbo(x=X), elbo.terms.kl["z"]
    for capacity in (0.0, 3.0):
        torch.manual_seed(1)
        loss = CapacityLoss(model, guide, capacity=capacity, gamma=7.0)
        torch.testing.assert_close(
            loss(x=X), plain - kl + 7 * (kl - capacity).abs(), atol=1e-12, rtol=0
        )
        torch.testing.assert_close(loss.inner.terms.elbo, -plain.detach(), atol=1e-12, rtol=0)


def test_capacity_draws_the_kl_to_its_value_and_resumes(tmp_path: object) -> None:
    def run(epochs: int, **options: object) -> pv.History:
        torch.manual_seed(4)
        loss = CapacityLoss(*vae(), capacity=pv.LinearWarmup(100, stop=0.4), gamma=10.0)
        decay = lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)  # noqa: E731
        return pv.fit(loss, [{"x": X}], epochs=epochs, lr=2e-2, schedule=decay, **options)

    whole = run(200)
    run(60, hooks=[Checkpoint(tmp_path / "run")])
    assert run(200, resume=tmp_path / "run")["loss"] == whole["loss"]
    # the KL is an average over 20 data of single draws: their noise is about 0.1 nats, and 50
    # epochs average it
    assert sum(whole["kl"][-50:]) / 50 == pytest.approx(0.4, abs=0.1)


def test_capacity_refuses_what_it_cannot_hold() -> None:
    model, guide = vae()
    with pytest.raises(ValueError, match="gamma=-1"):
        CapacityLoss(model, guide, capacity=1.0, gamma=-1)
    scored = pv.Guide(z=pv.Node(NonReparameterized(guide.nodes["z"].conditional), "x"))
    with pytest.raises(TypeError, match="latent site 'z' is not reparameterised"):
        CapacityLoss(model, scored, capacity=1.0)(x=X)


def test_free_bits_refuse_a_kl_that_enumeration_sums_out() -> None:
    net = MLP(1, [], 4)

    def classes(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            pyro.sample(
                "x", dist.Bernoulli(logits=net(y.unsqueeze(-1).double())).to_event(1), obs=x
            )

    with pytest.raises(
        TypeError, match="free_bits: the KL of each site is needed, which enumeration sums out"
    ):
        pv.ElboLoss(
            classes, lambda x: None, free_bits=1.0, elbo=TraceEnum_ELBO(max_plate_nesting=1)
        )(x=X)


# --- penalties
# ------------------------------------------------------------------------------------------------------


def test_a_penalty_adds_in_training_only() -> None:
    model, guide = vae()
    loss = Penalized(pv.ElboLoss(model, guide), lambda x: x.sum(), weight=0.5)
    values = {}
    for training in (True, False):
        loss.train(training)
        torch.manual_seed(1)
        values[training] = loss(x=X)
    torch.testing.assert_close(values[True], values[False] + 0.5 * X.sum())
    torch.testing.assert_close(-loss.inner.terms.elbo, values[False])


def test_a_penalty_trains_and_may_have_parameters_of_its_own() -> None:
    class Pull(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.target = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return (self.target - 1).square()

    pull = Pull()
    history = pv.fit(
        Penalized(pv.ElboLoss(*vae()), pull), [{"x": X}], valid=[{"x": X}], epochs=50, lr=5e-2
    )
    assert pull.target.item() == pytest.approx(1.0, abs=0.2)
    assert history["valid_loss"][-1] == pytest.approx(-history["valid_elbo"][-1])


def test_squared_jacobian_is_the_jacobian_squared() -> None:
    net, x = MLP(3, [5], 2, nn.Tanh), torch.randn(4, 3)
    jacobians = torch.stack([torch.autograd.functional.jacobian(net, row) for row in x])
    draws = torch.stack([squared_jacobian(net, x).detach() for _ in range(2000)])
    exact = jacobians.square().sum((1, 2)).mean()
    assert abs(draws.mean() - exact) < 5 * draws.std() / 2000**0.5
    mean = squared_jacobian(net, x, num_draws=500)
    assert abs(mean - exact) < 5 * draws.std() / 500**0.5
    scale = torch.tensor(3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        squared_jacobian(lambda x: scale * x, torch.ones(2000, 1), num_draws=50), scale
    )
    assert gradient == pytest.approx(
        6.0, abs=5 * 6 * 2**0.5 / 100_000**0.5
    )  # d/ds s^2 v^2 = 6 v^2, of variance 2 * 6^2
    with torch.no_grad():
        assert torch.isfinite(squared_jacobian(net, x))


# --- lagging guides
# -------------------------------------------------------------------------------------------------


def test_the_model_moves_in_every_third_step() -> None:
    model, guide = vae()
    loss = Lagging(pv.ElboLoss(model, guide), guide_steps=3, stop_after=7)
    moved = []
    for _ in range(10):
        loss.zero_grad()
        loss(x=X).backward()
        moved.append(all(p.grad is not None for p in model.parameters()))
        assert moved[-1] or all(p.grad is None for p in model.parameters())
        assert all(p.grad is not None for p in guide.parameters())
    assert moved == [True, False, False, True, False, False, True, True, True, True]
    with pytest.raises(ValueError, match="guide_steps=0"):
        Lagging(loss, guide_steps=0)


def test_lagging_keeps_the_loss_and_counts_training_steps_alone() -> None:
    model, guide = vae()
    inner = pv.ElboLoss(model, guide)
    loss = Lagging(inner, guide_steps=2)
    for training in (True, True, False, False):
        loss.train(training)
        torch.manual_seed(1)
        value = loss(x=X)
        torch.manual_seed(1)
        torch.testing.assert_close(value, inner(x=X))
        assert value.requires_grad
    assert loss.step == 2


def test_what_model_and_guide_share_moves_with_the_model() -> None:
    encoder = NormalHead(MLP(4, [8], 4))
    model = pv.Model(
        z=VampPrior(encoder, torch.rand(3, 4)), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")
    )
    extra = MLP(4, [3], 5)
    guide = pv.Guide(z=pv.Node(PlanarPosterior(encoder, extra, 2, transforms=1), "x"))
    loss = Lagging(pv.ElboLoss(model, guide), guide_steps=2)
    loss(x=X)
    loss(x=X).backward()
    assert all(p.grad is None for p in encoder.parameters()) and all(
        p.grad is not None for p in extra.parameters()
    )


def test_a_guide_that_is_all_the_model_s_is_refused_in_its_own_steps() -> None:
    encoder = NormalHead(MLP(4, [8], 4))
    model = pv.Model(
        z=VampPrior(encoder, torch.rand(3, 4)), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")
    )
    loss = Lagging(pv.ElboLoss(model, pv.Guide(z=pv.Node(encoder, "x"))), guide_steps=2)
    loss(x=X)
    with pytest.raises(pv.PairError, match="an encoder of its own"):
        loss(x=X)


@pytest.mark.parametrize(
    "inner",
    [
        pv.ElboLoss,
        lambda model, guide: CapacityLoss(model, guide, capacity=1.0),
        lambda model, guide: pv.IwaeLoss(model, guide, num_particles=3, gradient="dreg"),
    ],
)
def test_lagging_trains_resumes_and_goes_on(inner: Callable, tmp_path: object) -> None:
    def run(epochs: int, **options: object) -> tuple[Lagging, pv.History]:
        torch.manual_seed(4)
        loss = Lagging(inner(*vae()), guide_steps=3)
        return loss, pv.fit(loss, [{"x": X}], epochs=epochs, lr=1e-2, **options)

    loss, whole = run(8)
    run(4, hooks=[Checkpoint(tmp_path / "run")])
    assert run(8, resume=tmp_path / "run")[1]["loss"] == whole["loss"]
    assert loss.step == 8
    pv.fit(
        loss, [{"x": X}], epochs=1
    )  # begins in a step of the guide: the model's parameters are not idle for that


# --- scales that programs give their data
# -------------------------------------------------------------------------------


def shifted(scale: float | Tensor, mean: float = 1.0) -> tuple[Callable, Callable, nn.Parameter]:
    """z ~ N(0, 1) in the prior and N(m, 1) in the guide, so that KL = m^2 / 2; x = z + noise pulls
    m upwards."""
    loc = nn.Parameter(torch.tensor(mean))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.poutine.scale(scale=scale):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(0.0 * z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.poutine.scale(scale=scale):
            pyro.sample("z", dist.Normal(loc, 1.0))

    model.loc = guide.loc = loc
    return model, guide, loc


@pytest.mark.parametrize(
    "scale", [1.0, 0.1, 3.0, torch.tensor([0.5, 2.0, 0.2, 1.0], dtype=torch.float64)]
)
def test_free_bits_and_capacity_know_the_scale_of_the_data(scale: float | Tensor) -> None:
    """Nothing pulls at the guide's mean but the KL: it rests where that is 1/2, at 1, whatever the
    data weigh."""
    x, weight = torch.zeros(4), float(torch.as_tensor(scale).mean())
    for m, free, held in ((0.5, 0.0, -1.0), (2.0, 1.0, 1.0)):
        model, guide, loc = shifted(scale, m)
        elbo = TraceMeanField_ELBO()
        pv.ElboLoss(model, guide, free_bits=0.5, elbo=elbo)(x=x).backward()
        assert loc.grad.item() == pytest.approx(free * weight * m, abs=1e-12)
        loc.grad = None
        CapacityLoss(model, guide, capacity=0.5, gamma=7.0, elbo=elbo)(x=x).backward()
        assert loc.grad.item() == pytest.approx(held * 7.0 * weight * m, abs=1e-12)


def test_penalties_take_the_closed_form_where_it_was_asked_for() -> None:
    """At q = p the KL is 0 exactly; by Monte Carlo it is too, but of a capacity it is not."""
    model, guide, _ = shifted(1.0, 2.0)
    x = torch.zeros(4)
    value = CapacityLoss(model, guide, capacity=2.0, gamma=1000.0, elbo=TraceMeanField_ELBO())(x=x)
    assert value.item() == pytest.approx(
        0.5 * math.log(2 * math.pi), abs=1e-10
    )  # the data's density alone
    inner = pv.ElboLoss(model, guide, free_bits=2.0, elbo=TraceMeanField_ELBO())(x=x)
    assert inner.item() == pytest.approx(0.5 * math.log(2 * math.pi) + 2.0, abs=1e-10)


@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg"])
def test_iwae_weighs_the_data_as_the_programs_do(gradient: str) -> None:
    model, guide = vae()
    weights = torch.linspace(0.2, 3.0, len(X))
    scaled = [pyro.poutine.scale(program, scale=weights) for program in (model, guide)]
    torch.manual_seed(1)
    loss = pv.IwaeLoss(*scaled, num_particles=3, gradient=gradient)
    value = loss(x=X)
    torch.manual_seed(1)
    bound = pv.log_weights(model, guide, {"x": X}, 3).logsumexp(0) - math.log(3)
    torch.testing.assert_close(value, -(weights * bound).mean(), atol=1e-12, rtol=0)
    if gradient == "plain":
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        for one, other in zip(
            gradients, torch.autograd.grad(-(weights * bound).mean(), list(model.parameters()))
        ):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_a_weight_of_two_is_a_datum_that_is_there_twice() -> None:
    model, guide = vae()
    twice = torch.ones(len(X)).index_fill(0, torch.tensor([0]), 2.0)
    scaled = [pyro.poutine.scale(program, scale=twice) for program in (model, guide)]
    for make in (
        lambda pair: pv.IwaeLoss(*pair, num_particles=1),
        lambda pair: pv.ElboLoss(*pair),
    ):
        torch.manual_seed(1)
        value = make(scaled)(x=X) * len(X)
        torch.manual_seed(1)
        log_w = pv.log_weights(model, guide, {"x": X}, 1)[0]
        torch.testing.assert_close(value, -(log_w.sum() + log_w[0]), atol=1e-10, rtol=0)


def test_iwae_refuses_sites_of_unequal_scale() -> None:
    model, guide = vae()

    def annealed(x: Tensor) -> None:
        pyro.poutine.scale(guide, scale=0.5)(x=x)

    with pytest.raises(
        pv.PairError, match="sites 'x' and 'z' of one datum are scaled differently"
    ):
        pv.IwaeLoss(model, annealed, num_particles=2)(x=X)
