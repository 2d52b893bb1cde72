"""ElboLoss: exact, unbiased over minibatches, one scale whatever the batch, weights where they
belong."""

from collections.abc import Callable

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    JitTrace_ELBO,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.losses import PyroLoss
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

ELBOS = {"Trace": Trace_ELBO, "TraceGraph": TraceGraph_ELBO, "TraceMeanField": TraceMeanField_ELBO}


def vae() -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize(
    "particles", [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}]
)
@pytest.mark.parametrize(
    "oracle", [oracles.linear_gaussian, oracles.two_level, oracles.beta_bernoulli]
)
def test_loss_at_the_exact_posterior_is_minus_the_evidence(
    oracle: object, elbo: str, particles: dict
) -> None:
    if elbo == "TraceMeanField" and oracle is oracles.two_level:
        pytest.skip("not mean-field: z1 follows z2 in both")
    exact = oracle()
    loss = pv.ElboLoss(
        exact.model,
        exact.guide,
        elbo=ELBOS[elbo](**particles, max_plate_nesting=1 + (len(particles) > 1)),
    )
    if elbo != "TraceMeanField":  # zero variance, so that every draw is exact
        for _ in range(3):
            torch.testing.assert_close(
                -loss(**exact.batch), exact.log_px.mean(), atol=1e-10, rtol=0
            )
            torch.testing.assert_close(loss.terms.elbo, exact.log_px.mean(), atol=1e-10, rtol=0)
        return
    # a closed-form KL still leaves the noise of the reconstruction; each call makes 2 draws a datum
    batch = {
        name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in exact.batch.items()
    }
    draws = torch.stack([-loss(**batch).detach() for _ in range(100)])
    assert abs(draws.mean() - exact.log_px.mean()) <= 5 * draws.std() / 100**0.5 + 1e-10


@pytest.mark.parametrize("size", [1, 7, 12])
def test_minibatches_are_unbiased(size: int) -> None:
    oracle = oracles.linear_gaussian(num_data=12)
    loss, x = pv.ElboLoss(oracle.model, oracle.guide), oracle.batch["x"]
    batches = x.split(size)
    assert len(batches[-1]) != size or size != 7, "7 leaves a ragged last batch"
    average = sum(len(batch) * loss(x=batch) for batch in batches) / 12
    torch.testing.assert_close(-average, oracle.log_px.mean(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 12])
def test_minibatches_with_global_weights_are_unbiased(size: int) -> None:
    model, guide, batch, exact = oracles.linear_regression(num_data=12)
    loss = pv.ElboLoss(model, guide, num_data=12)
    total = 0.0
    for x, y in zip(batch["x"].split(size), batch["y"].split(size)):
        torch.manual_seed(5)  # the same draw of the weights for each part of the data
        total = total + len(x) * loss(x=x, y=y)
        torch.manual_seed(5)
        loss(x=x, y=y)
    torch.testing.assert_close(-total, exact, atol=1e-9, rtol=0)


def test_global_weights_need_the_number_of_data() -> None:
    model, guide, batch, _ = oracles.linear_regression()
    with pytest.raises(pv.PairError, match="number of data N, which is unknown"):
        pv.ElboLoss(model, guide)(**batch)


def test_subsampling_plate_scales_itself() -> None:
    oracle = oracles.linear_gaussian(num_data=12)
    likelihood, posterior = oracle.model.nodes["x"], oracle.guide.nodes["z"]

    def model(x: Tensor) -> None:
        with pyro.plate("data", 12, subsample_size=4, dim=-1) as rows:
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", likelihood({"z": z}), obs=x[rows])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", 12, subsample_size=4, dim=-1) as rows:
            pyro.sample("z", posterior({"x": x[rows]}))

    loss = pv.ElboLoss(model, guide)
    draws = torch.stack([loss(**oracle.batch).detach() for _ in range(300)])
    assert abs(draws.mean() + oracle.log_px.mean()) < 5 * draws.std() / 300**0.5


