"""The commands that use a trained VAE: their files are read here without pyrovae."""

import csv
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from test_scripts import QUICK, run

from pyrovae.data import load_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("use") / "digits"
    run("train_vae.py", *QUICK, "--latent-dim", 3, "--out", path)
    return path


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("use") / "autoencoder"
    out = run("train_vae.py", *QUICK, *["--guide", "point", "--prior", "flat"], "--out", path)
    assert "no log p(x)" in out and not (path / "figures" / "samples.png").exists()
    return path


def test_samples_are_written_with_a_sheet(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.npz"
    said = run("sample.py", folder, "--num", 12, "--out", out, pixels=True)
    x = np.load(out)["x"]
    assert x.shape == (12, 1, 8, 8) and set(np.unique(x)) == {0, 1} and "12 samples" in said
    assert out.with_suffix(".png").stat().st_size > 1000
    run("sample.py", folder, "--num", 12, "--out", tmp_path / "t.npz")
    np.testing.assert_array_equal(x, np.load(tmp_path / "t.npz")["x"])


def test_codes_are_written_with_pictures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.npz"
    said = run(
        "embed.py", folder, "digits", "--out", out, "--max-data", 60, "--neighbours", 4,
        "--attribute", "y=3", pixels=True,
    )  # fmt: skip
    arrays = np.load(out)
    assert arrays["mean"].shape == arrays["scale"].shape == (60, 3)
    assert arrays["y"].shape == (60,) and arrays["attribute_y=3"].shape == (3,)
    distance = ((arrays["mean"][:, None] - arrays["mean"]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(arrays["neighbours"][:, 0], distance.argmin(1))
    assert "linear probe: accuracy" in said
    for name in ("map", "neighbours", "traversals", "posteriors", "attribute-y-3"):
        assert (tmp_path / f"c-{name}.png").exists()


def test_data_come_from_files_too(folder: Path, tmp_path: Path) -> None:
    x = load_digits().test.tensors["x"].numpy()[:8]
    np.savez(tmp_path / "d.npz", x=x)
    names = [f"p{i}" for i in range(64)]
    with (tmp_path / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *x.reshape(8, 64).tolist()])
    codes = []
    for data in ("d.npz", "d.csv"):
        run("embed.py", folder, tmp_path / data, "--out", tmp_path / "c.npz")
        codes.append(np.load(tmp_path / "c.npz")["mean"])
    np.testing.assert_allclose(*codes, atol=1e-6)


def test_scores_tell_noise(folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((30, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "noise.npz", x=noise)
    said = run(
        "score.py", folder, "digits", "--against", tmp_path / "noise.npz", "--out", tmp_path,
        *["--num-particles", "20", "--max-data", "30", "--regret-steps", "2"], pixels=True,
    )  # fmt: skip
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and {row["set"] for row in rows} == {
        "digits",
        str(tmp_path / "noise.npz"),
    }
    result = json.loads((tmp_path / "scores.json").read_text())
    usual, other = (
        np.array([float(row["score_log_px"]) for row in rows if (row["set"] == "digits") == first])
        for first in (True, False)
    )
    area = (other[:, None] > usual).mean()
    assert abs(result["detection"]["log_px"]["auroc"] - area) < 1e-9 and area > 0.9
    assert result["sets"]["digits"]["log_px"] == pytest.approx(-usual.mean())
    assert "The best score here is" in said and (tmp_path / "scores.png").exists()


def test_runs_are_compared_datum_by_datum(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run("train_vae.py", *QUICK, "--latent-dim", 2, "--prior", "laplace", "--out", other)
    said = run(
        "compare_models.py", folder, other, "--out", tmp_path / "cmp",
        *["--num-particles", "20", "--max-data", "40"], pixels=True,
    )  # fmt: skip
    with (tmp_path / "cmp" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    gap = np.array(
        [float(row[f"log_px_{folder}"]) - float(row[f"log_px_{other}"]) for row in rows]
    )
    (found,) = json.loads((tmp_path / "cmp" / "comparison.json").read_text())["differences"]
    assert found["mean"] == pytest.approx(gap.mean()) and len(gap) == 40
    assert found["se"] == pytest.approx(gap.std(ddof=1) / 40**0.5)
    assert found["first_wins"] == pytest.approx((gap > 0).mean()) and f"{gap.mean():+.3f}" in said
    levels = tmp_path / "levels"
    run("train_vae.py", *QUICK, "--likelihood", "categorical", "--out", levels)
    assert "do not compare" in run("compare_models.py", folder, levels, status=2)


def test_what_each_term_of_the_elbo_does(tmp_path: Path) -> None:
    run("elbo_terms.py", "--epochs", 3, "--out", tmp_path, pixels=True)
    models = json.loads((tmp_path / "elbo_terms.json").read_text())["models"]
    reconstruction, kl, both = models.values()
    assert kl["kl"] < 0.2 < both["kl"] < reconstruction["kl"]
    assert reconstruction["reconstruction"] > kl["reconstruction"]
    assert (tmp_path / "elbo_terms.png").exists()


@pytest.mark.parametrize(
    "script, arguments, message",
    [
        ("sample.py", "{run} --out /none/s.npz", "a file in a folder that can be written"),
        ("sample.py", "{run} --label 3", "takes no condition"),
        ("sample.py", "{run} --num 0", "--num 0: expected at least 1"),
        ("sample.py", "{none}", "is not a folder"),
        ("sample.py", "{auto}", "the prior is flat"),
        ("embed.py", "{run} digit", "Did you mean digits"),
        ("embed.py", "{run} digits --attribute z=1", "attribute 'z=1'"),
        ("score.py", "{auto} digits", "an autoencoder"),
        ("compare_models.py", "{run}", "nothing to compare"),
        ("compare_models.py", "{run} {auto}", "an autoencoder"),
        ("evaluate.py", "{auto}", "an autoencoder"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, autoencoder: Path, script: str, arguments: str, message: str, tmp_path: Path
) -> None:
    words = arguments.format(run=folder, auto=autoencoder, none=tmp_path / "none").split()
    error = run(script, *words, status=2, cwd=tmp_path)
    assert message in error and len(error.strip().splitlines()) == 1, error


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--prior flat", "use --guide point"),
        ("--guide point --objective iwae --particles 5", "--guide point draws nothing"),
        ("--guide point --prior vamp", "a prior with a density at the code"),
        ("--contractive 1", "use --guide point"),
        ("--corrupt-level 0.5", "--corrupt"),
        ("--corrupt noise --corrupt-level 0", "above 0"),
        ("--laplace-scale 2", "--prior laplace"),
    ],
)
def test_autoencoders_that_mean_nothing_are_refused(arguments: str, message: str) -> None:
    assert message in run("train_vae.py", *QUICK, *arguments.split(), status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        "--guide point --prior laplace --corrupt mask --net conv",
        "--guide point --contractive 0.1",
        "--corrupt noise --guide iaf",
        "--guide point --condition label",
    ],
)
def test_autoencoders_train(arguments: str, tmp_path: Path) -> None:
    run("train_vae.py", *QUICK, *arguments.split(), "--out", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
    assert ("reconstruction" in metrics) == ("point" in arguments)
    assert np.isfinite(next(iter(metrics.values())))


def test_a_tracker_gets_rows_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple] = []
    fake = types.ModuleType("mlflow")
    for name in ("start_run", "log_params", "log_metrics", "log_figure", "end_run"):
        setattr(fake, name, lambda *args, _name=name, **kwargs: seen.append((_name, args, kwargs)))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    run("train_vae.py", *QUICK, "--track", "mlflow", "--out", tmp_path / "run")
    names = [name for name, *_ in seen]
    assert names[:2] == ["start_run", "log_params"] and names[-1] == "end_run"
    assert names.count("log_metrics") == 2 and names.count("log_figure") >= 5
    (settings,) = seen[1][1]
    assert settings["model.latent_dim"] == "(2,)" and settings["run.epochs"] == 2


def test_a_tracker_that_is_not_installed_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    error = run("train_vae.py", *QUICK, "--track", "wandb", "--out", tmp_path / "r", status=2)
    assert "pip install wandb" in error


def test_conditions_of_ones_own(tmp_path: Path) -> None:
    part = load_digits().train.tensors
    x, y = part["x"].numpy()[:200], part["y"].numpy()[:200]
    c = np.stack([np.cos(y), np.sin(y)], 1)
    np.savez(tmp_path / "d.npz", x=x, c=c)
    np.savez(tmp_path / "given.npz", c=c[:2])
    folder = tmp_path / "run"
    own = ("--dataset", tmp_path / "d.npz", "--binarize", "threshold")
    run("train_vae.py", *QUICK, *own, "--condition", "own", "--out", folder)
    out = tmp_path / "s.npz"
    run("sample.py", folder, "--given", tmp_path / "given.npz", "--num", 5, "--out", out)
    found = np.load(out)
    assert found["x"].shape == (5, 1, 8, 8)
    np.testing.assert_allclose(found["c"], c[[0, 1, 0, 1, 0]])
    run("embed.py", folder, tmp_path / "d.npz", "--max-data", 20, "--out", tmp_path / "c.npz")
    assert np.load(tmp_path / "c.npz")["mean"].shape == (20, 2)
    run("evaluate.py", folder, "--num-particles", 5, "--max-data", 10)
    for words, message in (
        ((folder,), "pass c"),
        ((folder, "--given", tmp_path / "none.npz"), "expected an .npz with rows c"),
        ((folder, "--label", 1), "c has shape (100,), expected (100, 2)"),
    ):
        assert message in run("sample.py", *words, status=2, cwd=tmp_path)
    assert "holds no c" in run("train_vae.py", *QUICK, "--condition", "own", status=2)
    np.savez(tmp_path / "short.npz", x=x, c=c[:-1])
    short = ("--dataset", tmp_path / "short.npz", "--condition", "own")
    assert "one row for each of x" in run("train_vae.py", *QUICK, *short, status=2)
    # without --condition own, c has no part in the run
    run("train_vae.py", *QUICK, *own, "--out", tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "run.json").read_text())["data"]["num_conditions"] == 0
