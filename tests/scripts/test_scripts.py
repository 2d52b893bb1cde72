"""The scripts as a user runs them, most of them inside this process to save the seconds of
importing torch."""

import contextlib
import csv
import io
import itertools
import json
import os
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import nn

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import MixtureOfNormals, StandardNormal
from pyrovae.recipes.conditions import Task
from pyrovae.recipes.vae_figures import draw_figures
from pyrovae.recipes.vae_model_settings import SCALED
from pyrovae.recipes.vae_painter import pairs_of
from pyrovae.recipes.vae_parts import DENSITIES

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
PNG = b"\x89PNG\r\n\x1a\n"
"""How a picture begins, which is all that is written of one that is not rendered."""
QUICK = ("--epochs", "2", "--hidden", "16", "--eval-particles", "20", "--eval-data", "50")


def run(
    script: str,
    *arguments: object,
    status: int = 0,
    cwd: Path | None = None,
    pixels: bool = False,
) -> str:
    """Output of a script; for a refusal what it says on standard error.

    All figures are made, but rendered only for `pixels`, as that takes most of a small run's time:
    once for each script that draws.
    """
    out, error, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        patch.setattr(sys, "argv", [str(SCRIPTS / script), *map(str, arguments)])
        patch.chdir(cwd or Path.cwd())
        if not pixels:
            patch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(PNG))
        torch.set_default_dtype(torch.float32)
        try:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
    assert code == status, error.getvalue()
    return error.getvalue() if status else out.getvalue()


def run_alone(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(pv.__file__).parent.parent),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = run_alone("train_vae.py", *QUICK, cwd=tmp_path)
    assert done.returncode == 0 and "epoch" in done.stderr, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-") and "log p(x) = -" in done.stdout
    assert "Traceback" not in run("train_vae.py", "--binarize", "none", status=2)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    output = run(
        "train_vae.py", *QUICK, "--kl-warmup", "2", "--patience", "5", "--out", folder, pixels=True
    )
    assert "test log p(x) = -" in output and "N = 50 data; K = 20 particles" in output
    return folder


def test_a_run_leaves_everything_a_reader_needs(digits_run: Path) -> None:
    contents = json.loads((digits_run / "run.json").read_text())
    assert (
        contents["arguments"]["run"]["epochs"] == 2
        and contents["seed"] == 0
        and contents["device"]
    )
    assert contents["data"]["binarize"] == "threshold" and contents["data"]["event_shape"] == [
        1,
        8,
        8,
    ]
    assert (
        contents["versions"]["torch"] == torch.__version__.split("+")[0]
        or contents["versions"]["torch"]
    )
    assert (
        contents["metrics"]["num_data"] == 50
        and contents["wall_seconds"] > 0
        and "git_commit" in contents
    )
    with (digits_run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["valid_elbo"]) < 0
    assert rows[0]["beta"] == "0.0" and float(rows[1]["beta"]) == pytest.approx(0.5)
    figures = {path.stem for path in (digits_run / "figures").glob("*.png")}
    assert figures == {
        "curves",
        "kl_per_dim",
        "latent_scatter",
        "reconstructions",
        "samples",
        "interpolation",
        "manifold",
        "label_arithmetic",
        "posteriors",
        "traversals",
    }
    sizes = {path.stat().st_size for path in (digits_run / "figures").glob("*.png")}
    assert min(sizes) > 1000


def test_evaluate_writes_the_evidence(digits_run: Path) -> None:
    output = run(
        "evaluate.py", digits_run, "--num-particles", 30, "--split", "valid", "--max-data", 40
    )
    evidence = json.loads((digits_run / "evidence.json").read_text())
    assert {
        "log_px",
        "se",
        "elbo",
        "num_particles",
        "num_data",
        "ess_median",
        "khat_above_0_7",
        "bits_per_dim",
        "split",
    } <= set(evidence)
    assert (
        evidence["num_particles"] == 30
        and evidence["num_data"] == 40
        and evidence["split"] == "valid"
    )
    each = np.load(digits_run / "evidence.npz")
    assert all(each[name].shape == (40,) for name in ("log_px", "se", "elbo", "ess", "khat"))
    assert evidence["log_px"] == pytest.approx(each["log_px"].mean())
    assert evidence["se"] == pytest.approx(each["log_px"].std(ddof=1) / 40**0.5)
    assert evidence["bits_per_dim"] == pytest.approx(-evidence["log_px"] / (64 * np.log(2)))
    assert f"{evidence['log_px']:.3f}" in output


