"""Planted faults are named and healthy fits pass: a few of the forty and twenty that
`python tests/diagnostics/planted_faults.py` counts."""

import copy

import pyro
import pytest
import torch
from faulty_fits import narrow_autonormal, stuck_chain
from fitted_pairs import factors, regression, sine, vae
from healthy_fits import HEALTHY, exact_chain
from planted_faults import FAULTS, examine
from pyro.infer.autoguide import AutoNormal

import pyrovae as pv
from pyrovae.bnn.curvature import CurvatureOf, Diagonal, Kron
from pyrovae.bnn.posthoc import fit_laplace
from pyrovae.diagnostics.checks.kl_weight import stationary_weight
from pyrovae.diagnostics.diagnosis import Diagnosis, Finding, Severity

QUICK_FAULTS = (
    "decoder without z",
    "decoder hears 2 of 8",
    "last layer with fixed scales",
    "AutoDelta",
    "chain that never moved",
    "VAE with small noise",
    "AutoNormal made narrow",
    "targets in thousands",
    "N ten times too large",
    "VAE, rate 0.3",
    "stopped early",
    "frozen encoder",
)
"""One of each name at least."""
QUICK_FITS = ("AutoMultivariateNormal", "draws of the posterior", "factors")


@pytest.mark.parametrize("name", QUICK_FAULTS)
@pytest.mark.filterwarnings("ignore::pyrovae.CollapseWarning")
def test_planted_faults_are_named(name: str) -> None:
    fault, make = FAULTS[name]
    found = examine(make, 0)
    assert fault in found.names, str(found)
    assert all(finding.evidence and finding.remedy for finding in found)


@pytest.mark.parametrize("name", QUICK_FITS)
def test_healthy_fits_have_no_finding(name: str) -> None:
    found = examine(HEALTHY[name], 0)
    assert not found.names, str(found)


def test_there_are_forty_faults_of_every_name_and_twenty_healthy_fits() -> None:
    assert len(FAULTS) == 40 and len(HEALTHY) == 20
    assert len({fault for fault, _ in FAULTS.values()}) == 11


def test_nothing_changes_and_equal_seeds_give_equal_results() -> None:
    fit = vae(factors(100), steps=10)
    pair = torch.nn.ModuleList([fit.model, fit.guide])
    before, random = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    pair.train()
    first = fit.diagnose()
    assert str(fit.diagnose()) == str(first)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(part.training for part in pair.modules())
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert all(p.grad is None or p.grad.isfinite().all() for p in pair.parameters())
    assert not list(pyro.get_param_store().keys())


def test_an_exact_posterior_weighs_its_kl_by_one_and_a_tempered_one_by_its_temperature() -> None:
    for temperature in (1.0, 5.0):
        weight, error, determined = _weight(temperature)
        assert abs(weight - temperature) < 5 * error + 1e-6
        assert 1 < determined <= 4


def _weight(temperature: float) -> tuple[float, float, float]:
    """Of a linear regression whose posterior is that of the likelihood to the power 1 / T."""
    from pyrovae.core.broadcasting import Particles
    from pyrovae.diagnostics.checks.examination import Examination

    fit = exact_chain()
    x = torch.cat([fit.data["x"], torch.ones(80, 1)], 1)
    precision = torch.eye(4) + x.T @ x / 0.25 / temperature
    mean = torch.linalg.solve(precision, x.T @ fit.data["y"] / 0.25 / temperature)[:, 0]
    draws = torch.distributions.MultivariateNormal(mean, precision_matrix=precision).sample((400,))
    guide = pv.bnn.guides.Empirical({"w.weight": draws[:, None, :3], "w.bias": draws[:, 3:]})
    seen = Examination(fit.model, guide, fit.data, 80, "data", 400, 0, particles=Particles())
    return stationary_weight(seen)


def test_a_known_start_tells_scales_that_stayed() -> None:
    fit = regression(sine(), steps=2)
    start = {name: torch.full_like(value[1], 0.05) for name, value in fit.guide.moments().items()}
    assert (
        "scales at their start" in pv.diagnose(fit.model, fit.guide, fit.data, start=start).names
    )
    start = {name: 2 * value for name, value in start.items()}
    found = pv.diagnose(fit.model, fit.guide, fit.data, start=start)
    assert "scales at their start" not in found.names


def test_a_loss_without_n_is_told() -> None:
    fit = narrow_autonormal()
    loss = pv.ElboLoss(fit.model, fit.guide)
    found = pv.diagnose(fit.model, fit.guide, fit.data, loss=loss, num_steps=0)
    assert "N not stated" in found.names


