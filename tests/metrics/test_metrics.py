"""Metrics: closed forms, then scikit-learn and whatever else is installed, then what is refused."""

import importlib
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

from pyrovae import metrics

sklearn_metrics = importlib.import_module("sklearn.metrics")
CLASSES = 4


@pytest.fixture
def classified():
    """Probabilities (N, C) of every sharpness, and labels that they are right about."""
    probs = (3 * torch.rand(2000, 1) * torch.randn(2000, CLASSES)).softmax(-1)
    return probs, torch.multinomial(probs, 1).squeeze(-1)


def optional(name):
    """A package that may be absent, or broken by another one that it imports."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a torchvision that does not fit raises RuntimeError on import
        pytest.skip(f"{name} cannot be imported: {error}")


def within(values, expected, errors=5):
    """Whether the mean of independent values is within five standard errors of what it should be."""
    mean, se, _ = metrics.mean_and_error(values)
    assert abs(mean - expected) < errors * se, f"{mean} +- {se}, expected {expected}"


# --- real predictions
# ---------------------------------------------------------------------------------------------


def normal_crps(loc, scale, y):
    """Closed form, Gneiting & Raftery 2007, section 4.2."""
    z = (y - loc) / scale
    normal = torch.distributions.Normal(0.0, 1.0)
    return scale * (
        z * (2 * normal.cdf(z) - 1) + 2 * normal.log_prob(z).exp() - 1 / math.sqrt(math.pi)
    )


def test_rmse_is_over_data_and_events():
    mean, y = torch.randn(2, 6, 3)
    torch.testing.assert_close(metrics.rmse(mean, y), (mean - y).norm() / math.sqrt(18))
    assert metrics.rmse(y, y) == 0


def test_log_predictive_density_is_that_of_the_mixture():
    loc, y = torch.randn(7, 4), torch.randn(4)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(4, 7)),
        torch.distributions.Normal(loc.T, torch.tensor(0.3)),
    )
    score = metrics.log_predictive_density(torch.distributions.Normal(loc, 0.3).log_prob(y))
    torch.testing.assert_close(score, mixture.log_prob(y))
    impossible = torch.full((3, 1), -math.inf)
    assert metrics.log_predictive_density(impossible).tolist() == [-math.inf]
    impossible[1] = math.log(3)
    assert metrics.log_predictive_density(impossible).item() == pytest.approx(0, abs=1e-15)
    far = torch.tensor([[-1e4], [-1e4]])
    assert metrics.log_predictive_density(far).item() == pytest.approx(-1e4)


def test_crps_of_draws_is_the_mean_over_pairs():
    draws, y = torch.randn(6, 3), torch.randn(3)
    pairs = torch.stack(
        [(draws[i] - draws[j]).abs() for i in range(6) for j in range(6) if i != j]
    )
    torch.testing.assert_close(
        metrics.crps(draws, y), (draws - y).abs().mean(0) - pairs.mean(0) / 2
    )


def test_crps_of_draws_is_unbiased():
    loc, scale, y = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.2]), torch.tensor([0.5, -1.0])
    for size in (2, 5):
        values = metrics.crps(
            (loc + scale * torch.randn(size, 20_000, 2)).flatten(1), y.repeat(20_000)
        ).reshape(-1, 2)
        for column, expected in zip(values.T, normal_crps(loc, scale, y)):
            within(column, expected)


def test_crps_of_one_normal_and_of_a_mixture_of_equals():
    loc, scale, y = torch.randn(5), torch.rand(5) + 0.1, torch.randn(5)
    expected = normal_crps(loc, scale, y)
    torch.testing.assert_close(metrics.crps_normal_mixture(loc[None], scale[None], y), expected)
    torch.testing.assert_close(metrics.crps_normal_mixture(loc.expand(6, 5), scale, y), expected)


def test_crps_of_a_mixture_is_the_integral():
    loc, scale, y = torch.randn(4, 3), torch.rand(4, 3) + 0.2, torch.randn(3)
    grid = np.linspace(-12, 12, 200_001)
    for n in range(3):
        cdf = stats.norm.cdf((grid[:, None] - loc[:, n].numpy()) / scale[:, n].numpy()).mean(-1)
        integral = ((cdf - (grid >= y[n].item())) ** 2).sum() * (grid[1] - grid[0])
        # the step of the second term is a cell off at most: 1.2e-4
        assert metrics.crps_normal_mixture(loc, scale, y)[n].item() == pytest.approx(
            integral, abs=1.2e-4
        )


def test_crps_of_a_mixture_agrees_with_its_draws_and_with_any_chunk():
    loc, scale, y = torch.randn(4, 3), torch.rand(4, 3) + 0.2, torch.randn(3)
    exact = metrics.crps_normal_mixture(loc, scale, y)
    torch.testing.assert_close(metrics.crps_normal_mixture(loc, scale, y, chunk=1), exact)
    torch.testing.assert_close(
        metrics.crps_normal_mixture(3 * loc + 1, 3 * scale, 3 * y + 1), 3 * exact
    )
    which = torch.randint(4, (40, 3, 2000))
    draws = loc.T[None, :, :].expand(40, 3, 4).gather(-1, which) + scale.T[None, :, :].expand(
        40, 3, 4
    ).gather(-1, which) * torch.randn(40, 3, 2000)
    values = metrics.crps(draws.flatten(1), y[:, None].expand(3, 2000).flatten()).reshape(3, 2000)
    for n in range(3):
        within(values[n], exact[n])


def test_coverage_is_exact_where_the_places_are_whole():
    """y is equally likely to have any rank among S = 19 draws: of 20 places, the outer two lie
    outside."""
    draws = torch.arange(1.0, 20.0)[:, None].expand(19, 20)
    assert metrics.coverage(draws, torch.arange(0.5, 20.0)).mean().item() == pytest.approx(0.9)
    assert metrics.coverage(
        draws, torch.arange(0.5, 20.0), level=0.5
    ).mean().item() == pytest.approx(0.5)
    assert metrics.interval_width(draws, level=0.5).tolist() == pytest.approx([10.0] * 20)


def test_coverage_of_a_right_model_is_the_level_between_places_too():
    draws, y = (
        torch.rand(50, 100_000),
        torch.rand(100_000),
    )  # 0.05 * 51 = 2.55; uniform: quantiles are linear, so exact
    within(metrics.coverage(draws, y), 0.9)
    within(metrics.interval_width(draws), 0.9)
    assert set(metrics.coverage(draws, y).tolist()) == {0.0, 1.0}


def test_interval_matches_scipy():
    draws = torch.randn(37, 2)
    low, high = (
        stats.mstats.mquantiles(draws.numpy(), p, alphap=0, betap=0, axis=0)[0] for p in (0.1, 0.9)
    )
    torch.testing.assert_close(metrics.interval_width(draws, 0.8).numpy(), np.asarray(high - low))


# --- classes
# ------------------------------------------------------------------------------------------------------


def test_perfect_useless_and_worst_predictions():
    y = torch.arange(12) % CLASSES
    perfect = torch.nn.functional.one_hot(y, CLASSES).double()
    worst, useless = perfect.roll(1, -1), torch.full((12, CLASSES), 1 / CLASSES)
    for probs, right, loss, score, spread in (
        (perfect, 1, 0, 0, 0),
        (worst, 0, math.inf, 2, 0),
        (useless, 0.25, math.log(4), 0.75, math.log(4)),
    ):
        assert metrics.accuracy(probs, y).mean() == right
        torch.testing.assert_close(metrics.nll(probs, y), torch.full((12,), float(loss)))
        torch.testing.assert_close(metrics.brier(probs, y), torch.full((12,), float(score)))
        torch.testing.assert_close(metrics.entropy(probs), torch.full((12,), float(spread)))
    assert metrics.calibration_error(perfect, y) == 0 and metrics.calibration_error(worst, y) == 1
    assert metrics.calibration_error(useless, y).item() == pytest.approx(0, abs=1e-12)


def test_mutual_information_is_disagreement():
    agree = torch.rand(1, 5, CLASSES).softmax(-1).expand(3, 5, CLASSES)
    torch.testing.assert_close(
        metrics.mutual_information(agree), torch.zeros(5), atol=1e-15, rtol=0
    )
    certain = torch.eye(CLASSES)[:, None]  # each draw sure of another class
    torch.testing.assert_close(
        metrics.mutual_information(certain), torch.tensor([math.log(CLASSES)])
    )
    probs = torch.randn(6, 5, CLASSES).softmax(-1)
    kl = (probs * (probs / probs.mean(0)).log()).sum(-1).mean(0)
    torch.testing.assert_close(metrics.mutual_information(probs), kl)


def test_equal_draws_have_no_mutual_information():
    """Exactly 0 and not rounding, whose order would be a detector's answer."""
    probs = torch.randn(200, CLASSES).softmax(-1).expand(7, -1, -1)
    found = metrics.mutual_information(probs)
    assert (found == 0).all()
    assert metrics.auroc(found[:50], found[50:]) == 0.5


