"""The landscape: every family trains, scores and draws; the command resumes, and refuses in a line."""

import json
import math
from pathlib import Path

import landscape
import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae.recipes.landscape import data as landscape_data
from pyrovae.recipes.landscape.families import FAMILIES
from pyrovae.recipes.landscape.family import Budget, Images
from pyrovae.recipes.landscape.pairs import Pair
from pyrovae.recipes.landscape.report import fit_or_find
from pyrovae.recipes.refusal import Refusal

TINY = Budget(
    epochs=2,
    hidden=(8,),
    latent_size=2,
    components=3,
    num_particles=5,
    chains=2,
    temperatures=3,
    annealed_data=4,
)


@pytest.fixture(scope="module")
def images() -> dict[str, Images]:
    """A few rows of the digits for each table."""
    splits = landscape_data.load("digits")
    found = {
        "binary": landscape_data.binary(splits, "threshold"),
        "real": landscape_data.real(splits),
    }
    return {
        table: Images(
            one.train[:60],
            one.valid[:20],
            one.test[:20],
            one.shape,
            one.levels,
            one.loc,
            one.scale,
        )
        for table, one in found.items()
    }


@pytest.fixture(autouse=True)
def single_precision() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore::pyrovae.CollapseWarning")
def test_every_family_trains_scores_and_draws(name: str, images: dict[str, Images]) -> None:
    family = FAMILIES[name]
    data = images[family.table]
    torch.manual_seed(0)
    fitted = family.fit(data, TINY)
    scores = fitted.score(data.test)
    expected = 4 if name in ("gan", "wgan-gp") else 20
    assert scores.log_px.shape == (expected,) and scores.log_px.isfinite().all()
    assert scores.kind == "exact" if family.is_exact else scores.kind != "exact"
    assert fitted.num_parameters > 0 and scores.se > 0
    rows = fitted.sample(6)
    assert rows.shape == (6, 64)
    if family.table == "binary":
        assert set(rows.unique().tolist()) <= {0.0, 1.0}
    assert data.pixels(rows).shape == (6, 1, 8, 8)


def test_bits_per_dimension_are_those_of_the_levels(images: dict[str, Images]) -> None:
    """A uniform density of the grey levels takes log2(17) bits a pixel, whatever the units."""
    data = images["real"]

    class Uniform(torch.nn.Module):
        def forward(self) -> torch.distributions.Distribution:
            low = (0 - data.loc) / data.scale
            high = (1 - data.loc) / data.scale
            wide = torch.full((64,), low), torch.full((64,), high)
            return torch.distributions.Independent(torch.distributions.Uniform(*wide), 1)

    scores = Pair(pv.Model(x=Uniform()), None, 1).score(data.test)
    bits = -(scores.mean - data.log_units()) / (64 * math.log(2))
    assert bits == pytest.approx(math.log2(17), abs=1e-5)


def test_dequantised_rows_are_their_levels_again(images: dict[str, Images]) -> None:
    data = images["real"]
    x = data.trained_on()
    levels = (x * data.scale + data.loc) * 17
    assert torch.equal(levels.floor(), data.train)
    assert not torch.equal(x, data.trained_on())  # noise of its own at each visit


def arguments(out: Path, *words: str) -> list[str]:
    small = {"epochs": "1", "hidden": "4", "latent-size": "2", "components": "2"}
    flags = [word for key, value in small.items() for word in (f"--{key}", value)]
    return ["--out", str(out), *flags, *words]


def run(out: Path, *words: str) -> dict[str, dict]:
    parsed = landscape.command_line.parse(
        landscape.Landscape, landscape.__doc__, arguments(out, *words)
    )
    return landscape.main(parsed)


def test_the_command_writes_and_continues(tmp_path: Path) -> None:
    names = "bernoulli,bernoulli-mixture-svi,ppca"
    run(tmp_path, "--families", names)
    content = json.loads((tmp_path / "landscape.json").read_text())
    assert set(content["binary"]) == {"bernoulli", "bernoulli-mixture-svi"}
    assert set(content["real"]) == {"ppca"} and content["real"]["ppca"]["kind"] == "exact"
    assert {"log_px", "se", "kind", "parameters", "seconds"} <= set(content["binary"]["bernoulli"])
    for name in ("landscape.md", "landscape_binary.png", "landscape_real.png"):
        assert (tmp_path / name).stat().st_size > 500
    arrays = np.load(tmp_path / "families" / "bernoulli.npz")
    assert arrays["log_px"].shape == (359,) and arrays["samples"].shape == (1000, 1, 8, 8)
    assert arrays["log_px"].mean() == pytest.approx(content["binary"]["bernoulli"]["log_px"])
    before = (tmp_path / "families" / "bernoulli-mixture-svi.json").stat().st_mtime_ns
    run(tmp_path, "--families", names)
    assert (tmp_path / "families" / "bernoulli-mixture-svi.json").stat().st_mtime_ns == before
    run(tmp_path, "--families", "bernoulli")
    assert json.loads((tmp_path / "landscape.json").read_text()) == content
    with pytest.raises(
        Refusal, match=r"holds bernoulli with other settings \(seed: \d+ there, \d+ here\)"
    ):
        run(tmp_path, "--families", "ppca", "--seed", "1")


def test_refusals_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="names ppc; expected some of .* Did you mean ppca"):
        run(tmp_path, "--families", "ppc")
    with pytest.raises(Refusal, match="neither a data set nor a file"):
        run(tmp_path, "--dataset", "digit")
    with pytest.raises(Refusal, match="--epochs 0: expected at least 1"):
        run(tmp_path, "--epochs", "0")
    bits = tmp_path / "bits.npz"
    np.savez(bits, x=(np.random.default_rng(0).random((80, 4, 4)) < 0.5).astype(np.uint8))
    with pytest.raises(Refusal, match="holds bits, which the real families do not model"):
        run(tmp_path / "out", "--dataset", str(bits), "--families", "ppca")


def test_a_finished_family_is_not_trained_again(images: dict[str, Images], tmp_path: Path) -> None:
    family, asked = FAMILIES["bernoulli"], {"seed": 0}
    first = fit_or_find(family, images["binary"], TINY, tmp_path, asked)
    again = fit_or_find(family, images["binary"], TINY, tmp_path, asked)
    assert again["seconds"] == first["seconds"] and again["log_px"] == first["log_px"]
    (tmp_path / "bernoulli.npz").write_bytes(b"damaged")
    with pytest.raises(Refusal, match="bernoulli.npz is damaged"):
        fit_or_find(family, images["binary"], TINY, tmp_path, asked)
