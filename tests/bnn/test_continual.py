"""Yesterday's posterior as today's prior, and the script that learns task after task."""

import json
from pathlib import Path

import pytest
import torch
from test_scripts import run
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import MeanField, PointEstimate
from pyrovae.bnn.priors import Previous, WeightPrior, normal, standard
from pyrovae.data import DictDataset
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.recipes.continual_learners import Nets, Online
from pyrovae.recipes.continual_settings import ContinualSettings
from pyrovae.recipes.continual_tasks import load_stream

NOISE = 0.4
QUICK = (
    "--epochs",
    12,
    "--batch-size",
    128,
    "--hidden",
    30,
    "--coreset-epochs",
    12,
    "--num-samples",
    5,
    "--lr",
    2e-2,
)


def linear(prior: WeightPrior) -> pv.Model:
    return pv.Model(
        y=pv.Node(
            FixedScaleNormalHead(pv.Bayesian(nn.Linear(3, 1, bias=False), prior), scale=NOISE), "x"
        )
    )


def diagonal_design(rows: int) -> dict[str, Tensor]:
    """Each datum shows one coordinate, so that the posterior of the weights factorises."""
    x = torch.eye(3)[torch.arange(rows) % 3] * torch.randn(rows, 1)
    return {"x": x, "y": x @ torch.tensor([[1.0], [-2.0], [0.5]]) + NOISE * torch.randn(rows, 1)}


