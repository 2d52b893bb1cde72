"""What single heads promise beyond the conformance suite: their layout, closed forms, and numbers
far from the middle."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    AutoregressiveBernoulliHead,
    BetaHead,
    CategoricalHead,
    DeltaHead,
    DiscretizedLogisticMixtureHead,
    FixedScaleNormalHead,
    FullRankNormalHead,
    LowRankNormalHead,
    MixtureNormalHead,
    NegativeBinomialHead,
    NormalHead,
    PoissonHead,
    StudentTHead,
)
from pyrovae.heads.level_mixture import DiscretizedLogisticMixture
from pyrovae.heads.mixture_normal import PathwiseMixture
from pyrovae.nets import MLP, Standardized
from pyrovae.priors import StandardNormal


def test_full_rank_normal_reads_its_numbers_row_by_row() -> None:
    numbers = torch.randn(5, 9)
    fn = FullRankNormalHead(nn.Identity(), 3, min_scale=0.5)(numbers)
    s, (a, b, c) = 0.5 + numbers[0, 3:6].exp(), numbers[0, 6:] / math.sqrt(3)
    tril = torch.tensor([[s[0], 0, 0], [a, s[1], 0], [b, c, s[2]]])
    torch.testing.assert_close(fn.covariance_matrix[0], tril @ tril.T)
    torch.testing.assert_close(fn.mean, numbers[:, :3])


def test_low_rank_normal_is_the_dense_normal() -> None:
    numbers = torch.randn(5, 3 * 4)
    fn = LowRankNormalHead(nn.Identity(), 3, 2, min_scale=0.5)(numbers)
    factors = numbers[:, 6:].reshape(5, 3, 2) / math.sqrt(3)
    diagonal = torch.diag_embed((0.5 + numbers[:, 3:6].exp()) ** 2)
    dense = dist.MultivariateNormal(numbers[:, :3], factors @ factors.mT + diagonal)
    x = torch.randn(4, 5, 3)
    torch.testing.assert_close(fn.log_prob(x), dense.log_prob(x))
    torch.testing.assert_close(fn.expand((4, 5)).log_prob(x), dense.log_prob(x))


def test_low_rank_normal_scores_exactly_in_float32_and_under_autocast() -> None:
    numbers = torch.randn(5, 50 * 7)
    numbers[:, 50:100] = math.log(1e-3)  # float32 loses whole nats of this Mahalanobis distance
    head = LowRankNormalHead(nn.Identity(), 50, 5)
    fn = head(numbers)
    x = fn.sample().float()
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            single = head(numbers.float()).log_prob(x)
        exact = head(numbers.float().double()).log_prob(x.double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(
            single.double(), exact, rtol=1e-5, atol=0
        )  # float32 rounds the variances alone


@pytest.mark.parametrize("features", [2, 50])
def test_fresh_correlated_normals_are_near_the_identity(features: int) -> None:
    """Without the square root of the features in L and W, eigenvalues at 50 features are off by
    another factor of ten."""
    for head in (
        FullRankNormalHead(MLP(10, [64], features + features * (features + 1) // 2), features),
        LowRankNormalHead(MLP(10, [64], features * 5), features, 3),
    ):
        variances = torch.linalg.eigvalsh(head(torch.randn(20, 10)).covariance_matrix)
        assert variances.log().abs().max() < 3


@pytest.mark.parametrize(
    "head, numbers",
    [
        (lambda net: FullRankNormalHead(net, 2), 5),
        (lambda net: LowRankNormalHead(net, 2, 1), 6),
        (lambda net: MixtureNormalHead(net, 2, 3), 15),
    ],
)
def test_real_heads_guide_and_explain(head: object, numbers: int) -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(head(MLP(2, [8], numbers)), "z"))
    guide = pv.Guide(z=pv.Node(head(MLP(2, [8], numbers)), "x"))
    pv.check(model, guide, {"x": torch.randn(6, 2)})
    with pytest.raises(
        ValueError, match=f"the net returns 7 numbers a datum, expected . \\+ . \\+ . = {numbers}"
    ):
        head(MLP(2, [8], 7))(torch.zeros(1, 2))


class Flat(nn.Module):
    def forward(self) -> dist.Distribution:
        return dist.ImproperUniform(dist.constraints.real_vector, (), (2,))


def test_delta_makes_an_autoencoder() -> None:
    x, encoder, decoder = torch.randn(6, 4), MLP(4, [8], 2), MLP(2, [8], 4)
    likelihood, guide = (
        pv.Node(FixedScaleNormalHead(decoder, scale=0.5), "z"),
        pv.Guide(z=pv.Node(DeltaHead(encoder), "x")),
    )
    error = ((x - decoder(encoder(x))) ** 2).sum(-1).mean() / (2 * 0.25) + 4 * math.log(
        0.5 * math.sqrt(2 * math.pi)
    )
    penalty = (encoder(x) ** 2).sum(-1).mean() / 2 + math.log(2 * math.pi)
    for prior, expected in ((Flat(), error), (StandardNormal(2), error + penalty)):
        model = pv.Model(z=prior, x=likelihood)
        pv.check(model, guide, {"x": x})
        for elbo in (Trace_ELBO(), TraceMeanField_ELBO()):
            loss = pv.ElboLoss(model, guide, elbo=elbo)
            torch.testing.assert_close(loss(x=x), expected)
            parameters = list(loss.parameters())
            for got, exact in zip(
                torch.autograd.grad(loss(x=x), parameters),
                torch.autograd.grad(expected, parameters, retain_graph=True),
            ):
                torch.testing.assert_close(got, exact)
    with pytest.raises(pv.PairError, match="'z' is a Delta, which has no density"):
        pv.log_evidence(model, guide, {"x": x}, num_particles=2)


def mixture(locs: Tensor, scales: Tensor, logits: Tensor) -> PathwiseMixture:
    return PathwiseMixture(dist.Categorical(logits=logits), dist.Normal(locs, scales).to_event(1))


# f and its expectation under N(m, diag(s)^2), for the components' m and s, (C, D)
TEST_FUNCTIONS = {
    "square": (lambda z: (z**2).sum(-1), lambda m, s: (m**2 + s**2).sum(-1)),
    "product": (lambda z: z[..., 0] * z[..., 1], lambda m, s: m[:, 0] * m[:, 1]),
    "cosine": (lambda z: z.cos().sum(-1), lambda m, s: (m.cos() * (-(s**2) / 2).exp()).sum(-1)),
}


@pytest.mark.parametrize("components, features", [(2, 1), (3, 2), (3, 4)])
@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_pathwise_gradients_of_mixtures_are_the_exact_ones(
    name: str, components: int, features: int
) -> None:
    """The product couples two dimensions: there the weights' gradients of Pyro's
    MixtureOfDiagNormals are 100 s.e. off."""
    if name == "product" and features == 1:
        pytest.skip("has one feature")
    f, mean_of = TEST_FUNCTIONS[name]
    parameters = [
        torch.randn(components, features),
        0.5 + torch.rand(components, features),
        torch.randn(components),
    ]
    parameters = [parameter.requires_grad_() for parameter in parameters]
    mean = (mean_of(*parameters[:2]) * parameters[2].softmax(-1)).sum()
    exact = torch.autograd.grad(mean, parameters, materialize_grads=True)
    num = 20_000
    copies = [
        parameter.detach().expand(num, *parameter.shape).clone().requires_grad_()
        for parameter in parameters
    ]
    for got, expected in zip(
        torch.autograd.grad(f(mixture(*copies).rsample()).sum(), copies), exact
    ):
        error = got.std(0) / math.sqrt(num)
        assert ((got.mean(0) - expected).abs() <= 5 * error + 1e-12).all()


def test_mixtures_of_many_features_have_gradients_in_float32() -> None:
    """Densities of 100 features underflow in float32."""
    parameters = [torch.randn(5, 100), torch.full((5, 100), 2.0), torch.zeros(5)]
    z = mixture(*parameters).sample((20,))
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        copies = [parameter.to(dtype).requires_grad_() for parameter in parameters]
        fn = mixture(*copies)
        fn.sample = lambda *_, z=z.to(dtype): z  # the same draws
        gradients[dtype] = torch.autograd.grad((fn.rsample((20,)) ** 2).sum(), copies)
    for single, double in zip(gradients[torch.float32], gradients[torch.float64]):
        assert (single - double).abs().max() < 1e-4 * double.abs().max()


def test_mixtures_know_their_moments_and_density() -> None:
    head = MixtureNormalHead(MLP(4, [8], 3 * 5), 2, 3)
    fn = head(torch.randn(5, 4)).expand((7, 5))
    draws = fn((20_000,))
    assert (
        (draws.mean(0) - fn.mean).abs() < 5 * (fn.variance / 20_000).sqrt()
    ).all() and fn.mean.shape == (7, 5, 2)
    normals = fn.component_distribution.base_dist
    reference = dist.MixtureOfDiagNormals(
        normals.loc, normals.scale, fn.mixture_distribution.logits
    )
    torch.testing.assert_close(fn.log_prob(draws[0]), reference.log_prob(draws[0]))


def test_components_of_a_mixture_begin_apart() -> None:
    head = MixtureNormalHead(nn.Identity(), 2, 3, spread=0.5)
    numbers = torch.zeros(1, 15, requires_grad=True)
    head(numbers).log_prob(torch.randn(4, 1, 2)).sum().backward()
    assert len(numbers.grad[0, :6].unflatten(0, (3, 2)).unique(dim=0)) == 3
    twin = MixtureNormalHead(nn.Identity(), 2, 3)
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin(numbers).mean, head(numbers).mean)


def test_student_t_learns_one_df_above_two() -> None:
    head = StudentTHead(nn.Identity(), initial_df=3.0, min_scale=0.5)
    numbers, x = torch.randn(5, 6), torch.randn(5, 3)
    exact = dist.StudentT(3.0, numbers[:, :3], 0.5 + numbers[:, 3:].exp())
    torch.testing.assert_close(head(numbers).log_prob(x), exact.log_prob(x).sum(-1))
    head.log_excess.data.fill_(-50.0)
    assert head(numbers).base_dist.df.min() >= 2
    with pytest.raises(ValueError, match="initial_df=2, but the degrees of freedom stay above 2"):
        StudentTHead(nn.Identity(), initial_df=2)


def test_beta_has_the_mean_and_variance_it_says() -> None:
    fn = BetaHead(nn.Identity())(torch.tensor([0.3, -1.0, 2.0, 0.5]))
    mean, precision = torch.tensor([0.3, -1.0]).sigmoid(), 2 * torch.tensor([2.0, 0.5]).exp()
    torch.testing.assert_close(fn.mean, mean)
    torch.testing.assert_close(fn.variance, mean * (1 - mean) / (1 + precision))
    uniform = BetaHead(nn.Identity())(torch.zeros(4))
    torch.testing.assert_close(uniform.log_prob(torch.rand(3, 2)), torch.zeros(3))


def test_beta_refuses_the_ends() -> None:
    x = torch.rand(6, 4).clamp(0.01, 0.99)
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BetaHead(MLP(2, [8], 8)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    pv.check(model, guide, {"x": x})
    x[0, 0], x[1, 2] = 0.0, 1.0
    with pytest.raises(
        pv.PairError, match=r"Beta on the open interval \(0, 1\), but 2 of 24 values .* dequantise"
    ):
        pv.check(model, guide, {"x": x})


PRECISE = {  # name: head, the net's numbers for one element, data
    "Student's t, df = 10^5": (
        lambda: StudentTHead(nn.Identity(), initial_df=1e5),
        [0.0, 0.0],
        [0.5, -2.0],
    ),
    "beta, precision 10^4": (lambda: BetaHead(nn.Identity()), [0.3, math.log(5e3)], [0.57, 0.58]),
    "Poisson of 10^4": (
        lambda: PoissonHead(nn.Identity()),
        [math.log(1e4)],
        [9900.0, 10_200.0, 10_321.0],
    ),
    "negative binomial, r = 10^6": (
        lambda: NegativeBinomialHead(nn.Identity(), initial_r=1e6),
        [1.0],
        [0.0, 3.0, 9.0],
    ),
}


@pytest.mark.parametrize("name", PRECISE)
def test_float32_densities_keep_their_constants(name: str) -> None:
    """Summed in float32 each of these is off by 10^-3 nats or more; what is left is the rounding
    of parameters and data."""
    make, numbers, data = PRECISE[name]
    x = torch.tensor(data).float().unsqueeze(-1)
    single = make().float()(torch.tensor(numbers).float()).log_prob(x)
    exact = make()(torch.tensor(numbers).float().double()).log_prob(x.double())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-4)


def test_negative_binomial_has_the_mean_and_variance_it_says() -> None:
    log_mean, r = torch.tensor([0.5, 2.0]), torch.tensor([0.7, 5.0])
    head = NegativeBinomialHead(nn.Identity(), r_shape=(2,))
    head.log_r.data = r.log()
    fn, counts = head(log_mean), torch.arange(2000.0).unsqueeze(-1)
    probs = fn.base_dist.log_prob(counts).exp()
    mean = (probs * counts).sum(0)
    torch.testing.assert_close(mean, log_mean.exp())
    torch.testing.assert_close((probs * (counts - mean) ** 2).sum(0), mean + mean**2 / r)
    with pytest.raises(ValueError, match="initial_r=0, but r"):
        NegativeBinomialHead(nn.Identity(), initial_r=0)


def test_counts_are_whole_numbers() -> None:
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    for head in (PoissonHead, NegativeBinomialHead):
        model = pv.Model(z=StandardNormal(2), x=pv.Node(head(MLP(2, [8], 4)), "z"))
        pv.check(model, guide, {"x": torch.poisson(torch.full((6, 4), 2.0))})
        with pytest.raises(
            pv.PairError, match=r"the data lie in \[0.5, 0.5\], e.g. 0.5. Change the likelihood"
        ):
            pv.check(model, guide, {"x": torch.full((6, 4), 0.5)})


def test_discretized_logistics_are_differences_of_their_distribution_functions() -> None:
    logits, loc, log_scale = torch.randn(4, 3), 8 + 4 * torch.randn(4, 3), torch.randn(4, 3)
    fn = DiscretizedLogisticMixture(logits, loc, log_scale, 17)
    edges = torch.cat(
        [torch.tensor([-math.inf]), torch.arange(16) + 0.5, torch.tensor([math.inf])]
    ).reshape(-1, 1, 1)
    cdf = (((edges - loc) / log_scale.exp()).sigmoid() * logits.softmax(-1)).sum(-1)
    levels = fn.enumerate_support()
    torch.testing.assert_close(fn.log_prob(levels).exp(), cdf.diff(dim=0))
    torch.testing.assert_close(fn.mean, (levels * cdf.diff(dim=0)).sum(0))
    assert fn.expand((2, 4)).log_prob(levels.unsqueeze(1)).shape == (17, 2, 4)
    with pytest.raises(ValueError, match="levels=1, expected at least"):
        DiscretizedLogisticMixture(logits, loc, log_scale, 1)


def test_discretized_logistics_sum_to_one_in_float32_wherever_they_lie() -> None:
    loc = (
        torch.tensor([-1e4, -30.0, 0.0, 127.5, 255.0, 400.0, 1e4])
        .float()
        .reshape(-1, 1, 1)
        .requires_grad_()
    )
    log_scale = (
        torch.tensor([1e-3, 0.1, 1.0, 100.0, 1e6]).log().float().reshape(-1, 1).requires_grad_()
    )
    fn = DiscretizedLogisticMixture(torch.zeros(1).float(), loc, log_scale, 256)
    log_probs = fn.log_prob(fn.enumerate_support())
    torch.testing.assert_close(
        log_probs.logsumexp(0), torch.zeros(7, 5).float(), rtol=0, atol=2e-5
    )  # rounding of 256 terms
    assert torch.isfinite(log_probs).all() and (log_probs <= 0).all()
    log_probs.sum().backward()
    assert torch.isfinite(loc.grad).all() and torch.isfinite(log_scale.grad).all()
    assert loc.grad[0].abs().sum() > 0  # the pull from afar that a clamped difference would lose
    exact = DiscretizedLogisticMixture(torch.zeros(1), loc.double(), log_scale.double(), 256)
    torch.testing.assert_close(
        log_probs.double(), exact.log_prob(exact.enumerate_support()), rtol=1e-5, atol=1e-4
    )


def test_discretized_logistics_deal_their_numbers_as_the_categorical_does() -> None:
    numbers = torch.randn(
        5, 6 * 2, 4, 3
    )  # a net's (C, H, W) output: six numbers for each of (2, 4, 3)
    fn = DiscretizedLogisticMixtureHead(nn.Identity(), 2, levels=5, event_shape=(2, 4, 3))(
        numbers
    ).base_dist
    dealt = CategoricalHead(nn.Identity(), event_shape=(2, 4, 3))(numbers).base_dist.logits
    raw = torch.cat([fn.logits, fn.loc / 2 - 1 - torch.tensor([-0.5, 0.5]), fn.log_scale], -1)
    torch.testing.assert_close(raw.log_softmax(-1), dealt)
    assert torch.equal(fn.logits[:, 1, 2, 0], numbers[:, [1, 3], 2, 0])
    with pytest.raises(
        ValueError,
        match="the net returns 7 numbers a datum, which are not 6 for each of the 1 elements",
    ):
        DiscretizedLogisticMixtureHead(nn.Identity(), 2, levels=5, event_shape=())(
            torch.zeros(1, 7)
        )


def test_levels_are_not_grey_values() -> None:
    head = DiscretizedLogisticMixtureHead(MLP(2, [8], 6 * 4), 2, levels=17, event_shape=(4,))
    model = pv.Model(z=StandardNormal(2), x=pv.Node(head, "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(Standardized(MLP(4, [8], 4), 8.0, 5.0)), "x"))
    pv.check(model, guide, {"x": torch.randint(0, 17, (6, 4)).double()})
    with pytest.raises(
        pv.PairError, match="on whole levels, .* grey values such as 0.5. .* as_levels"
    ):
        pv.check(model, guide, {"x": torch.full((6, 4), 0.5)})
    with pytest.raises(pv.PairError, match="upper_bound=16.*the data lie in"):
        pv.check(model, guide, {"x": torch.full((6, 4), 17.0)})


@pytest.mark.parametrize("hidden", [[], [3], [16, 5], [8, 16]])
def test_autoregressive_bernoulli_sees_all_of_the_past_and_nothing_else(hidden: list[int]) -> None:
    head, x, z = AutoregressiveBernoulliHead(6, 2, hidden), torch.rand(6), torch.randn(2)
    by_x, by_z = torch.autograd.functional.jacobian(lambda x, z: head(z).logits(x), (x, z))
    assert torch.equal(by_x != 0, torch.ones(6, 6).tril(-1).bool())
    assert (by_z != 0).all()


def test_autoregressive_bernoulli_sums_to_one_for_each_z() -> None:
    fn = AutoregressiveBernoulliHead(4, 3, [8])(torch.randn(5, 3))
    values = torch.cartesian_prod(*[torch.arange(2.0)] * 4)
    torch.testing.assert_close(fn.log_prob(values.unsqueeze(1)).logsumexp(0), torch.zeros(5))
    assert fn.expand((7, 5)).sample((2,)).shape == (2, 7, 5, 4)


def test_autoregressive_bernoulli_needs_no_latent() -> None:
    """Bits that copy the first: independent pixels given z = 0 score 4 log 2 at best, this decoder
    log 2."""
    x = torch.bernoulli(torch.full((200, 1), 0.5)).expand(200, 4)
    head = AutoregressiveBernoulliHead(4, 1, [16])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(150):
        loss = -head(torch.zeros(200, 1)).log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < math.log(2) + 0.05
    draws = head(torch.zeros(200, 1)).sample()
    assert (draws == draws[:, :1]).double().mean() > 0.95


def test_autoregressive_bernoulli_in_a_pair() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(AutoregressiveBernoulliHead(4, 2, [8]), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))
    pv.check(model, guide, {"x": torch.eye(4)})
    with pytest.raises(
        pv.PairError, match=r"on \{0, 1\}, but the data hold grey values such as 0.5"
    ):
        pv.check(model, guide, {"x": torch.full((6, 4), 0.5)})


def test_autoregressive_bernoulli_is_the_head_as_it_was() -> None:
    """Estimators that freeze parameters by functional_call score the distribution after the call."""
    head, x, z = AutoregressiveBernoulliHead(4, 2, [8]), torch.eye(4), torch.randn(4, 2)
    other = AutoregressiveBernoulliHead(4, 2, [8])
    called = torch.func.functional_call(head, dict(other.named_parameters()), (z,))
    torch.testing.assert_close(called.log_prob(x), other(z).log_prob(x))
