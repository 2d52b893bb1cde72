"""What is said and drawn is in the right words: autoencoders, shares of exactly 1, parts of sets."""

import io
from importlib import resources
from pathlib import Path

import pytest
import torch
from untrained_vae import untrained

import pyrovae as pv
from pyrovae import plots
from pyrovae.recipes.anomaly import conclusion, detection
from pyrovae.recipes.embedding import Accuracy
from pyrovae.recipes.explorer.page import PAGE
from pyrovae.recipes.new_data import split_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae import prepare
from pyrovae.recipes.vae_figures import draw_figures
from pyrovae.recipes.vae_model_settings import ModelSettings

HISTORY = [
    {"epoch": e, "elbo": -30.0 + e, "reconstruction": -28.0 + e, "kl": 2.0 + e, "active_units": 2}
    for e in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("prior", "panels"),
    [
        ("flat", ["log p(x | z) (nats per datum)", "Active units"]),
        (
            "laplace",
            [
                "log p(x | z) + log p(z) (nats per datum)",
                "log p(x | z) (nats per datum)",
                "-log p(z) (nats per datum); 2 active units",
            ],
        ),
    ],
)
def test_figures_of_autoencoders_speak_of_codes(
    prior: str, panels: list[str], tmp_path: Path
) -> None:
    settings = ModelSettings(hidden=(8,), latent_dim=(2,), guide="point", prior=prior)
    run = untrained(tmp_path, settings)
    data = prepare(run.settings)
    device, history = torch.device("cpu"), pv.History(HISTORY)
    drawn = draw_figures(run.model, run.guide, data.test, history, data.splits, device)
    assert [axes.get_title() for axes in drawn["curves"].axes] == panels
    titles = {name: figure.axes[0].get_title() for name, figure in drawn.items()}
    assert titles["latent_scatter"] == "Codes of z, 359 test data"
    assert "at their codes" in titles["reconstructions"]
    assert "between codes of test data" in titles["interpolation"]
    assert not any("osterior" in title or "ELBO" in title for title in titles.values())
    assert ("samples" in drawn) == (prior == "laplace")


def test_what_is_right_for_all_has_no_error_of_zero() -> None:
    assert str(Accuracy(1.0, 0.0, 60)) == "1.0000 (all 60)"
    assert str(Accuracy(0.9, 0.03, 60)) == "0.9000 +- 0.0300 (N = 60)"
    found = {"log_px": detection(torch.arange(20.0), torch.arange(20.0) + 50)}
    assert "AUROC 1.000 (all pairs)." in conclusion(found, (0.0, -50.0))[-1]


def test_a_part_of_a_file_is_refused() -> None:
    assert split_of(None, "x.npz") == "test" and split_of("train", "digits") == "train"
    assert split_of("valid", "x.npz", "digits") == "valid"
    with pytest.raises(Refusal, match="--split train is for named sets .*x.npz are read"):
        split_of("train", "x.npz")


def test_differences_are_drawn_beside_zero() -> None:
    panels = {"a run of a long name\n- another": {"test data": torch.randn(50) + 1}}
    figure = plots.score_histograms(panels, zero="no difference", title="Paired differences")
    (line,) = figure.axes[0].lines
    assert line.get_xdata() == [0, 0]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(names) == ["no difference", "test data"]
    figure.savefig(io.BytesIO(), format="png")  # lays it out
    box, title = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert box.y1 <= title.y0  # the legend is below all that belongs to the axes


def test_the_page_is_made_of_all_its_files() -> None:
    folder = resources.files("pyrovae.recipes.explorer")
    files = {path.name for path in folder.iterdir() if path.name.endswith(".js")}
    assert files == {*PAGE, "net.js"}