def test_evaluate_repeats_itself_and_the_training_script(digits_run: Path) -> None:
    metrics = json.loads((digits_run / "run.json").read_text())["metrics"]
    for _ in range(2):
        run("evaluate.py", digits_run, "--num-particles", 20, "--max-data", 50)
        assert json.loads((digits_run / "evidence.json").read_text())["log_px"] == pytest.approx(
            metrics["log_px"], abs=1e-5
        )


def test_every_method_agrees_where_it_can(digits_run: Path) -> None:
    """Two latent dimensions, so that quadrature is exact; 4 standard errors of the difference."""
    run("evaluate.py", digits_run, "--method", "quadrature", "--max-data", 20)
    exact = np.load(digits_run / "evidence-quadrature.npz")["log_px"]
    for method, options in (
        ("is", ("--num-particles", 1000)),
        ("psis", ("--num-particles", 1000)),
        ("is", ("--num-particles", 1000, "--defensive", 0.2)),
        ("is", ("--num-particles", 1000, "--refine", 10)),
        ("ais", ("--num-steps", 60)),
        ("ais", ("--num-steps", 30, "--from-guide")),
    ):
        run("evaluate.py", digits_run, "--method", method, "--max-data", 20, *options)
        each = np.load(
            digits_run / ("evidence.npz" if method == "is" else f"evidence-{method}.npz")
        )
        error = each["log_px"] - exact
        assert abs(error.mean()) < 4 * np.sqrt((each["se"] ** 2).sum()) / 20 + 1e-3, (
            method,
            options,
        )
    run(
        "evaluate.py",
        digits_run,
        "--num-particles",
        200,
        "--max-data",
        20,
        "--gaps",
        "--gap-data",
        10,
        "--gap-steps",
        50,
    )
    gaps = json.loads((digits_run / "gaps.json").read_text())
    assert gaps["num_data"] == 10 and gaps["approximation"] + gaps["amortization"] > 0


def test_numbers_that_are_unknown_are_null(digits_run: Path) -> None:
    run("evaluate.py", digits_run, "--num-particles", 1, "--max-data", 1)
    text = (digits_run / "evidence.json").read_text()
    assert (
        "NaN" not in text
        and json.loads(text)["se"] is None
        and json.loads(text)["monte_carlo_se"] is None
    )