def test_beta_weighs_the_kl_alone() -> None:
    model, guide = vae()
    x, values = torch.ones(5, 4), {}
    for beta in (0.0, 1.0, 3.0):
        torch.manual_seed(1)
        loss = pv.ElboLoss(model, guide, beta=beta)
        values[beta] = loss(x=x)
        terms = loss.terms
        torch.testing.assert_close(values[beta], -terms.reconstruction + beta * terms.kl["z"])
    torch.testing.assert_close(terms.elbo, -values[1.0])


def test_warmup_counts_training_steps_only() -> None:
    model, guide = vae()
    loss = pv.ElboLoss(model, guide, beta=pv.LinearWarmup(4, start=0.2))
    loss.eval()
    loss(x=torch.ones(5, 4))
    loss.train()
    betas = []
    for _ in range(6):
        betas.append(float(loss.beta.value()))
        loss(x=torch.ones(5, 4))
    assert betas == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    with pytest.raises(ValueError, match="num_steps=0"):
        pv.LinearWarmup(0)


def test_free_bits_put_a_floor_under_the_kl() -> None:
    model, guide = vae()
    x = torch.ones(5, 4)
    torch.manual_seed(1)
    plain = pv.ElboLoss(model, guide)
    free = pv.ElboLoss(model, guide, free_bits=50.0)
    value = plain(x=x)
    torch.manual_seed(1)
    floored = free(x=x)
    torch.testing.assert_close(floored, value + 50.0 - plain.terms.kl["z"])
    # Below the floor the KL pulls no more: its gradient is that of the reconstruction alone.
    torch.manual_seed(1)
    reconstruction = pv.ElboLoss(model, guide, beta=0.0)(x=x)
    for got, expected in zip(
        torch.autograd.grad(floored, list(guide.parameters())),
        torch.autograd.grad(reconstruction, list(guide.parameters())),
    ):
        torch.testing.assert_close(got, expected)
    torch.manual_seed(1)
    torch.testing.assert_close(
        pv.ElboLoss(model, guide, free_bits=1e-9)(x=x), value, atol=1e-8, rtol=0
    )
    with pytest.raises(ValueError, match="free_bits=-1"):
        pv.ElboLoss(model, guide, free_bits=-1)


def test_closed_form_kl_is_the_closed_form() -> None:
    model, guide = vae()
    x = torch.ones(5, 4)
    torch.manual_seed(1)
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    value = loss(x=x)
    q = guide.nodes["z"]({"x": x}).base_dist
    kl = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum(-1).mean()
    torch.testing.assert_close(value, -loss.terms.reconstruction + kl)


def test_enumeration_sums_a_class_out() -> None:
    logits = nn.Parameter(torch.randn(3))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(y.to(x.dtype), 1.0), obs=x)

    x = torch.randn(6)
    loss = pv.ElboLoss(model, lambda x: None, elbo=TraceEnum_ELBO(max_plate_nesting=1))
    exact = (
        (logits.log_softmax(0) + dist.Normal(torch.arange(3.0), 1.0).log_prob(x[:, None]))
        .logsumexp(-1)
        .mean()
    )
    torch.testing.assert_close(-loss(x=x), exact)


@pytest.mark.parametrize(
    ("elbo", "message"),
    [
        (RenyiELBO(num_particles=2), "inside a logarithm"),
        (TraceTMC_ELBO(), "inside a logarithm"),
        (TraceTailAdaptive_ELBO(num_particles=2, vectorize_particles=True), "inside a logarithm"),
        (JitTrace_ELBO(), "no differentiable loss"),
        (Trace_ELBO, "is a class; pass an instance"),
    ],
)
def test_estimators_that_would_mislead_are_refused(elbo: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pv.ElboLoss(*vae(), elbo=elbo)


def test_the_users_estimator_is_not_changed() -> None:
    elbo = Trace_ELBO()
    pv.ElboLoss(*vae(), elbo=elbo)(x=torch.ones(5, 4))
    assert elbo.max_plate_nesting == float("inf") and "_get_trace" not in vars(elbo)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO])
