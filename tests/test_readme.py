"""The Python programs of README, CONTRIBUTING and docs run as they stand, on a data set shrunk to
seconds."""

import re
import struct
from pathlib import Path

import conformance
import numpy as np
import pytest
import test_conformance
import torch

README = Path(__file__).parent.parent / "README.md"
CONTRIBUTING = README.with_name("CONTRIBUTING.md")
PAGES = (README, *sorted(README.parent.glob("docs/*.md")))
BLOCKS = {
    f"{page.name} {index}": block
    for page in PAGES
    for index, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}


def write_mnist(root: Path, rows: int) -> None:
    """A data set in MNIST's own file format, of random images."""
    generator = np.random.default_rng(0)
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = generator.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, rows, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, rows, 28, 28) + images.tobytes()
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, rows) + labels.tobytes()
        )


def shrunk(program: str) -> str:
    """The same program with fewer epochs and particles."""
    for pattern, replacement in (
        (r"epochs=[\d_]+", "epochs=1"),
        (r"num_particles=[\d_]+", "num_particles=10"),
        (r"warmup=\d+", "warmup=2"),
        (r"max_depth=\d+", "max_depth=2"),
        (r"pseudo_inputs=train.take\(\d+\)", "pseudo_inputs=train.take(10)"),
    ):
        program = re.sub(pattern, replacement, program)
    return program


@pytest.mark.parametrize("name", BLOCKS)
def test_every_program_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    torch.set_default_dtype(torch.float32)
    write_mnist(tmp_path, rows=30)
    monkeypatch.setattr("pyrovae.data.mnist_files.check_digest", lambda *_: None)  # of a few rows
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(compile(shrunk(BLOCKS[name]), name, "exec"), {"__name__": "readme"})
    assert "print(" not in BLOCKS[name] or capsys.readouterr().out


def test_readme_keeps_its_promises() -> None:
    text = README.read_text()
    for words in (
        "pip install -e . && python scripts/train_vae.py --out runs/digits",
        'pip install -e ".[test]" && pytest',
        "VampPrior(encoder",
        "log_evidence",
    ):
        assert words in text
    assert len(text.splitlines()) <= 130 and len(BLOCKS) >= 8


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r'src="([^"]+)"', text) + re.findall(r"\]\(([^)#]+)\)", text)
    for target in targets:
        assert "://" in target or (page.parent / target).is_file(), target


def test_the_worked_component_passes_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    text = CONTRIBUTING.read_text()
    names: dict[str, object] = {"Case": conformance.Case, "__name__": "contributing"}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "CONTRIBUTING", "exec"), names)
    (line,) = re.findall(r'^"StudentTPrior": (Case.*),$', text, flags=re.MULTILINE)
    monkeypatch.setitem(conformance.CONDITIONALS, "StudentTPrior", eval(line, names))
    for batch in ((5,), (3, 5)):
        test_conformance.test_shapes("StudentTPrior", batch)
    for check in (
        "test_particles_and_data_in_programs",
        "test_density_is_normalised",
        "test_draws_follow_the_density",
        "test_a_datum_does_not_depend_on_its_neighbours",
    ):
        getattr(test_conformance, check)("StudentTPrior")