def test_resume_goes_on_and_keeps_its_settings(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("train_vae.py", *QUICK, "--epochs", 4, "--out", whole)
    run("train_vae.py", *QUICK, "--out", parts)
    assert "already holds a run" in run("train_vae.py", *QUICK, "--out", parts, status=2)
    assert "--lr was 0.001, is 0.1" in run(
        "train_vae.py", *QUICK, "--out", parts, "--resume", "--lr", 0.1, status=2
    )
    run("evaluate.py", parts, "--num-particles", 5, "--max-data", 20)
    run("train_vae.py", *QUICK, "--out", parts, "--resume")
    assert (parts / "evidence.json").exists(), "nothing was trained, so that it still holds"
    run("train_vae.py", *QUICK, "--epochs", 4, "--out", parts, "--resume")
    assert not list(parts.glob("evidence*")), (
        "results of the weights before do not look like those of these"
    )
    assert {path.name for path in (parts / "superseded").iterdir()} == {
        "evidence.json",
        "evidence.npz",
    }
    first, second = (load_file(folder / "weights.safetensors") for folder in (whole, parts))
    assert (
        all(torch.equal(first[name], second[name]) for name in first)
        and first.keys() == second.keys()
    )
    assert json.loads((parts / "run.json").read_text())["arguments"]["run"]["epochs"] == 4


@pytest.mark.parametrize(
    ("likelihood", "net"),
    [
        ("continuous-bernoulli", "mlp"),
        ("normal", "conv"),
        ("normal-learned", "mlp"),
        ("normal-predicted", "conv"),
        ("categorical", "conv"),
        ("bernoulli", "conv"),
        ("autoregressive-bernoulli", "mlp"),
        ("low-rank-normal", "mlp"),
        ("student-t", "gated"),
        ("logistic-mixture", "conv"),
        ("poisson", "mlp"),
        ("negative-binomial", "mlp"),
    ],
)
def test_every_likelihood_and_net(tmp_path: Path, likelihood: str, net: str) -> None:
    run(
        "train_vae.py",
        *QUICK,
        "--likelihood",
        likelihood,
        "--net",
        net,
        "--latent-dim",
        3,
        "--out",
        tmp_path / "run",
        "--objective",
        "analytic-kl",
        "--particles",
        2,
        "--free-bits",
        0.1,
        "--clip-norm",
        10,
        *(("--scale", 0.2) if likelihood in SCALED else ()),
    )
    contents = json.loads((tmp_path / "run" / "run.json").read_text())
    binary = likelihood in ("bernoulli", "autoregressive-bernoulli")
    assert contents["data"]["binarize"] == ("threshold" if binary else "none")
    run("evaluate.py", tmp_path / "run", "--num-particles", 5, "--max-data", 20)
    kind = json.loads((tmp_path / "run" / "evidence.json").read_text())["kind"]
    assert kind == ("density" if likelihood in DENSITIES else "probability")


@pytest.mark.parametrize(
    "arguments",
    [
        "--prior vamp --prior-components 20 --guide iaf --objective dreg --particles 3 --latent-dim 3",
        "--prior flow --guide full-rank --objective stl --net gated",
        "--prior mixture --prior-components 5 --guide mixture --objective renyi --particles 3",
        "--prior vamp --prior-components 9 --vamp-inputs fixed --vamp-weights --guide planar --objective iwae --particles 2",
        "--prior flow --prior-flow spline --guide spline --objective capacity --kl-warmup 1",
        "--guide coupling --objective score-function --guide-steps 2",
        "--latent-dim 4 3 2 --ladder --objective analytic-kl --prior flow --net conv",
        "--latent-dim 4 2 --guide low-rank --objective dreg --particles 2 --prior mixture",
    ],
)
def test_every_kind_of_choice_trains_and_is_scored_again(tmp_path: Path, arguments: str) -> None:
    run("train_vae.py", *QUICK, *arguments.split(), "--out", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
    assert (tmp_path / "run" / "figures" / "reconstructions.png").exists()
    run("evaluate.py", tmp_path / "run", "--num-particles", 20, "--max-data", 50)
    again = json.loads((tmp_path / "run" / "evidence.json").read_text())
    assert again["log_px"] == pytest.approx(metrics["log_px"], abs=1e-4)


@pytest.mark.parametrize(
    ("condition", "prior"),
    [
        ("label", "standard"),
        ("label", "flow"),
        ("quadrants-1", "conditional"),
        ("quadrants-3", "standard"),
        ("noise", "flow"),
        ("low-resolution", "conditional"),
    ],
)
def test_conditional_models(tmp_path: Path, condition: str, prior: str) -> None:
    output = run(
        "train_vae.py",
        *QUICK,
        "--condition",
        condition,
        "--prior",
        prior,
        "--out",
        tmp_path / "run",
    )
    figures = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert ("classes" if condition == "label" else "answers") in figures
    metrics = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
    assert (
        ("baseline_log_px" in metrics)
        == (condition != "label")
        == ("a net without latent variables" in output)
    )
    run("evaluate.py", tmp_path / "run", "--num-particles", 20, "--max-data", 50)
    again = json.loads((tmp_path / "run" / "evidence.json").read_text())
    assert again["log_px"] == pytest.approx(metrics["log_px"], abs=1e-4)


def test_a_task_takes_an_image_apart_and_puts_it_together() -> None:
    x = torch.rand(5, 1, 4, 6)
    for name in ("quadrants-1", "quadrants-2", "quadrants-3"):
        task = Task(name, (1, 4, 6))
        parts = task.split({"x": x})
        assert torch.equal(task.image(parts["x"], parts["c"]), x)
        assert int(task.seen().sum()) == 6 * int(name[-1]) and parts["c"].shape == (
            5,
            6 * int(name[-1]),
        )
        assert (task.question(parts["c"])[:, ~task.seen()] == 0.5).all()
    low = Task("low-resolution", (1, 4, 6)).split({"x": x})
    torch.testing.assert_close(low["c"].reshape(5, 2, 3)[:, 0, 0], x[:, 0, :2, :2].mean((-2, -1)))
    noisy = Task("noise", (1, 4, 6)).split({"x": x.expand(200, 5, 1, 4, 6).flatten(0, 1)})
    assert 0.17 < (noisy["x"] != noisy["c"]).double().mean() < 0.23
    label = Task("label", (1, 4, 6), 3).split({"x": x, "y": torch.tensor([0, 2, 1, 1, 0])})
    assert label["c"].argmax(-1).tolist() == [0, 2, 1, 1, 0] and label["x"].shape == (5, 24)


@pytest.mark.parametrize(
    ("prior", "standard"), [(StandardNormal(2), True), (MixtureOfNormals(2, 3), False)]
)
def test_only_a_standard_normal_is_drawn_as_the_prior(prior: nn.Module, standard: bool) -> None:
    splits = load_digits()
    test = splits.batches("threshold", batch_size=400)[2]
    model = pv.Model(z=prior, x=pv.Node(BernoulliHead(MLP(2, [8], (1, 8, 8)), event_dim=3), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP((1, 8, 8), [8], 4)), "x"))
    drawn = draw_figures(
        model.float(),
        guide.float(),
        test,
        pv.History([{"epoch": 1, "elbo": -1.0}]),
        splits,
        torch.device("cpu"),
    )["latent_scatter"]
    assert bool(drawn.axes[0].patches) == standard


def test_compare_trains_a_grid_once(tmp_path: Path) -> None:
    grid = (
        "--grid",
        "prior=standard,flow",
        "guide=diagonal",
        "+",
        "prior=mixture",
        "particles=2",
        "prior_components=4",
    )
    ask = (*grid, *QUICK, "--out", tmp_path, "--score-particles", 20, "--score-data", 30)
    first = run("compare_vae.py", *ask, pixels=True)
    assert "+- is one standard error" in first and (tmp_path / "table.png").exists()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prior"] for row in rows] == ["standard", "flow", "mixture"] and float(
        rows[0]["gain"]
    ) == 0
    each = [np.load(tmp_path / row["run"] / "evidence.npz")["log_px"] for row in rows]
    assert float(rows[1]["gain"]) == pytest.approx((each[1] - each[0]).mean())
    assert float(rows[1]["gain_se"]) == pytest.approx((each[1] - each[0]).std(ddof=1) / 30**0.5)
    written = (tmp_path / rows[2]["run"] / "weights.safetensors").stat().st_mtime_ns
    assert run("compare_vae.py", *ask).endswith(first[first.index("| run") :])
    assert (tmp_path / rows[2]["run"] / "weights.safetensors").stat().st_mtime_ns == written
    assert "other settings" in run("compare_vae.py", *ask, "--lr", 0.5, status=2)
    assert "not a value of guide" in run("compare_vae.py", "--grid", "guide=best", status=2)
    assert "expected setting=value" in run("compare_vae.py", "--grid", "colour=blue", status=2)


