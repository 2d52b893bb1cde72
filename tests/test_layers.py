"""Who may import whom, read off the sources: every folder is known here, and none imports upwards."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyrovae

ROOT = Path(pyrovae.__file__).parent
FLOORS = (
    "recipes",
    "prediction",
    "bnn",
    "training",
    "diagnostics",
    "evidence",
    "losses",
    "capture",
    "programs",
    "core",
)
"""From the top down: a folder imports only from those after it."""
COMPONENTS = ("heads", "nets", "posteriors", "priors")
"""These know torch, Pyro and zuko only; only recipes and the user put them together."""
INDEPENDENT = ("data", "export", "metrics", "plots")
"""These know nothing of models; what they need of pyrovae is in core."""
GROUND = {
    "bnn": {"export"},
    "prediction": {"export", "metrics"},
    "plots": {"core"},
    "recipes": {*COMPONENTS, *INDEPENDENT},
}
"""What a folder may import besides what lies below it on the floors."""
MODULES = {"__init__", "export"}
"""Files beside the folders."""
HEAVY = {"torchvision", "matplotlib", "arviz", "sklearn", "xarray", "tensorboard", "PIL"}
LONGEST_LINE = 125
LONGEST_FILE = 330


def imports(path: Path) -> Iterator[str]:
    """Modules of pyrovae that a file imports, at its top level or anywhere else."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pyrovae."))
        elif isinstance(node, ast.ImportFrom) and node.module == "pyrovae":
            yield from (f"pyrovae.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pyrovae.")
        ):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def allowed(name: str) -> set[str]:
    below = set(FLOORS[FLOORS.index(name) + 1 :]) if name in FLOORS else set()
    return {name} | below | GROUND.get(name, set())


def test_every_folder_has_its_floor() -> None:
    assert {
        path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()
    } <= {*FLOORS, *COMPONENTS, *INDEPENDENT}
    assert {path.stem for path in ROOT.glob("*.py")} <= MODULES


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_folder_imports_from_above(path: Path) -> None:
    if path != ROOT / "__init__.py":
        used = {name.split(".")[1] for name in imports(path)}
        assert used <= allowed(room(path)), f"{path} imports from {used - allowed(room(path))}"


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(("pyrovae", *path.relative_to(ROOT).with_suffix("").parts)): path
        for path in ROOT.rglob("*.py")
    }
    uses = {
        name: {used for used in imports(path) if used in files} - {name}
        for name, path in files.items()
    }
    while free := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in free:
            del uses[name]
    assert not uses, f"files that import each other: {sorted(uses)}"


def test_heavy_libraries_load_when_needed() -> None:
    code = f"import sys, pyrovae; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )


def test_files_are_short_and_silent() -> None:
    folders = (ROOT, Path(__file__).parent, ROOT.parent / "scripts")
    for path in [path for folder in folders for path in folder.rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert len(line) <= LONGEST_LINE, (
                f"{path}:{number} has {len(line)} columns, expected {LONGEST_LINE} at most"
            )
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= LONGEST_FILE, f"{path} is too long to do one thing"
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, f"{path} prints"
