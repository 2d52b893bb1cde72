"""Every page of the course runs as it stands, with fewer epochs and particles; warnings are errors."""

import re
from pathlib import Path

import matplotlib
import pyro
import pytest
import torch
from matplotlib.figure import Figure
from test_readme import shrunk

COURSE = Path(__file__).parent.parent.parent / "docs" / "course"
PAGES = sorted(COURSE.glob("*.py"))


def small(program: str) -> str:
    """The same page with few epochs, particles, draws, steps and points."""
    program = re.sub(r"epochs=\d+_000", "epochs=int(120)", program)  # enough for draws on the way
    program = shrunk(program)
    for pattern, replacement in (
        (r"\b(steps|num_steps|num_draws|num_samples|warmup)=[\d_]+", r"\1=4"),
        (r"\"(num_samples|warmup)\": \d+", r'"\1": 4'),
        (r"map\(launch, \(1, 2\)\)", "map(launch, (1,))"),
        (r"num_leapfrog=\d+", "num_leapfrog=1"),
        (r"tolerance=[\de-]+", "tolerance=0.5"),
        (r"take\(\d+\)", "take(20)"),
        (r"range\(\d+\)", "range(4)"),
        (r"\b\d+_000\b", "200"),
        (r"POINTS = 3.2, \d+", "POINTS = 3.2, 11"),
    ):
        program = re.sub(pattern, replacement, program)
    return program


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, capsys: pytest.CaptureFixture) -> None:
    torch.set_default_dtype(torch.float32)
    matplotlib.use("agg")
    names: dict[str, object] = {"__name__": "course"}
    exec(compile(small(page.read_text()), str(page), "exec"), names)
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
    assert [page.stem[:2] for page in PAGES] == [f"{number:02d}" for number in range(1, 31)]