def test_walks_join_different_classes() -> None:
    for classes in ([1, 1, 1, 0, 0, 2, 2, 1], [0, 0, 0, 0, 0, 1]):
        pairs, names = pairs_of(classes)
        assert names == [f"{classes[a]} to {classes[b]}" for a, b in pairs]
        assert all(classes[a] != classes[b] for a, b in pairs)
        assert len({row for pair in pairs for row in pair}) == 2 * len(pairs) > 0
    assert (
        pairs_of([None] * 4) == ([(0, 1), (2, 3)], None)
        and pairs_of([7, 7]) == ([(0, 1)], None)
        and pairs_of([7]) == ([], [])
    )


@pytest.mark.parametrize("size", [2, 5])
def test_pictures_say_what_they_show(size: int) -> None:
    splits = load_digits()
    test = splits.batches("threshold", batch_size=400)[2]
    model = pv.Model(
        z=StandardNormal(size),
        x=pv.Node(BernoulliHead(MLP(size, [8], (1, 8, 8)), event_dim=3), "z"),
    )
    guide = pv.Guide(z=pv.Node(NormalHead(MLP((1, 8, 8), [8], 2 * size)), "x"))
    drawn = draw_figures(
        model.float(),
        guide.float(),
        test,
        pv.History([{"epoch": 1, "elbo": -1.0}]),
        splits,
        torch.device("cpu"),
    )
    for name in (
        "latent_scatter",
        "interpolation",
        "reconstructions",
        "manifold",
        "label_arithmetic",
        "samples",
    ):
        assert drawn[name].axes[0].get_title(), name
    assert ("other dimensions at 0" in drawn["manifold"].axes[0].get_title()) == (size > 2)
    for name in ("interpolation", "label_arithmetic"):
        rows = [label.get_text() for label in drawn[name].axes[0].get_yticklabels()]
        assert len(rows) >= 5 and all(row.split(" to ")[0] != row.split(" to ")[1] for row in rows)