def test_score_function_gradients_are_unbiased(elbo: type) -> None:
    # A Bernoulli latent has no pathwise gradient: Pyro's surrogate must survive the scaling. Exact
    # gradient by summing.
    logit, weight = nn.Parameter(torch.tensor(0.3)), torch.tensor(1.5)
    x = torch.randn(4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(weight * z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=logit))

    q = logit.sigmoid()
    log_joint = torch.stack(
        [dist.Normal(0.0, 1.0).log_prob(x).mean(), dist.Normal(weight, 1.0).log_prob(x).mean()]
    )
    bound = (1 - q) * (log_joint[0] + torch.tensor(0.5).log() - (1 - q).log()) + q * (
        log_joint[1] + torch.tensor(0.5).log() - q.log()
    )
    (exact,) = torch.autograd.grad(-bound, logit)
    loss = pv.ElboLoss(model, guide, elbo=elbo())
    many = x.repeat(20)  # rows are drawn each for itself: a call makes 20 of 2000 repeats
    draws = torch.stack([torch.autograd.grad(loss(x=many), logit)[0] for _ in range(100)])
    assert abs(draws.mean() - exact) < 5 * draws.std() / 100**0.5
    with pytest.raises(TypeError, match="score-function gradient"):
        pv.ElboLoss(model, guide, free_bits=1.0)(x=x)


@pytest.mark.parametrize("elbo", ELBOS.values())
def test_gradients_are_those_of_pyro(elbo) -> None:
    """Of the same draws, per datum: SGD, clipping and free bits see no other scale."""
    oracle = oracles.linear_gaussian(shift=0.3)
    loss = pv.ElboLoss(oracle.model, oracle.guide, elbo=elbo())
    parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    torch.manual_seed(0)
    ours = torch.autograd.grad(loss(**oracle.batch), parameters)
    torch.manual_seed(0)
    for parameter in parameters:
        parameter.grad = None
    elbo(max_plate_nesting=1).loss_and_grads(
        *pv.as_svi(oracle.model, oracle.guide), **oracle.batch
    )
    pyro.clear_param_store()
    for parameter, gradient in zip(parameters, ours):
        torch.testing.assert_close(
            gradient, parameter.grad / len(oracle.log_px), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyro.infer.RenyiELBO(num_particles=3),
        lambda: pyro.infer.Trace_ELBO(),
        lambda: pyro.infer.TraceGraph_ELBO(),
        lambda: pyro.infer.ReweightedWakeSleep(num_particles=3, vectorize_particles=False),
    ],
)
def test_estimators_with_a_backward_pass_of_their_own(
    make: Callable, uses_param_store: None
) -> None:
    """Value and gradients are those that loss_and_grads leaves, over B."""
    oracle = oracles.linear_gaussian()
    parameters = [*oracle.model.parameters(), *oracle.guide.parameters()]
    torch.manual_seed(0)
    value = make().loss_and_grads(oracle.model, oracle.guide, **oracle.batch)
    expected = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    torch.manual_seed(0)
    loss = PyroLoss(oracle.model, oracle.guide, make())(**oracle.batch)
    size = len(oracle.batch["x"])
    assert float(loss.detach()) == pytest.approx(
        (value[0] if isinstance(value, tuple) else value) / size, rel=1e-12
    )
    for grad, got in zip(expected, torch.autograd.grad(loss, parameters, allow_unused=True)):
        assert (grad is None) == (got is None)
        if grad is not None:
            torch.testing.assert_close(got, grad / size, rtol=1e-12, atol=1e-12)
    with pytest.raises(TypeError, match="loss_and_grads"):
        PyroLoss(oracle.model, oracle.guide, "elbo")