def test_calibrated_set_has_no_error_and_an_overconfident_one_its_own():
    """Ten data at each confidence k/10, of which k are right; then all that confident, half right."""
    k = torch.arange(6, 10).repeat_interleave(10)
    probs = torch.stack([k / 10, 1 - k / 10], -1)
    y = (torch.arange(40) % 10 >= k).long()
    for adaptive in (False, True):
        assert metrics.calibration_error(
            probs, y, bins=5, adaptive=adaptive
        ).item() == pytest.approx(0, abs=1e-12)
        half = metrics.calibration_error(probs, torch.arange(40) % 2, bins=10, adaptive=adaptive)
        assert half.item() == pytest.approx(0.25)
    confidence, accuracy, count = metrics.reliability(probs, y, bins=10)
    assert count.tolist() == [0] * 5 + [10] * 4 + [0]  # 0.6 closes the bin (0.5, 0.6]
    for values in (confidence, accuracy):
        assert values[5:9].tolist() == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert confidence[[0, 9]].isnan().all() and accuracy[[0, 9]].isnan().all()


def test_adaptive_bins_hold_equal_numbers_and_ignore_the_order(classified):
    probs, y = classified
    assert metrics.reliability(probs, y, 16, adaptive=True).count.tolist() == [125] * 16
    probs = probs.round(decimals=1)  # now with many ties
    probs = torch.cat([probs[:, :-1], 1 - probs[:, :-1].sum(-1, keepdim=True)], -1).clamp(min=0)
    probs, order = probs / probs.sum(-1, keepdim=True), torch.randperm(len(y))
    for adaptive in (False, True):
        one = metrics.calibration_error(probs, y, adaptive=adaptive)
        torch.testing.assert_close(
            metrics.calibration_error(probs[order], y[order], adaptive=adaptive), one
        )
        confidence, accuracy, count = metrics.reliability(probs, y, 15, adaptive)
        assert count.sum() == len(y)
        overall = (accuracy.nan_to_num() * count).sum() / len(y)
        torch.testing.assert_close(overall, metrics.accuracy(probs, y).mean())