def test_compare_gives_no_gain_of_densities_over_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr("pyrovae.plots.save", lambda figures, folder: drawn.update(figures))
    grid = (
        "--grid",
        "likelihood=bernoulli,continuous-bernoulli",
        "+",
        "condition=label",
        "+",
        "binarize=dynamic",
    )
    output = run(
        "compare_vae.py",
        *grid,
        *QUICK,
        "--out",
        tmp_path,
        "--score-particles",
        20,
        "--score-data",
        30,
    )
    assert "do not compare" in output
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["gain"]) for row in rows] == [True, False, True, False]
    shown = [axes.containers[0].lines[0].get_xdata().tolist() for axes in drawn["table"].axes]
    assert shown == [
        pytest.approx([float(rows[index]["log_px"]) for index in some]) for some in ((0, 2),)
    ] + [
        pytest.approx([0.0, float(rows[2]["gain"])]),
        pytest.approx([float(rows[1]["log_px"])]),
        pytest.approx([float(rows[3]["log_px"])]),
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (("prior=standard", "prior=mixture"), "write prior=standard,mixture"),
        (("+",), "names no setting"),
        (("resume=True",), "expected setting=value"),
        (("out=here",), "expected setting=value"),
    ],
)
def test_compare_refuses_grids_that_it_would_misread(
    tmp_path: Path, grid: tuple[str, ...], message: str
) -> None:
    assert message in run("compare_vae.py", "--grid", *grid, *QUICK, "--out", tmp_path, status=2)


def test_reproduce_prints_ours_beside_theirs(tmp_path: Path) -> None:
    ask = (
        "reproduce.py",
        "iwae",
        "--scale",
        1e-4,
        "--dataset",
        "digits",
        "--out",
        tmp_path,
        "--eval-data",
        20,
        "--eval-particles",
        10,
        "--only",
        "1 layer, k = 1",
        "1 layer, k = 5",
        "2 layers, k = 5",
    )
    text = run(*ask)
    assert (
        "86.76 (mnist)" in text
        and "85.54 (mnist)" in text
        and "K = 10, N = 20" in text
        and "Differences" in text
    )
    assert text == run(*ask)  # read back, not trained anew
    vamp = run(
        "reproduce.py",
        "vamp",
        "--scale",
        1e-3,
        "--dataset",
        "digits",
        "--out",
        tmp_path,
        "--eval-data",
        20,
        "--eval-particles",
        10,
    )
    assert "85.57" in vamp
    assert "expected some of" in run(
        "reproduce.py", "vamp", "--only", "foo", "--out", tmp_path, status=2
    )


