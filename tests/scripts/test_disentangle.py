"""The comparison of disentanglement: it trains, resumes, draws, and refuses in a line."""

import json
from collections.abc import Iterator
from pathlib import Path

import disentangle
import numpy as np
import pytest
import torch

from pyrovae.data import load_sprites
from pyrovae.recipes.disentanglement import METHODS, Images, Method, train
from pyrovae.recipes.refusal import Refusal

SMALL = ["--epochs", "2", "--hidden", "16", "--latent-size", "3"]


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def run(out: Path, *words: str) -> dict[str, dict[str, float]]:
    parsed = disentangle.command_line.parse(
        disentangle.Comparison, disentangle.__doc__, ["--out", str(out), *SMALL, *words]
    )
    return disentangle.main(parsed)


@pytest.mark.filterwarnings("ignore::pyrovae.CollapseWarning")
def test_the_command_writes_and_continues(tmp_path: Path) -> None:
    names = "vae,capacity,factor-vae"
    found = run(tmp_path, "--methods", names, "--seeds", "2")
    content = json.loads((tmp_path / "disentangle.json").read_text())["methods"]
    assert content == found and list(content) == names.split(",")
    for one in content.values():
        assert 0 <= one["mig"] <= 1 and 0 <= one["sap"] <= 1 and one["seeds"] == 2
        assert one["mig_spread"] >= 0 and np.isfinite(one["total_correlation"])
    for name in ("mig", "sap", "traversals_vae", "traversals_factor_vae"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert (tmp_path / "disentangle.md").read_text().count("±") >= 15
    arrays = np.load(tmp_path / "results" / "vae-0.npz")
    assert arrays["traversals"].shape == (27, 1, 16, 16) and sorted(arrays["dims"]) == [0, 1, 2]
    kept = [tmp_path / "results" / f"vae-{seed}.json" for seed in (0, 1)]
    before = [path.stat().st_mtime_ns for path in kept]
    kept[1].unlink()
    assert run(tmp_path, "--methods", names, "--seeds", "2")["vae"]["mig"] == found["vae"]["mig"]
    after = [path.stat().st_mtime_ns for path in kept]
    assert after[0] == before[0] and after[1] > before[1]
    assert list(run(tmp_path, "--methods", "vae", "--seeds", "1")) == names.split(",")
    with pytest.raises(Refusal, match=r"with other settings \(beta: [\d.]+ there, [\d.]+ here\)"):
        run(tmp_path, "--methods", "vae", "--beta", "3")


@pytest.mark.filterwarnings("ignore::pyrovae.CollapseWarning")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str) -> None:
    data = Images.of(load_sprites())
    torch.manual_seed(0)
    trained = train(name, data, Method(epochs=3, hidden=(16,), latent_size=2))
    scores = trained.scores(data)
    assert scores["elbo"] > -256 * np.log(2) and scores["kl"] >= 0
    assert trained.information(data).shape == (2, 4)


def test_a_weight_on_the_total_correlation_lowers_it() -> None:
    data = Images.of(load_sprites())
    found = {}
    for name in ("vae", "beta-tc-vae"):
        torch.manual_seed(0)
        method = Method(epochs=40, hidden=(64,), latent_size=4, lr=3e-3, tc_beta=20.0)
        found[name] = train(name, data, method).scores(data)["total_correlation"]
    assert found["beta-tc-vae"] < 0.5 * found["vae"]


def test_an_unused_dim_knows_nothing() -> None:
    """By draws; the bins of its means would be full."""
    data = Images.of(load_sprites())
    torch.manual_seed(0)
    trained = train("vae", data, Method(epochs=1, hidden=(16,), latent_size=2))
    last = trained.encoder.net.layers[-1]
    with torch.no_grad():
        last.weight[[0, 2]] *= 1e-3  # mean and scale of the first dim hardly move
        last.bias[[0, 2]] = torch.tensor([0.0, 0.5413])
    information = trained.information(data)
    assert information[0].max() < 0.02


def test_refusals_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="expected some of .* Did you mean beta-vae"):
        run(tmp_path, "--methods", "beta-va")
    with pytest.raises(Refusal, match="--latent-size 1"):
        run(tmp_path, "--latent-size", "1")
