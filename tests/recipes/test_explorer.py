"""The page computes what Python does, under node and in a browser, and refuses what it cannot."""

import copy
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_scripts import QUICK, run
from untrained_vae import untrained

import pyrovae as pv
from pyrovae.recipes.explorer.content import encoder_of
from pyrovae.recipes.explorer.layers import layers_of
from pyrovae.recipes.explorer.numbers import Numbers
from pyrovae.recipes.explorer.page import TOLERANCE, page_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae_means import mean_of
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings

NODE = shutil.which("node")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
ANSWER = """
const [, file, asked] = process.argv, text = require("fs").readFileSync(file, "utf8");
const scripts = [...text.matchAll(/<script[^>]*>([^]*?)<\\/script>/g)].map((found) => found[1]);
const Net = new Function(scripts[1] + "; return Net;")();
const inputs = JSON.parse(require("fs").readFileSync(asked, "utf8"));
console.log(JSON.stringify(Net.answer(Net.read(JSON.parse(scripts[0])), inputs)));
"""
VISIT = """
<script>
window.failures = [];
window.addEventListener("error", (event) => failures.push(event.message));
</script>
"""
USE = """
<script>
const seen = {}, { state } = Explorer, $ = (id) => document.getElementById(id);
const key = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
const at = (canvas, u, v, more) => {
  const box = canvas.getBoundingClientRect();
  const where = { clientX: box.left + u * box.width, clientY: box.top + v * box.height, ...more };
  canvas.dispatchEvent(new PointerEvent("pointerdown", where));
  canvas.dispatchEvent(new PointerEvent("pointermove", { ...where, clientY: where.clientY + 1 }));
  window.dispatchEvent(new PointerEvent("pointerup", where));
};
seen.first = [...state.z];
key("o");
seen.origin = [...state.z];
key("r");
seen.draw = [...state.z];
seen.drawn = $("status").textContent;
$("plane").value = 1;
$("plane").onchange();
$("snap").checked = false;
at($("map"), 0.7, 0.4);
seen.place = state.plane.to(state.z, null).map((a) => a / state.reach);
at($("map"), 0.3, 0.4, { shiftKey: true });
seen.walk = [state.start, state.end].map((z) => state.plane.to(z, null)[0] / state.reach);
const slider = $("directions").querySelector("input"), before = [...state.z];
slider.value = 1;
slider.oninput();
seen.moved = state.z.map((a, d) => a - before[d]);
at($("paper"), 0.5, 0.5);
seen.paper = $("status").textContent;
key("c");
seen.failures = failures;
seen.answer = Net.answer(model, INPUTS);
const note = document.createElement("pre");
note.id = "seen";
note.textContent = JSON.stringify(seen);
document.body.append(note);
</script>
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainedVae:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run("train_vae.py", *QUICK, "--latent-dim", 3, "--out", folder)
    loaded = pv.load_run(folder)
    assert isinstance(loaded, TrainedVae)
    return loaded


def questions(run: TrainedVae) -> dict[str, torch.Tensor]:
    z = 2 * torch.randn(5, run.settings.model.latent_dim[0], generator=torch.manual_seed(1))
    return {"z": z, "x": run.data("test").data.tensors["x"][:5].flatten(1)}


def expected(run: TrainedVae, asked: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    decoded = run.decode(asked["z"])
    if run.settings.model.likelihood == "continuous-bernoulli":
        # near p = 1/2 PyTorch's mean is a difference of large terms: in float32 off by 0.004
        with torch.no_grad():
            model = copy.deepcopy(run.model).double()
            decoded = mean_of(model.nodes["x"]({"z": asked["z"].double()}))
    x = run.layout.to_user(asked["x"])
    return {"decoded": decoded.flatten(1), "encoded": run.encode(x, num_draws=1).mean}


def assert_equal(
    found: dict[str, list], run: TrainedVae, asked: dict[str, torch.Tensor], atol: float
) -> None:
    for name, value in expected(run, asked).items():
        answer = torch.tensor(found[name], dtype=value.dtype)
        torch.testing.assert_close(
            answer, value, rtol=1e-5, atol=atol, msg=lambda m: f"{name}: {m}"
        )


SMALL: dict[str, Any] = {"hidden": (8,), "latent_dim": (3,)}
MODELS = {
    "gated, full-rank guide": ModelSettings(**SMALL, net="gated", guide="full-rank"),
    "three layers": ModelSettings(hidden=(9, 8, 7), latent_dim=(2,)),
    "no hidden layer": ModelSettings(hidden=(), latent_dim=(1,)),
    "conv, low-rank guide": ModelSettings(
        hidden=(4, 6, 5), latent_dim=(3,), net="conv", activation="silu", guide="low-rank"
    ),
    "conv, beta": ModelSettings(**SMALL, net="conv", likelihood="beta", activation="elu"),
    "conv, categorical": ModelSettings(**SMALL, net="conv", likelihood="categorical"),
    "mixture guide": ModelSettings(
        **SMALL, likelihood="continuous-bernoulli", guide="mixture", activation="relu"
    ),
    "mixture prior": ModelSettings(**SMALL, likelihood="normal-predicted", prior="mixture"),
    "autoencoder": ModelSettings(**SMALL, guide="point", prior="flat"),
    "vamp prior": ModelSettings(**SMALL, likelihood="student-t", prior="vamp", prior_components=5),
} | {
    likelihood: ModelSettings(**SMALL, likelihood=likelihood)
    for likelihood in (
        "normal",
        "normal-learned",
        "low-rank-normal",
        "categorical",
        "logistic-mixture",
        "poisson",
        "negative-binomial",
    )
}


@needs_node
@pytest.mark.parametrize("name", MODELS)
def test_the_page_computes_what_python_does(name: str, tmp_path: Path) -> None:
    loaded = untrained(tmp_path, MODELS[name])
    page, asked = page_of(loaded, max_data=50), questions(loaded)
    file, inputs = tmp_path / "page.html", tmp_path / "inputs.json"
    file.write_text(page.text, encoding="utf-8")
    inputs.write_text(json.dumps({name: value.tolist() for name, value in asked.items()}))
    command = [str(NODE), "-e", ANSWER, "--", str(file), str(inputs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert_equal(json.loads(done.stdout), loaded, asked, atol=1e-5)


@needs_browser
@pytest.mark.parametrize("bits", [32, 20])
def test_a_browser_shows_the_page(plain: TrainedVae, bits: int, tmp_path: Path) -> None:
    page, asked = page_of(plain, max_data=50), questions(plain)
    if bits < 32:
        page = page_of(plain, max_data=50, limit=page.size - 3_000)
    assert page.numbers.bits == bits
    inputs = json.dumps({name: value.tolist() for name, value in asked.items()})
    text = page.text.replace("<head>", "<head>" + VISIT)
    text = text.replace("</body>", USE.replace("INPUTS", inputs) + "</body>")
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    command = [str(BROWSER), *flags, "--window-size=1280,900", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["failures"] == []
    assert seen["origin"] == [0, 0, 0] and any(seen["draw"])
    assert seen["drawn"].startswith("Draw 1 of 9")
    assert seen["place"] == pytest.approx([0.4, 0.2], abs=0.02)  # a pixel or two
    assert seen["walk"] == pytest.approx([0.4, -0.4], abs=0.02)
    direction = plain.attribute("y=0").tolist()
    assert seen["moved"] == pytest.approx(direction, abs=1e-3)
    assert "drawing" in seen["paper"]
    assert_equal(seen["answer"], plain, asked, atol=TOLERANCE)


def test_the_page_needs_nothing_else(plain: TrainedVae) -> None:
    text = page_of(plain, max_data=50).text
    assert not re.search(r"https?://|src=|href=|@import|url\(", text)
    assert "{{" not in text and "NaN" not in text


def test_a_page_that_is_too_large_is_refused(plain: TrainedVae) -> None:
    with pytest.raises(Refusal, match="MB with weights of 16 bits, expected at most 0.03"):
        page_of(plain, limit=30_000)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ModelSettings(latent_dim=(3, 2)), "a hierarchy of latent layers"),
        (
            ModelSettings(likelihood="autoregressive-bernoulli", hidden=(70,)),
            "the mean of AutoregressiveBernoulliHead",
        ),
    ],
)
def test_what_the_page_cannot_compute_is_refused(
    model: ModelSettings, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=reason):
        page_of(untrained(tmp_path, model))


def test_without_a_mean_of_the_guide_there_is_no_drawing(tmp_path: Path) -> None:
    model = ModelSettings(hidden=(8,), guide="planar", prior="flow", prior_hidden=(8,))
    text = page_of(untrained(tmp_path, model), max_data=20).text
    assert '"encoder":null' in text and '"prior":{"shape":[500,2]' in text


def test_score_function_guides_are_known(tmp_path: Path) -> None:
    objective = ObjectiveSettings(objective="score-function")
    loaded = untrained(tmp_path, ModelSettings(**SMALL), objective)
    layers = encoder_of(loaded)
    assert layers is not None and [layer["op"] for layer in layers][-1] == "half"


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(Refusal, match="does not know how to compute Softplus"):
        layers_of(torch.nn.Sequential(torch.nn.Softplus()), (3,))


@pytest.mark.parametrize("bits", [24, 20, 16])
def test_rounding_is_within_half_a_step(bits: int) -> None:
    x = torch.randn(7, 5, generator=torch.manual_seed(0))
    step = x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    error = (Numbers(bits).rounded(x) - x).abs()
    assert (error <= 0.5 * step + 1e-7 * x.abs()).all()  # and a rounding of float32


def test_all_directions_are_those_of_single_attributes(plain: TrainedVae) -> None:
    directions = plain.attributes()
    assert list(directions) == [f"y={k}" for k in range(10)]
    assert torch.equal(directions["y=7"], plain.attribute("y=7"))
    assert plain.attributes(key="colour") == {}