def test_a_users_vectors(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        x=generator.normal(3, 2, (80, 5)).astype(np.float32),
        x_test=generator.normal(3, 2, (30, 5)).astype(np.float32),
    )
    run(
        "train_vae.py",
        *QUICK,
        "--dataset",
        "mine.npz",
        "--likelihood",
        "normal-learned",
        "--out",
        "run",
        cwd=tmp_path,
    )
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == {
        "curves",
        "kl_per_dim",
        "latent_scatter",
        "posteriors",
    }
    run("evaluate.py", "run", "--num-particles", 5, cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "evidence.json").read_text())["num_data"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--binarize", "none"), "grey values"),
        (("--likelihood", "beta"), "exactly 0 or 1"),
        (("--likelihood", "categorical", "--binarize", "static"), "discards"),
        (("--dataset", "nowhere.npz"), "nowhere.npz"),
        (("--device", "cuda:77"), "is not available here"),
        (("--resume",), "needs the folder"),
        (("--patience", 3, "--valid-size", 0), "holds out no data"),
        (("--condition", "label", "--dataset", "mine.npz"), "has no y, y_valid, y_test"),
        (
            ("--dataset", "minst"),
            "Did you mean mnist or kmnist? Expected digits, mnist, fashion-mnist",
        ),
        (("--dataset", "mien.npz"), "no such file (relative to "),
        (("--dataset", "mien.npz"), "Did you mean mine.npz?"),
        (
            ("--dataset", "table.txt"),
            "np.loadtxt('table.txt', skiprows=1); np.savez('table.npz'",
        ),
        (("--resume", "--out", "empty"), "no checkpoint to resume from"),
    ],
)
def test_refusals_are_one_line_and_leave_no_run(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    np.savez(
        tmp_path / "mine.npz", x=np.random.default_rng(0).random((20, 5), dtype=np.float32).round()
    )
    (tmp_path / "table.txt").write_text("a b\n1 2\n")
    error = run("train_vae.py", *QUICK, *arguments, status=2, cwd=tmp_path)
    assert message in error and error.strip().splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("likelihood", "table", "words"),
    [
        ("bernoulli", "normal", ("scores 0 and 1", "--likelihood normal-learned")),
        (
            "continuous-bernoulli",
            "lognormal",
            ("scores numbers from 0 to 1", "--likelihood normal-learned"),
        ),
        (
            "beta",
            "ages",
            (
                "numbers between 0 and 1",
                "--likelihood normal-learned",
                "--likelihood poisson",
                "store x / 255",
            ),
        ),
        (
            "bernoulli",
            "large",
            ("rows of numbers from 9", "--likelihood normal-learned", "--likelihood poisson"),
        ),
        ("categorical", "normal", ("grey levels", "--likelihood normal-learned")),
        ("poisson", "normal", ("not counts", "--likelihood normal-learned")),
    ],
)
def test_a_table_is_sent_to_the_likelihood_that_scores_it(
    tmp_path: Path, likelihood: str, table: str, words: tuple
) -> None:
    rng = np.random.default_rng(0)
    x = {
        "normal": rng.normal(size=(60, 4)),
        "lognormal": rng.lognormal(size=(60, 4)),
        "ages": rng.integers(18, 90, (60, 4)).astype(float),
        "large": rng.integers(900, 2000, (60, 4)),
    }[table]
    np.savez(tmp_path / "table.npz", x=x)
    ask = ("train_vae.py", *QUICK, "--dataset", "table.npz", "--out", "run")
    error = run(*ask, "--likelihood", likelihood, status=2, cwd=tmp_path)
    assert all(word in error for word in words) and "Traceback" not in error
    assert ("255" in error) == ("store x / 255" in words)
    run(*ask, "--likelihood", "normal-learned", cwd=tmp_path)


