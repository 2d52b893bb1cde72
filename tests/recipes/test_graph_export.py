"""Exported graphs give what the run gives, for any number of rows; what does not is not written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from untrained_vae import untrained

from pyrovae.recipes.graph_export import export
from pyrovae.recipes.graph_formats import Format, Onnx, TorchExport
from pyrovae.recipes.graphs import units
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_layout import VaeLayout
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings

SMALL: dict[str, Any] = {"hidden": (8,), "latent_dim": (3,)}
MODELS = {
    "gated": ModelSettings(**SMALL, net="gated", guide="full-rank"),
    "conv": ModelSettings(**SMALL, net="conv", guide="low-rank", likelihood="beta"),
    "mixture guide": ModelSettings(**SMALL, guide="mixture", likelihood="normal-predicted"),
    "vectors": ModelSettings(**SMALL, likelihood="low-rank-normal"),
    "autoencoder": ModelSettings(**SMALL, guide="point", prior="flat"),
    "levels": ModelSettings(**SMALL, likelihood="categorical", prior="mixture"),
}


def formats(name: str) -> Format:
    if name == "torch-export":
        return TorchExport()
    for module in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(module)
    return Onnx()


@pytest.mark.parametrize("kind", ["torch-export", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_files_give_what_the_run_gives(name: str, kind: str, tmp_path: Path) -> None:
    form, run = formats(kind), untrained(tmp_path, MODELS[name])
    written = export(run, form, tmp_path / "out", max_data=40)
    assert [one.path.name for one in written] == [f"encoder{form.suffix}", f"decoder{form.suffix}"]
    encode, decode = (form.load(one.path.read_bytes()) for one in written)
    x = run.layout.to_user(run.data("test").data.tensors["x"][-7:])
    codes = run.encode(x, num_draws=1)
    mean, scale = encode(x)
    torch.testing.assert_close((mean, scale), (codes.mean, codes.scale), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decode(mean), [run.decode(mean)], rtol=1e-5, atol=1e-5)
    said = json.loads((tmp_path / "out" / f"{kind}.json").read_text())
    assert said["graphs"]["decoder"]["inputs"][0]["shape"] == ["batch", 3]
    assert said["graphs"]["encoder"]["inputs"][0]["shape"] == ["batch", 1, 8, 8]
    assert all(graph["largest_difference"] <= 1e-5 for graph in said["graphs"].values())


def test_the_opset_is_the_one_that_is_said(tmp_path: Path) -> None:
    onnx, form = pytest.importorskip("onnx"), formats("onnx")
    export(untrained(tmp_path, ModelSettings(**SMALL)), form, tmp_path, max_data=20)
    model = onnx.load(tmp_path / "decoder.onnx")
    onnx.checker.check_model(model)
    versions = {one.domain: one.version for one in model.opset_import}
    assert versions[""] == json.loads((tmp_path / "onnx.json").read_text())["opset"]
    assert [one.name for one in (*model.graph.input, *model.graph.output)] == ["z", "x"]


def test_the_file_holds_no_data(tmp_path: Path) -> None:
    objective = ObjectiveSettings(objective="score-function")
    run = untrained(tmp_path, ModelSettings(**SMALL), objective)
    export(run, TorchExport(), tmp_path, max_data=20)
    (x,), _ = torch.export.load(tmp_path / "encoder.pt2").example_inputs
    assert not x.any()


def test_without_a_mean_of_the_guide_only_the_decoder_is_written(tmp_path: Path) -> None:
    run = untrained(tmp_path, ModelSettings(**SMALL, guide="iaf"))
    (written,) = export(run, TorchExport(), tmp_path / "out", max_data=20)
    assert written.path.name == "decoder.pt2"


class Wrong(TorchExport):
    """Gives something else than it was asked to write."""

    def load(self, content: bytes) -> Any:  # noqa: ANN401
        run = super().load(content)

        def changed(x: Tensor) -> list[Tensor]:
            return [out + 1e-4 for out in run(x)]

        return changed


def test_a_graph_that_differs_is_not_written(tmp_path: Path) -> None:
    run = untrained(tmp_path, ModelSettings(**SMALL))
    with pytest.raises(Refusal, match="a difference of 0.0001 from the original"):
        export(run, Wrong(), tmp_path / "out", max_data=20)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ModelSettings(latent_dim=(3, 2)), "a hierarchy of latent layers"),
        (
            ModelSettings(likelihood="autoregressive-bernoulli", hidden=(70,)),
            "the mean of p.x . z. of --likelihood autoregressive-bernoulli",
        ),
    ],
)
def test_models_without_such_graphs_are_refused(
    model: ModelSettings, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=reason):
        export(untrained(tmp_path, model), TorchExport(), tmp_path / "out")


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (VaeLayout((4,), None, False, "none"), "numbers as in the data"),
        (VaeLayout((1, 2, 2), 256, False, "none"), "uint8 divided by 255"),
        (VaeLayout((1, 2, 2), 256, False, "dynamic"), "with probability p"),
        (VaeLayout((1, 2, 2), 17, False, "threshold"), "above 0.5"),
        (VaeLayout((1, 2, 2), 17, True, "none"), "17 grey levels"),
    ],
)
def test_units_are_said(layout: VaeLayout, words: str) -> None:
    assert words in units(layout)