def test_classes_against_scikit_learn(classified):
    probs, y = classified
    assert metrics.nll(probs, y).mean().item() == pytest.approx(sklearn_metrics.log_loss(y, probs))
    assert metrics.accuracy(probs, y).mean().item() == pytest.approx(
        sklearn_metrics.accuracy_score(y, probs.argmax(-1))
    )
    binary = torch.stack([1 - probs[:, 0], probs[:, 0]], -1)
    hit = (y == 0).long()
    assert metrics.brier(binary, hit).mean().item() == pytest.approx(
        2 * sklearn_metrics.brier_score_loss(hit, probs[:, 0].numpy())
    )
    np.testing.assert_allclose(metrics.entropy(probs), stats.entropy(probs.numpy(), axis=-1))


def test_calibration_error_against_a_plain_loop(classified):
    probs, y = classified
    confidence, right = probs.max(-1).values, probs.argmax(-1) == y
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += (
                inside.sum() * (right[inside].double().mean() - confidence[inside].mean()).abs()
            )
    torch.testing.assert_close(metrics.calibration_error(probs, y), total / len(y))


def test_against_torchmetrics(classified):
    functional = optional("torchmetrics.functional.classification")
    probs, y = classified
    theirs = functional.multiclass_calibration_error(probs, y, CLASSES, n_bins=15, norm="l1")
    torch.testing.assert_close(
        metrics.calibration_error(probs, y), theirs, check_dtype=False, rtol=1e-5, atol=1e-6
    )


def test_crps_against_properscoring():
    scoring = optional("properscoring")
    draws, y = torch.randn(20, 8), torch.randn(8)
    plain = scoring.crps_ensemble(y.numpy(), draws.T.numpy())  # over all pairs, so smaller spread
    spread = (draws[:, None] - draws).abs().mean((0, 1)) / 2
    torch.testing.assert_close(
        metrics.crps(draws, y), torch.as_tensor(plain) + spread - spread * 20 / 19
    )
    torch.testing.assert_close(
        metrics.crps_normal_mixture(draws[:1], torch.ones(1, 8), y),
        torch.as_tensor(scoring.crps_gaussian(y.numpy(), draws[0].numpy(), 1.0)),
    )


# --- detection
# ----------------------------------------------------------------------------------------------------