def test_labels_of_the_training_data_alone_are_no_obstacle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        x=rng.random((60, 8, 8)),
        y=np.arange(60) % 3,
        x_test=rng.random((20, 8, 8)),
    )
    run("train_vae.py", *QUICK, "--dataset", "mine.npz", "--out", "run", cwd=tmp_path)
    refused = run(
        "train_vae.py",
        *QUICK,
        "--dataset",
        "mine.npz",
        "--condition",
        "label",
        status=2,
        cwd=tmp_path,
    )
    assert "mine.npz has no y_test" in refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--latent-dim 0", "expected at least 1"),
        ("--epochs 0", "expected at least 1"),
        ("--eval-particles 0", "at least 1"),
        ("--lr -1", "expected a positive number"),
        ("--lr nan", "expected a positive number"),
        ("--kl-warmup -1", "expected at least 0"),
        ("--free-bits -1", "at least 0"),
        ("--particles 0", "at least 1"),
        ("--net conv --hidden", "at least one number"),
        ("--objective iwae --beta 2", "weigh the KL"),
        ("--prior conditional", "give one with --condition"),
        ("--prior vamp --condition label", "also depends on c"),
        ("--prior vamp --guide-steps 3", "made of the guide's encoder"),
        ("--condition label --net conv", "use --net mlp"),
        ("--latent-dim 3 2 --guide iaf", "transforms one latent layer"),
        ("--ladder", "needs several latent layers"),
        ("--latent-dim 3 2 --prior vamp", "one latent layer"),
        ("--prior flow --latent-dim 1", "--prior-flow spline"),
        ("--objective score-function --free-bits 1", "does without"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(arguments: str, message: str) -> None:
    error = " ".join(run("train_vae.py", *arguments.split(), status=2).replace("│", " ").split())
    assert message in error and "Traceback" not in error


def test_evaluate_refuses_what_is_no_run(tmp_path: Path, digits_run: Path) -> None:
    assert "no run.json" in run("evaluate.py", tmp_path, status=2)
    (tmp_path / "run.json").write_text((digits_run / "run.json").read_text())
    assert "has not finished" in run("evaluate.py", tmp_path, status=2)
    (tmp_path / "weights.safetensors").write_bytes(
        (digits_run / "weights.safetensors").read_bytes()[:1000]
    )
    assert "damaged" in run("evaluate.py", tmp_path, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-particles", 100, "--defensive", 0.001), "leaves no particle to the prior"),
        (("--num-particles", 24, "--method", "psis"), "at least 25"),
    ],
)
def test_evaluate_refuses_counts_that_give_no_number(
    digits_run: Path, arguments: tuple, message: str
) -> None:
    error = " ".join(
        run("evaluate.py", digits_run, *arguments, status=2).replace("│", " ").split()
    )
    assert message in error and "Traceback" not in error


GROUPS = {
    "data": "--dataset --binarize --valid-size --condition",
    "model": "--likelihood --prior --guide --net --latent-dim",
    "objective": "--objective --particles --beta",
    "run": "--epochs --lr --seed --out --resume",
}


def boxes_of(text: str) -> dict[str, str]:
    """Group -> its part of `--help`, without what frames it (lines where the output can show them,
    dashes otherwise)."""
    plain = re.sub(r"[│╭╮╰╯─]", " ", text)
    titles = list(re.finditer(r"^ *(\w+) options", plain, re.MULTILINE))
    return {
        title[1]: plain[title.end() : after.start() if after else None]
        for title, after in itertools.zip_longest(titles, titles[1:])
    }


