"""The command that trains deep VAEs, as a user runs it, at the smallest size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_scripts import run

import pyrovae as pv
from pyrovae.recipes.results import read_result

TINY = (
    "--batch-size",
    500,
    "--eval-particles",
    20,
    "--eval-data",
    20,
    "--compile",
    "off",
    "--clip-norm",
    100,
)


def test_it_trains_resumes_and_draws(tmp_path: Path) -> None:
    out = tmp_path / "deep"
    output = run("train_deep_vae.py", "--epochs", 2, "--out", out, *TINY)
    content = read_result(out / "run.json")
    assert (
        content["script"] == "train_deep_vae.py"
        and content["arguments"]["model"]["size"] == "small"
    )
    assert content["metrics"]["num_data"] == 20 and content["metrics"]["log_px"] < 0
    assert "trained 2 epochs" in output and content["metrics"]["se"] > 0
    for name in ("curves", "samples", "reconstructions"):
        assert (out / "figures" / f"{name}.png").is_file()
    assert (out / "weights.safetensors").is_file()
    assert "kl_z2" in (out / "history.csv").read_text()
    assert "already holds a run" in run("train_deep_vae.py", "--out", out, *TINY, status=2)
    run("train_deep_vae.py", "--epochs", 3, "--out", out, "--resume", *TINY)
    whole = tmp_path / "whole"
    run("train_deep_vae.py", "--epochs", 3, "--out", whole, *TINY)
    assert (out / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()
    loaded = pv.load_run(out)
    assert loaded.evaluate() == loaded.metrics and len(loaded.history) == 3
    assert loaded.sample(3).shape == (3, 1, 8, 8) and loaded.sample(3).unique().tolist() == [0, 1]
    means = loaded.sample(3, kind="mean", seed=1)
    assert torch.equal(means, loaded.sample(3, kind="mean", seed=1)) and 0 < means.min()
    assert len(loaded.data("train").data) == loaded.run["data"]["num_train"]
    run("evaluate.py", out, "--num-particles", 20, "--max-data", 20)
    found = read_result(out / "evidence.json")
    assert found["log_px"] == pytest.approx(loaded.metrics["log_px"], abs=2.0)
    run("sample.py", out, "--num", 2, "--out", tmp_path / "x.npz")
    assert np.load(tmp_path / "x.npz")["x"].shape == (2, 1, 8, 8)
    assert "takes no condition" in run("sample.py", out, "--label", 1, status=2)
    assert "no run of train_vae.py" in run("score.py", out, out, status=2)
    changed = ("--free-bits", 1, "--epochs", 4, "--resume")
    assert "--free-bits was 0.0" in run(
        "train_deep_vae.py", "--out", out, *changed, *TINY, status=2
    )


@pytest.mark.parametrize("likelihood", ["logistic-mixture", "normal"])
def test_colour_images_of_the_user(likelihood: str, tmp_path: Path) -> None:
    path = tmp_path / "colours.npz"
    x = torch.randint(0, 256, (30, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    np.savez(path, x=x.numpy().astype("uint8"))
    out = tmp_path / "run"
    words = ("--dataset", path, "--likelihood", likelihood, "--epochs", 1, "--kl-warmup", 0)
    run("train_deep_vae.py", *words, "--out", out, *TINY)
    assert read_result(out / "run.json")["data"]["event_shape"] == [3, 32, 32]
    assert (out / "figures" / "samples.png").is_file()


def test_what_it_cannot_model_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "rows.npz"
    np.savez(table, x=np.random.RandomState(0).randn(50, 3))
    for words, said in (
        (("--dataset", table), "expected images"),
        (("--dataset", "digit"), "Did you mean digits?"),
    ):
        assert said in run("train_deep_vae.py", *words, "--out", tmp_path / "no", status=2)
