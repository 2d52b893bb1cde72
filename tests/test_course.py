"""Every page of the course runs as it stands, with fewer epochs and particles; warnings are errors."""

from pathlib import Path

import matplotlib
import pyro
import pytest
import torch
from matplotlib.figure import Figure
from test_readme import shrunk

COURSE = Path(__file__).parent.parent / "docs" / "course"
PAGES = sorted(COURSE.glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, capsys: pytest.CaptureFixture) -> None:
    torch.set_default_dtype(torch.float32)
    matplotlib.use("agg")
    names: dict[str, object] = {"__name__": "course"}
    exec(compile(shrunk(page.read_text()), str(page), "exec"), names)
    pyro.clear_param_store()  # of pages that show Pyro's own SVI
    assert capsys.readouterr().out
    assert any(isinstance(value, Figure) for value in names.values()), "no figure"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_keeps_the_form(page: Path) -> None:
    text = page.read_text()
    assert 60 <= len(text.splitlines()) <= 150
    for words in (":math:", "goes wrong", "# Exercise"):
        assert words in text, words


def test_the_course_is_there() -> None:
    assert len(PAGES) >= 3