def test_wide_scales_say_that_n_is_lacking_only_where_it_is_not_stated() -> None:
    fit = narrow_autonormal()
    with torch.no_grad():
        for scale in fit.guide.scales.parameters():
            scale.add_(3.0)
    assert "N not stated" in pv.diagnose(fit.model, fit.guide, fit.data, num_steps=0).names
    loss = pv.ElboLoss(fit.model, fit.guide, num_data=40)
    found = pv.diagnose(fit.model, fit.guide, fit.data, loss=loss, num_steps=0)
    assert "N not stated" not in found.names


def test_checks_that_lack_something_say_so() -> None:
    found = stuck_chain().diagnose()
    assert "history" in found.skipped["learning rate"]
    assert "no latent variables of single data" in found.skipped["posterior collapse"]
    assert "not checked" in str(found)
    with pytest.raises(ValueError, match="num_draws=3"):
        pv.diagnose(lambda: None, lambda: None, {"x": torch.ones(3)}, num_draws=3)


@pytest.mark.parametrize("kind", [Kron(), Diagonal()])
def test_a_laplace_posterior_of_masked_data_has_no_finding(kind: CurvatureOf) -> None:
    """Its scales are not trained, and what stands in for masked targets is no data."""
    net = pv.Bayesian(torch.nn.Linear(3, 1))

    def model(x: torch.Tensor, seen: torch.Tensor, y: torch.Tensor | None = None) -> None:
        with net.drawn(), pyro.plate("data", len(x)):
            pyro.sample("y", pyro.distributions.Normal(net(x), 0.5).to_event(1).mask(seen), obs=y)

    x = torch.randn(60, 3)
    w = torch.tensor([[1.0, -1.0, 0.5]])
    y, seen = x @ w.T + 0.5 * torch.randn(60, 1), torch.arange(60) % 3 > 0
    data = {"x": x, "seen": seen, "y": torch.where(seen[:, None], y, 99.0)}
    rows = torch.cat([x, torch.ones(60, 1)], 1)[seen]
    mean = torch.linalg.solve(rows.T @ rows + 0.25 * torch.eye(4), rows.T @ y[seen]).squeeze(-1)
    mode = {"w.weight": mean[None, :3], "w.bias": mean[3:]}
    guide = fit_laplace(model, mode, data, kind).guide(net)
    found = pv.diagnose(model, guide, data, num_draws=50)
    assert not found.findings, str(found)
    assert "a mask leaves data out" in found.skipped["calibration"]
    assert "no parameters that train" in found.skipped["scales"]


def test_several_labels_of_a_datum_are_classified() -> None:
    net = pv.Bayesian(torch.nn.Linear(3, 8))

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        with net.drawn():
            logits = net(x).unflatten(-1, (2, 4))
            with pyro.plate("data", len(x)):
                fn = pyro.distributions.Categorical(logits=logits).to_event(1)
                pyro.sample("y", fn, obs=y)

    x = torch.randn(40, 3)
    data = {"x": x, "y": (x[:, :2] > 0).long()}
    found = pv.diagnose(model, pv.bnn.guides.MeanField(net), data, num_draws=50, num_steps=0)
    assert "underfitting" in found.names and "rightly" in str(found)


def test_one_held_out_datum_shows_no_miscalibration() -> None:
    net = pv.Bayesian(torch.nn.Linear(3, 2))
    model = pv.Model(y=pv.Node(pv.heads.CategoricalHead(net), "x"))
    data = {"x": torch.randn(20, 3), "y": torch.arange(20) % 2}
    for label in (0, 1):
        held_out = {"x": torch.ones(1, 3), "y": torch.tensor([label])}
        guide = pv.bnn.guides.MeanField(net)
        found = pv.diagnose(model, guide, data, held_out=held_out, num_draws=50, num_steps=0)
        assert "miscalibrated" not in found.names, str(found)


@pytest.mark.usefixtures("uses_param_store")
def test_programs_with_pyro_params_are_put_back() -> None:
    def model(x: torch.Tensor) -> None:
        scale = pyro.param(
            "scale", torch.tensor(1.0), constraint=pyro.distributions.constraints.positive
        )
        m = pyro.sample("m", pyro.distributions.Normal(0.0, 10.0))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", pyro.distributions.Normal(m, scale), obs=x)

    data = {"x": 3 + torch.randn(50)}
    guide = AutoNormal(model)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
    for _ in range(200):
        svi.step(**data)
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    pv.diagnose(model, guide, data)
    after = dict(pyro.get_param_store().items())
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_diagnosis_reads_well() -> None:
    finding = Finding("draws agree", Severity.ERROR, "a spread of 0", "draw the weights")
    found = Diagnosis([finding], {"learning rate": "needs history="})
    assert found.names == ["draws agree"] and len(found) == 1 and list(found) == [finding]
    assert str(found) == (
        "error: draws agree\n  seen: a spread of 0\n  try: draw the weights\n"
        "not checked: learning rate (needs history=)"
    )
    assert str(Diagnosis([])) == "no fault found" and not Diagnosis([])