def test_detection_by_counting():
    known, unknown = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert metrics.auroc(known, unknown) == metrics.aupr(known, unknown) == 1
    assert metrics.auroc(unknown, known) == 0
    same = torch.ones(3)
    assert metrics.auroc(same, same[:1]) == 0.5
    assert metrics.aupr(same, same[:1]) == 0.25


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_detection_against_scikit_learn(decimals):
    known, unknown = (
        torch.randn(300).round(decimals=decimals),
        (torch.randn(90) + 0.7).round(decimals=decimals),
    )
    truth, scores = torch.cat([torch.zeros(300), torch.ones(90)]), torch.cat([known, unknown])
    assert metrics.auroc(known, unknown).item() == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, scores)
    )
    assert metrics.aupr(known, unknown).item() == pytest.approx(
        sklearn_metrics.average_precision_score(truth, scores)
    )


def test_detection_takes_slices_without_a_warning():
    scores = torch.randn(20, 2)
    torch.testing.assert_close(metrics.auroc(*scores.T), metrics.auroc(*scores.T.contiguous()))
    torch.testing.assert_close(metrics.aupr(*scores.T), metrics.aupr(*scores.T.contiguous()))


# --- summary
# ------------------------------------------------------------------------------------------------------


def test_mean_and_error():
    values = torch.randn(50)
    mean, se, n = metrics.mean_and_error(values)
    assert (mean, se, n) == (
        pytest.approx(values.mean().item()),
        pytest.approx(stats.sem(values.numpy())),
        50,
    )
    assert metrics.mean_and_error(values.float().requires_grad_()).mean == pytest.approx(
        mean, rel=1e-5
    )
    assert metrics.mean_and_error([0.1, 0.1]).mean == 0.1  # a list does not pass through float32
    one = metrics.mean_and_error([3.0])
    assert one.mean == 3 and math.isnan(one.se) and one.n == 1
    infinite = metrics.mean_and_error([1.0, math.inf])
    assert infinite.mean == math.inf and math.isnan(infinite.se)


# --- refused
# ------------------------------------------------------------------------------------------------------

HALF = torch.full((3, 2), 0.5)
LABELS = torch.zeros(3, dtype=torch.long)
NAN3 = torch.tensor([0.0, math.nan, 0.0])


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: metrics.rmse(torch.zeros(3), torch.zeros(3, 1)),
            [r"y has shape (3, 1), expected (3,)", "squeeze(-1)"],
        ),
        (lambda: metrics.rmse(NAN3, torch.zeros(3)), ["mean holds 1 values that are NaN", "of 3"]),
        (lambda: metrics.rmse(torch.zeros(0), torch.zeros(0)), ["at least one number"]),
        (lambda: metrics.rmse(LABELS, LABELS), ["dtype torch.int64", "real numbers"]),
        (lambda: metrics.log_predictive_density(torch.zeros(3)), ["shape (3,), expected (S, N)"]),
        (lambda: metrics.log_predictive_density(NAN3[None]), ["1 values that are NaN or +inf"]),
        (lambda: metrics.log_predictive_density(torch.full((2, 2), math.inf)), ["4 values"]),
        (lambda: metrics.crps(torch.zeros(1, 3), torch.zeros(3)), ["S = 1", "at least 2"]),
        (
            lambda: metrics.crps(torch.zeros(5, 3), torch.zeros(5)),
            ["y has shape (5,), expected (3,)"],
        ),
        (
            lambda: metrics.crps(torch.zeros(5, 3, 1), torch.zeros(3)),
            ["shape (5, 3, 1), expected (S, N)", "squeeze(-1)"],
        ),
        (lambda: metrics.crps(torch.zeros(5, 3), NAN3), ["y holds 1 values"]),
        (
            lambda: metrics.crps_normal_mixture(
                torch.zeros(5, 3), torch.zeros(5, 3), torch.zeros(3)
            ),
            ["holds 0", "positive"],
        ),
        (
            lambda: metrics.crps_normal_mixture(torch.zeros(3), torch.ones(3), torch.zeros(3)),
            ["loc has shape (3,)"],
        ),
        (
            lambda: metrics.coverage(torch.zeros(18, 3), torch.zeros(3)),
            ["18 draws", "0.9 interval", "at least 19"],
        ),
        (
            lambda: metrics.coverage(torch.zeros(19, 3), torch.zeros(3), level=1.0),
            ["level is 1.0"],
        ),
        (lambda: metrics.interval_width(torch.zeros(3, 3), level=0.6), ["3 draws", "at least 4"]),
        (lambda: metrics.interval_width(torch.zeros(3)), ["draws has shape (3,)"]),
        (lambda: metrics.nll(torch.randn(3), LABELS), ["probs has shape (3,), expected (N, C)"]),
        (lambda: metrics.nll(torch.rand(3, 1), LABELS), ["C >= 2", "torch.stack"]),
        (lambda: metrics.nll(3 * HALF, LABELS), ["sums to 3", "softmax"]),
        (
            lambda: metrics.nll(torch.tensor([[1.5, -0.5]]), LABELS[:1]),
            ["holds -0.5", "no negative"],
        ),
        (lambda: metrics.entropy(HALF * math.nan), ["probs holds 6 values that are NaN"]),
        (lambda: metrics.brier(HALF, LABELS[:2]), ["y has shape (2,), expected (3,)"]),
        (lambda: metrics.brier(HALF, LABELS.double()), ["y has dtype torch.float64", "y.long()"]),
        (lambda: metrics.accuracy(HALF, LABELS + 2), ["y holds 2..2", "0..1"]),
        (lambda: metrics.accuracy(HALF, LABELS - 1), ["y holds -1..-1"]),
        (lambda: metrics.mutual_information(HALF), ["probs has shape (3, 2), expected (S, N, C)"]),
        (lambda: metrics.reliability(HALF, LABELS, bins=0), ["bins is 0"]),
        (lambda: metrics.auroc(torch.zeros(3, 1), torch.zeros(3)), ["scores_in has shape (3, 1)"]),
        (lambda: metrics.auroc(torch.zeros(3), NAN3), ["scores_out holds 1 values"]),
        (lambda: metrics.aupr(torch.zeros(3), torch.zeros(3).float()), ["one dtype"]),
        (lambda: metrics.mean_and_error([]), ["shape (0,)"]),
        (lambda: metrics.mean_and_error(torch.zeros(3, 1)), ["shape (3, 1), expected (n,)"]),
        (lambda: metrics.mean_and_error([1.0, math.nan]), ["1 NaN of 2"]),
    ],
)
def test_refused(call, words):
    with pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, words))):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_probabilities_are_taken(dtype):
    probs = torch.randn(50, 1000).to(dtype).softmax(-1)
    y = torch.randint(1000, (50,))
    assert (
        metrics.nll(probs, y).dtype == dtype and metrics.calibration_error(probs, y).dtype == dtype
    )