@pytest.mark.parametrize("columns", [80, 120])
def test_help_is_grouped_and_wrapped_once(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = run("train_vae.py", "--help")
    assert all(len(line) <= columns for line in text.splitlines())
    boxes = boxes_of(text)
    assert list(boxes) == list(GROUPS)
    for group, flags in GROUPS.items():
        for flag in flags.split():
            assert [
                name
                for name, box in boxes.items()
                if re.search(rf"^ *{flag}[ ,]", box, re.MULTILINE)
            ] == [group], flag
    lines = boxes["data"].partition("--dataset STR")[2].partition("--binarize")[0].splitlines()
    body = [line.rstrip() for line in lines if line.strip()]
    for line, after in zip(
        body[1:], body[2:]
    ):  # where text was wrapped twice, the next word would have fitted
        assert len(line) + 1 + len(after.split()[0]) > columns - 8, (line, after)


def test_help_names_every_choice() -> None:
    text = run("train_vae.py", "--help")
    for word in (
        "normal-predicted",
        "dynamic",
        "--kl-warmup",
        "--free-bits",
        "PYROVAE_DATA",
        "--resume",
    ):
        assert word in text
    assert "--num-particles" in run("evaluate.py", "--help") and "--rounds" in run(
        "benchmark.py", "--help"
    )


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(pv.__file__).parent.parent),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            SCRIPTS / "train_vae.py",
            *QUICK,
            "--batch-size",
            "64",
            "--patience",
            "5",
            "--out",
            tmp_path / "run",
        ],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("log p(x) = -") == 1
        and "N = 50 data" in done.stdout
        and "2 x cpu" in done.stdout
    )
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The cores that the benchmark would pin this process to, which stays where it is; its
    environment comes back too, and its products of matrices are small."""
    cores: list[list[int]] = []
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda pid, some: cores.append(some), raising=False
    )
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda: types.SimpleNamespace(name=""))
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda n, *_, **options: rand(n, 64, 64, **options))
    return cores


def test_benchmark_prints_and_keeps_what_it_measured(
    tmp_path: Path, pinned: list, uses_param_store: None
) -> None:
    """Of the works that compile nothing: the imports, each in a process of its own."""
    said = run("benchmark.py", "import", "--rounds", "1", "--out", tmp_path)
    assert "| import pyrovae |" in said and "GFLOP/s" in said
    assert [len(cores) for cores in pinned] == [1]
    case = json.loads((tmp_path / "benchmark.json").read_text())["cases"]["import"]
    assert case["unit"] == "import pyro" and case["peers"]["import pyrovae"]["seconds"] > 0.1
    assert "unknown works" in run("benchmark.py", "nothing", status=2)
    assert "not available here" in run("benchmark.py", "tiny", "--device", "cuda:77", status=2)


def test_benchmark_of_chains_prints_and_keeps_what_it_measured(
    tmp_path: Path, uses_param_store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[list[int]] = []
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda pid, some: pinned.append(some), raising=False
    )
    monkeypatch.setattr("benchmark_works.numpyro_is_here", lambda: False)
    monkeypatch.setattr("benchmark.machine", lambda threads, device: "a machine")
    few = ("--rounds", 1, "--eager-draws", 4, "--many", 4, "--many-samples", 8, "--warmup", 4)
    said = run("benchmark_mcmc.py", "funnel", *few, "--out", tmp_path)
    assert "| ChEES-HMC |" in said and "ChEES-HMC: " in said
    assert [len(cores) for cores in pinned] == [1]
    rows = json.loads((tmp_path / "mcmc.json").read_text())["posteriors"]["funnel"]
    assert set(rows) == {
        "Pyro's NUTS",
        "Pyro's NUTS, compiled",
        "NUTS of many chains",
        "ChEES-HMC",
    }
    for row in rows.values():
        assert (
            row["ms_per_ess"] == pytest.approx(1e3 * row["seconds"] / row["ess"])
            and row["ess"] > 0
        )
    assert "unknown works" in run("benchmark_mcmc.py", "nothing", status=2)


@pytest.mark.parametrize("work", ["train", "bnn", "evidence", "predict"])
def test_works_of_the_benchmark_take_turns(
    work: str, monkeypatch: pytest.MonkeyPatch, uses_param_store: None
) -> None:
    """Each at its smallest, replayed but not compiled."""
    import benchmark_works as works
    from benchmark import table

    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    monkeypatch.setattr(torch, "compile", lambda loss: loss)
    monkeypatch.setattr(works, "numpyro_is_here", lambda: False)
    monkeypatch.setattr(works, "BNN", (8, 4, 4, 3))
    case = {
        "train": lambda: works.train(8, 4, 2, 8, 2, 3, 2),
        "bnn": lambda: works.bnn(8, 3, 2),
        "evidence": lambda: works.evidence(250, 2, 8, 4, 2),
        "predict": lambda: works.predict(3, 5, 2),
    }[work]
    times, facts = case()
    assert all(seconds > 0 for peer in times.values() for seconds in peer) and works.OURS in times
    text, numbers = table(work, times, facts, 1e9)
    assert numbers["peers"]["hand-written PyTorch"]["ratio"] == 1.0 and f"| {works.OURS} |" in text
