"""Nested settings, seen by their names alone, and run.json of the flat schema."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_scripts import QUICK, run

import pyrovae as pv
from pyrovae.recipes import nesting
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import read_result, write_result
from pyrovae.recipes.resumed_settings import as_json
from pyrovae.recipes.run_folder import SCHEMA
from pyrovae.recipes.setting_rules import leaves
from pyrovae.recipes.vae_settings import Settings

CHANGED = {
    Settings: {"latent_dim": (8, 4), "condition": "none", "beta": 0.5, "out": Path("runs/x")},
    BnnSettings: {"hidden": (7,), "splits": 3, "members": 2, "lr": 0.1},
}


@pytest.mark.parametrize("kind", CHANGED)
def test_settings_are_known_by_their_names(kind: type) -> None:
    names = Counter(field.name for field, _ in leaves(kind))
    assert max(names.values()) == 1 and set(names) == set(nesting.hints_of(kind))
    built = nesting.build(kind, CHANGED[kind])
    assert CHANGED[kind].items() <= nesting.values_of(built).items()
    assert nesting.replace(kind(), **CHANGED[kind]) == built != kind()


@pytest.mark.parametrize("kind", CHANGED)
def test_nested_and_flat_json_give_the_same_settings(kind: type) -> None:
    settings = nesting.build(kind, CHANGED[kind])
    nested = as_json(settings)
    assert nesting.flatten(nested) == nesting.flatten(nesting.flatten(nested))
    assert nesting.from_json(kind, nested) == settings
    assert nesting.from_json(kind, nesting.flatten(nested)) == settings
    with pytest.raises(Refusal, match="expected a JSON object"):
        nesting.from_json(kind, None)


def test_one_number_of_latent_dimensions_is_read() -> None:
    assert Settings.from_json({"latent_dim": 5}).model.latent_dim == (5,)


def test_a_run_of_the_flat_schema_is_read_and_resumed(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    run("train_vae.py", *QUICK, "--out", new)
    shutil.copytree(new, old)
    content = read_result(old / "run.json")
    assert content["schema"] == SCHEMA == 3 and content["arguments"]["run"]["epochs"] == 2
    flat = {**content, "schema": 2, "arguments": nesting.flatten(content["arguments"])}
    write_result(old / "run.json", flat)
    loaded, again = (pv.load_run(folder) for folder in (new, old))
    assert loaded.settings == again.settings
    for name, value in loaded.loss.state_dict().items():
        assert torch.equal(value, again.loss.state_dict()[name]), name
    run("evaluate.py", old, "--num-particles", 5, "--max-data", 20)
    refused = run("train_vae.py", *QUICK, "--out", old, "--resume", "--lr", 0.1, status=2)
    assert "--lr was 0.001, is 0.1" in refused
    run("train_vae.py", *QUICK, "--epochs", 3, "--out", old, "--resume")
    after = json.loads((old / "run.json").read_text())
    assert after["schema"] == SCHEMA and after["arguments"]["run"]["epochs"] == 3
    assert after["sessions"][-1]["changed"]["epochs"] == [2, 3]


def test_a_resumed_network_names_the_setting_that_changed(tmp_path: Path) -> None:
    ask = ("train_bnn.py", "--method", "map", "--splits", 1, "--steps", 40, "--num-samples", 5)
    run(*ask, "--out", tmp_path / "run")
    refused = run(*ask, "--lr", 0.5, "--out", tmp_path / "run", "--resume", status=2)
    assert "--lr was 0.01, is 0.5" in refused