def test_a_fitted_temperature_has_the_least_loss() -> None:
    logits = 3 * torch.randn(500, 4)
    y = torch.distributions.Categorical(logits=logits / 2.5).sample()  # overconfident by 2.5
    probs = logits.softmax(-1)
    best = metrics.fit_temperature(probs, y)
    assert 2.0 < best < 3.1

    def loss(temperature: float) -> float:
        return float(metrics.nll(metrics.temper(probs, temperature), y).mean())

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best), loss(1.0))
    assert torch.allclose(metrics.temper(probs, 2.5), (logits / 2.5).softmax(-1))
    right = torch.tensor([[0.9, 0.1]] * 3)
    assert metrics.fit_temperature(right, torch.zeros(3).long()) < 0.1
    assert metrics.fit_temperature(torch.full((3, 2), 0.5), torch.tensor([0, 1, 1])) == 1.0
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert math.isfinite(metrics.fit_temperature(sure, torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="temperature=0"):
        metrics.temper(probs, 0.0)


def test_stacking_finds_the_mixture_that_made_the_data() -> None:
    """Optimal weights satisfy the Karush-Kuhn-Tucker conditions of a concave problem."""
    y = torch.cat([torch.randn(700) - 2, torch.randn(300) + 2])
    log_p = torch.stack(
        [torch.distributions.Normal(at, 1.0).log_prob(y) for at in (-2.0, 2.0, 9.0)]
    )
    weights = metrics.stacking_weights(log_p, tolerance=1e-14)
    assert weights.sum() == pytest.approx(1.0) and abs(weights[0] - 0.7) < 0.05
    share = (log_p.exp() / (weights @ log_p.exp())).mean(1)
    assert share[:2].tolist() == pytest.approx([1.0, 1.0], abs=1e-4) and share[2] <= 1 + 1e-6
    assert metrics.as_counts(weights, 10) in ([7, 3, 0], [6, 4, 0])
    assert sum(metrics.as_counts(torch.full((7,), 1 / 7), 50)) == 50
    with pytest.raises(ValueError, match="data \\[1\\]"):
        metrics.stacking_weights(torch.tensor([[0.0, -torch.inf], [0.0, -torch.inf]]))
    with pytest.raises(ValueError, match="expected \\(M, N\\)"):
        metrics.stacking_weights(torch.zeros(3))
