"""What can be done with a loaded VAE: draws, codes and scores are those of its pair, in the user's
own units, whatever layout the data come in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_scripts import QUICK, run

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.recipes.anomaly import anomaly_scores, conclusion, detection
from pyrovae.recipes.embedding import nearest, plane, probe
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae_layout import VaeLayout


@pytest.fixture(autouse=True)
def single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def trained(folder: Path, *arguments: object) -> TrainedVae:
    run("train_vae.py", *QUICK, *arguments, "--out", folder)
    torch.set_default_dtype(torch.float32)
    loaded = pv.load_run(folder)
    assert isinstance(loaded, TrainedVae)
    return loaded


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> TrainedVae:
    return trained(tmp_path_factory.mktemp("vae") / "run", "--latent-dim", 3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return load_digits().test.tensors["x"].numpy()[:40]


def test_codes_and_reconstructions_are_those_of_the_pair(vae: TrainedVae, x: np.ndarray) -> None:
    assert repr(vae).startswith("TrainedVae('") and len(repr(vae)) < 1000
    binary = torch.from_numpy((x > 0.5).astype(np.float32))
    codes = vae.encode(x, num_draws=400)
    with torch.no_grad():
        posterior = vae.guide.nodes["z"]({"x": binary})
        torch.testing.assert_close(codes.mean, posterior.mean)
        torch.testing.assert_close(codes.scale, posterior.stddev)
        expected = vae.model.nodes["x"]({"z": posterior.mean}).mean
    assert codes.draws.shape == (400, 40, 3)
    error = (codes.draws.mean(0) - codes.mean) / (codes.scale / 20)
    assert error.abs().max() < 5
    torch.testing.assert_close(vae.reconstruct(x), expected)
    torch.testing.assert_close(vae.decode(codes.mean[None]), expected[None])


def test_the_layout_of_the_data_does_not_matter(vae: TrainedVae, x: np.ndarray) -> None:
    codes = vae.encode(x).mean
    for same in (
        x[:, 0],
        x.reshape(40, -1),
        x.transpose(0, 2, 3, 1),
        torch.from_numpy(x).double(),
    ):
        torch.testing.assert_close(vae.encode(same).mean, codes)
    black = (x > 0.5).astype(np.uint8)
    torch.testing.assert_close(vae.encode(black).mean, codes)
    with pytest.raises(Refusal, match="17 grey levels, so its unit is unclear"):
        vae.encode((16 * x).astype(np.uint8))
    pixels = VaeLayout((1, 8, 8), 256, whole=False, binarize="none").to_model(black * 255)
    assert torch.equal(pixels, torch.from_numpy(black).float())


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((8, 8)), "expected \\(N, 1, 8, 8\\)"),
        (np.zeros((1, 8, 8)), "one datum"),
        (np.zeros((0, 64)), "no datum"),
        (np.full((2, 64), 16.0), "from 16 to 16"),
        (np.full((2, 64), np.nan), "NaN or infinity, first in row 0"),
        (np.array([["a"] * 64]), "dtype <U1"),
    ],
)
def test_other_data_are_refused(vae: TrainedVae, bad: np.ndarray, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        vae.encode(bad)


def test_samples_are_by_seed_and_move_no_stream(vae: TrainedVae) -> None:
    state = torch.get_rng_state()
    draws, means = vae.sample(600, seed=3), vae.sample(600, kind="mean", seed=3)
    assert torch.equal(draws, vae.sample(600, seed=3))
    assert not torch.equal(draws, vae.sample(600, seed=4))
    assert torch.equal(state, torch.get_rng_state())
    assert draws.shape == (600, 1, 8, 8) and draws.unique().tolist() == [0, 1]
    # draws and means have one expectation, pixel by pixel
    gap = (draws.mean(0) - means.mean(0)).abs()
    assert (gap < 5 * (0.5 / 600**0.5)).all()


def test_evidence_is_that_of_the_pair(vae: TrainedVae, x: np.ndarray) -> None:
    found = vae.log_evidence(x, num_particles=50, seed=2)
    torch.manual_seed(2)
    expected = pv.log_evidence(vae.model, vae.guide, vae.batch(x), num_particles=50)
    assert torch.equal(found.log_px, expected.log_px)


def test_paths_and_attributes(vae: TrainedVae, x: np.ndarray) -> None:
    path = vae.interpolate(x[:2], x[2:4], num_steps=5)
    torch.testing.assert_close(path[:, 0], vae.reconstruct(x[:2]))
    torch.testing.assert_close(path[:, -1], vae.reconstruct(x[2:4]))
    train = vae.data("train").data.tensors
    codes = vae.encode(train["x"]).mean
    direction = codes[train["y"] == 3].mean(0) - codes[train["y"] != 3].mean(0)
    torch.testing.assert_close(vae.attribute("y=3"), direction, atol=1e-5, rtol=1e-4)
    for wrong in ("y", "z=1", "y=three", "y=77"):
        with pytest.raises(Refusal, match="attribute"):
            vae.attribute(wrong)


def test_levels_come_back_as_pixels(tmp_path: Path, x: np.ndarray) -> None:
    loaded = trained(tmp_path / "run", "--likelihood", "categorical")
    batch = loaded.batch(x)
    assert batch["x"].max() == 16
    torch.testing.assert_close(loaded.layout.to_user(batch["x"]), torch.from_numpy(x))
    drawn = loaded.sample(5) * 16
    assert torch.equal(drawn, drawn.round()) and drawn.max() <= 16
    assert loaded.reconstruct(x).max() <= 1


def test_a_label_is_given_to_a_conditional_model(tmp_path: Path, x: np.ndarray) -> None:
    loaded = trained(tmp_path / "run", "--condition", "label")
    y = load_digits().test.tensors["y"].numpy()[:40]
    assert loaded.sample(6, c=np.arange(6)).shape == (6, 1, 8, 8)
    assert loaded.reconstruct(x, c=y).shape == (40, 1, 8, 8)
    assert len(loaded.log_evidence(x, c=y, num_particles=5).log_px) == 40
    for call in (lambda: loaded.sample(6), lambda: loaded.encode(x)):
        with pytest.raises(Refusal, match="pass c"):
            call()
    with pytest.raises(Refusal, match="holds the label 10, expected some of"):
        loaded.sample(2, c=np.array([1, 10]))


def test_labels_are_those_of_the_data(tmp_path: Path) -> None:
    part = load_digits().train.tensors
    chosen = torch.isin(part["y"], torch.tensor([2, 5, 9]))
    x, y = part["x"][chosen].numpy(), part["y"][chosen].numpy()
    np.savez(tmp_path / "d.npz", x=x, y=y)
    own = ("--dataset", tmp_path / "d.npz", "--binarize", "threshold", "--condition", "label")
    loaded = trained(tmp_path / "run", *own)
    given = loaded.batch(x, c=y)["c"]
    expected = torch.eye(3)[torch.searchsorted(torch.tensor([2, 5, 9]), torch.from_numpy(y))]
    assert torch.equal(given, expected)
    assert torch.equal(
        loaded.sample(4, c=np.full(4, 5)), loaded.sample(4, c=np.tile([0.0, 1.0, 0.0], (4, 1)))
    )
    with pytest.raises(Refusal, match="holds the label 1, expected some of"):
        loaded.sample(1, c=np.array([1]))


def test_hierarchies_and_flows_have_codes_by_draws(tmp_path: Path, x: np.ndarray) -> None:
    for name, arguments in (
        ("ladder", "--latent-dim 4 2 --ladder --upper-hidden 8"),
        ("flow", "--latent-dim 3 --guide iaf"),
    ):
        loaded = trained(tmp_path / name, *arguments.split())
        codes = loaded.encode(x, num_draws=30)
        torch.testing.assert_close(codes.mean, codes.draws.mean(0))
        assert loaded.reconstruct(x).shape == (40, 1, 8, 8)
        assert loaded.encode(x, site=loaded.settings.model.layers[-1]).mean.shape[0] == 40
        with pytest.raises(Refusal, match="no latent site"):
            loaded.encode(x, site="w")


def test_autoencoders_reconstruct_and_score_nothing(tmp_path: Path, x: np.ndarray) -> None:
    loaded = trained(tmp_path / "run", "--guide", "point", "--prior", "flat")
    assert "log_px" not in loaded.metrics and loaded.metrics["reconstruction"] < 0
    codes = loaded.encode(x)
    assert (codes.draws == codes.mean).all()
    assert loaded.reconstruct(x).shape == (40, 1, 8, 8)
    with pytest.raises(Refusal, match="no log p\\(x\\)"):
        loaded.log_evidence(x)
    with pytest.raises(Refusal, match="flat"):
        loaded.sample(3)


def test_anomaly_scores_find_noise(vae: TrainedVae, x: np.ndarray) -> None:
    noise = np.random.default_rng(0).random((40, 64)).round()
    usual = vae.log_evidence(x, num_particles=100).mean
    found = [
        anomaly_scores(vae, vae.batch(data), usual=usual, num_particles=100, regret_steps=5)
        for data in (x, noise)
    ]
    elbo = -found[0].values["reconstruction"] - found[0].values["kl"]
    torch.manual_seed(0)
    exact = pv.log_evidence(vae.model, vae.guide, vae.batch(x), num_particles=2000).elbo
    assert abs(float((elbo - exact).mean())) < 0.3  # both estimate the same bound
    result = {
        name: detection(values, found[1].values[name]) for name, values in found[0].values.items()
    }
    assert result["log_px"].auroc > 0.95 and result["reconstruction"].auroc > 0.95
    assert 0 <= result["log_px"].auroc_se < 0.05 and set(result) == set(found[1].values)
    assert (found[0].values["regret"].mean() >= -0.05) and (found[0].log_px_se > 0).all()


def test_a_higher_likelihood_of_the_other_set_is_said() -> None:
    usual, other = torch.linspace(0, 1, 100).double(), torch.linspace(0.5, 1.5, 100).double()
    found = {"log_px": detection(-usual, -other), "kl": detection(usual, other)}
    assert found["log_px"].auroc < 0.5
    lines = conclusion(found, (float(usual.mean()), float(other.mean())))
    assert "higher likelihood" in lines[0] and "best score here is kl" in lines[1]
    same = {"log_px": detection(usual, usual)}
    assert conclusion(same, (0.5, 0.5)) == ["No score tells the two sets apart."]


def test_the_bootstrap_error_of_the_area_is_right() -> None:
    # AUROC of N(1, 1) against N(0, 1); the spread over data sets is what the bootstrap estimates
    generator = torch.Generator().manual_seed(0)
    draw = lambda shift: torch.randn(200, generator=generator).double() + shift  # noqa: E731
    found = [detection(draw(0.0), draw(1.0), seed=seed) for seed in range(30)]
    spread = torch.tensor([one.auroc for one in found]).std()
    error = torch.tensor([one.auroc_se for one in found]).mean()
    assert 0.6 < spread / error < 1.6
    assert abs(np.mean([one.auroc for one in found]) - 0.7602) < 5 * float(error) / 30**0.5


def test_neighbours_probes_and_maps() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [3.0], [10.0]])
    assert nearest(line, 2)[0].tolist() == [1, 2] or nearest(line, 2)[0].tolist() == [1, 3]
    assert nearest(line, 1)[2].tolist() == [3] and nearest(line, 1)[3].tolist() == [2]
    assert nearest(line, 99).shape == (5, 4)
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    codes = torch.randn(90, 4, generator=generator) + 6 * torch.eye(4)[y]
    for kind in ("knn", "linear"):
        assert probe(codes, y, kind=kind).value > 0.95
        assert probe(torch.randn(90, 4, generator=generator), y, kind=kind).value < 0.6
        assert probe(codes[:6], y[:6], kind=kind) is None
    kl = torch.tensor([0.1, 3.0, 0.2, 2.0])
    places, axes, _ = plane(codes, kl, "active")
    assert torch.equal(places, codes[:, [1, 3]]) and axes == ("latent 1", "latent 3")
    places, *_ = plane(codes, kl, "pca")
    assert places.var(0)[0] > places.var(0)[1] > codes.var(0).min()
    assert plane(codes, kl, "tsne")[0].shape == (90, 2)


def test_layouts_without_levels_keep_their_units() -> None:
    layout = VaeLayout((3,), None, whole=False, binarize="none")
    rows = np.array([[1.0, -2.0, 300.0]])
    assert layout.to_model(rows).tolist() == rows.tolist()
    assert layout.to_user(torch.zeros(7, 2, 3)).shape == (7, 2, 3)