def update(loc: Tensor, scale: Tensor, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The conjugate update of independent normals, `(1, 3)`."""
    precision = scale**-2 + (data["x"] ** 2).sum(0) / NOISE**2
    return (
        loc * scale**-2 + (data["x"] * data["y"]).sum(0) / NOISE**2
    ) / precision, precision**-0.5


def test_two_updates_through_the_previous_posterior_are_one_on_all_data() -> None:
    parts = diagonal_design(6), diagonal_design(9)
    every = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    model, log_px, prior = linear(standard), 0.0, standard
    moments = torch.zeros(1, 3), torch.ones(1, 3)
    for part in parts:
        moments = update(*moments, part)
        guide = MeanField(model).start_at({"w.weight": moments})
        log_weights = pv.log_weights(linear(prior), guide, part, 4, plate=None)
        assert torch.allclose(
            log_weights, log_weights[:1], atol=1e-10
        )  # exact: every weight is log p(D_t | D_<t)
        log_px, prior = log_px + log_weights[0], Previous(guide)
    once = update(torch.zeros(1, 3), torch.ones(1, 3), every)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(moments, once))
    everything = pv.log_weights(
        model, MeanField(model).start_at({"w.weight": once}), every, 4, plate=None
    )
    assert torch.allclose(everything, log_px, atol=1e-10)


def test_the_mode_under_the_previous_posterior_is_that_of_all_data() -> None:
    """The same through training: the gradient of MAP vanishes at the mean of the posterior of all
    data."""
    first, second = diagonal_design(6), diagonal_design(9)
    moments = update(torch.zeros(1, 3), torch.ones(1, 3), first)
    model = linear(Previous(MeanField(linear(standard)).start_at({"w.weight": moments})))
    point = PointEstimate(model)
    with torch.no_grad():
        point.loc[0].copy_(update(*moments, second)[0])
    pv.ElboLoss(model, point, num_data=9)(**second).backward()
    assert point.loc[0].grad.abs().max() < 1e-12


def test_previous_forgets_nothing_of_what_it_was_given() -> None:
    guide = MeanField(linear(standard)).start_at(
        {"w.weight": (torch.ones(1, 3), torch.full((1, 3), 0.2))}
    )
    prior = Previous(guide, otherwise=normal(3.0))
    with torch.no_grad():
        guide.loc[0].zero_()
    fn = prior("w.weight", torch.zeros(1, 3))
    assert torch.equal(fn.loc, torch.ones(1, 3)) and torch.allclose(
        fn.scale, torch.full((1, 3), 0.2), atol=1e-12
    )
    assert torch.equal(prior("head1.weight", torch.zeros(2)).scale, torch.full((2,), 3.0))


def test_starting_moments() -> None:
    guide = MeanField(pv.Bayesian(nn.Linear(3, 2)), init_scale=0.3)
    before = guide.moments()["w.bias"][0].detach().clone()
    guide.start_at(
        {
            "w.weight": (torch.ones(2, 3), torch.full((2, 3), 1e-3)),
            "head7.weight": (torch.ones(1),) * 2,
        }
    )
    loc, scale = guide.moments()["w.weight"]
    assert torch.equal(loc, torch.ones(2, 3)) and torch.allclose(
        scale, torch.full((2, 3), 1e-3), rtol=1e-9
    )
    assert torch.equal(guide.moments()["w.bias"][0], before)
    assert torch.allclose(guide.moments()["w.bias"][1], torch.full((2,), 0.3))
    with pytest.raises(ValueError, match="w.weight.*expected \\(2, 3\\)"):
        guide.start_at({"w.weight": (torch.ones(3, 2), torch.ones(3, 2))})


def test_streams() -> None:
    permuted = load_stream("permuted-digits", tasks=2, dataset="", sort_by=None, seed=0)
    first, second = (permuted.train(task).tensors for task in (0, 1))
    assert not torch.equal(first["x"], second["x"]) and torch.equal(
        first["x"].sort(1).values, second["x"].sort(1).values
    )
    assert torch.equal(permuted.train(1).tensors["x"], second["x"]) and permuted.tests(1) == [0, 1]
    split = load_stream("split-digits", tasks=5, dataset="", sort_by=None, seed=0)
    assert sum(len(split.train(task)) for task in range(5)) == len(permuted.train(0))
    assert all(set(split.test(task).tensors["y"].tolist()) == {0, 1} for task in range(5))
    stream = load_stream("regression-stream", tasks=4, dataset="diabetes", sort_by=2, seed=0)
    x = [stream.train(task).tensors["x"][:, 2] for task in range(4)]
    assert all(bool(a.max() <= b.min()) for a, b in zip(x, x[1:])) and sum(map(len, x)) == 398
    assert abs(float(x[0].mean())) < 1e-6 and stream.tests(3) == [3]


def test_heads_of_other_tasks_keep_their_posterior() -> None:
    stream = load_stream("split-digits", tasks=3, dataset="", sort_by=None, seed=0)
    s = ContinualSettings(hidden=(5,), epochs=1, batch_size=64, coreset=4, coreset_epochs=1)
    torch.set_default_dtype(torch.float32)
    learner = Online(stream, s, torch.device("cpu"), coreset=4)
    learner.learn(0, stream.train(0))
    old = {name: moments[0].clone() for name, moments in learner.posterior.items()}
    learner.learn(1, stream.train(1))
    assert set(learner.posterior) == {
        f"{part}.{key}"
        for part, keys in (
            ("body", ("0.layers.0.weight", "0.layers.0.bias")),
            ("head0", ("weight", "bias")),
            ("head1", ("weight", "bias")),
        )
        for key in keys
    }
    assert torch.equal(learner.posterior["head0.weight"][0], old["head0.weight"])
    assert not torch.equal(
        learner.posterior["body.0.layers.0.weight"][0], old["body.0.layers.0.weight"]
    )
    known = {name: moments[0].clone() for name, moments in learner.posterior.items()}
    refined = learner.pairs([0, 1])
    assert all(
        torch.equal(learner.posterior[name][0], known[name]) for name in known
    )  # coresets touch copies alone
    assert not torch.equal(refined[0][1].moments()["head0.weight"][0], known["head0.weight"])
    assert [len(coreset) for coreset in learner.coresets] == [4, 4]


def test_noise_is_one_more_weight() -> None:
    stream = load_stream("regression-stream", tasks=4, dataset="diabetes", sort_by=None, seed=0)
    model = Nets(stream, ContinualSettings(hidden=(5,)), torch.device("cpu")).bayesian(0, standard)
    assert "head0.log_scale" in MeanField(model).moments()
    data: DictDataset = stream.train(0)
    assert pv.ElboLoss(model, MeanField(model), num_data=len(data))(**data.tensors).isfinite()


def test_permuted_digits(tmp_path: Path) -> None:
    """Learning by maximum likelihood forgets more than a posterior does."""
    arguments = (
        "--problem",
        "permuted-digits",
        "--tasks",
        2,
        *QUICK,
        "--coreset",
        100,
        "--out",
        tmp_path,
    )
    out = run("continual.py", *arguments, pixels=True)
    assert "| vcl-coreset |" in out and (tmp_path / "figures" / "accuracy.png").exists()
    results = json.loads((tmp_path / "continual.json").read_text())["results"]
    assert all(
        len(result["accuracy"]) == len(result["seconds"]) == 2 for result in results.values()
    )
    assert all(result["accuracy"][0] > 0.9 for result in results.values())
    kept = {method: result["accuracy_each"][1][0] for method, result in results.items()}
    assert min(kept["vcl"], kept["vcl-coreset"]) > kept["plain"] + 0.05, kept
    assert run("continual.py", *arguments) == out  # from what it has stored


def test_split_digits(tmp_path: Path) -> None:
    run(
        "continual.py",
        "--problem",
        "split-digits",
        "--tasks",
        2,
        *QUICK,
        "--coreset",
        20,
        "--methods",
        "vcl-coreset",
        "--out",
        tmp_path,
    )
    (accuracy,) = json.loads((tmp_path / "continual.json").read_text())["results"].values()
    assert accuracy["accuracy"][0] > 0.95 and accuracy["accuracy"][1] > 0.75  # of two classes


def test_regression_stream(tmp_path: Path) -> None:
    """The error falls with what has been seen; the patients' scores have a standard deviation of
    77."""
    out = run(
        "continual.py",
        "--problem",
        "regression-stream",
        "--tasks",
        2,
        "--sort-by",
        2,
        "--epochs",
        20,
        "--batch-size",
        64,
        "--lr",
        4e-3,
        "--hidden",
        10,
        "--methods",
        "vcl,together,plain",
        "--out",
        tmp_path,
    )
    assert "RMSE" in out and "log p(y|x)" in out
    results = json.loads((tmp_path / "continual.json").read_text())["results"]
    for method in ("vcl", "together"):
        before, after = results[method]["rmse"]
        assert 40 < after < before < 100
        assert results[method]["log_predictive"][1] > results[method]["log_predictive"][0] > -10


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--methods", "vcl,magic"), "magic"),
        (("--problem", "regression-stream", "--sort-by", 10), "features 0..9"),
        (("--problem", "regression-stream", "--tasks", 300), "398 rows"),
        (("--problem", "split-digits", "--methods", "together"), "heads of their own"),
    ],
)
def test_refusals(arguments: tuple, message: str, tmp_path: Path) -> None:
    assert message in run("continual.py", *arguments, "--out", tmp_path, status=2)


def test_another_setting_needs_another_folder(tmp_path: Path) -> None:
    run("continual.py", "--tasks", 1, "--methods", "plain", "--epochs", 1, "--out", tmp_path)
    assert "other settings (epochs)" in run(
        "continual.py", "--tasks", 1, "--epochs", 2, "--out", tmp_path, status=2
    )


def test_a_coreset_fits_its_tasks(tmp_path: Path) -> None:
    command = ("continual.py", "--problem", "regression-stream", "--tasks", 10, "--epochs", 1)
    command = (*command, "--coreset-epochs", 1, "--methods", "vcl-coreset", "--out", tmp_path)
    assert "--coreset 200" in run(*command, "--coreset", 200, status=2)
    run(*command)  # by default it takes what there is
