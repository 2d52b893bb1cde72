"""Who may import whom, read off the sources."""
import ast
import subprocess
import sys
from pathlib import Path

import pyrovae

ROOT = Path(pyrovae.__file__).parent
COMPONENTS = {"heads", "nets", "posteriors", "priors"}
PROGRAMS = {"programs", "weight_guides", "weight_priors"}
FOUNDATION = {"plates", "store", "errors", "files", "processes", "digests", "reach", "recording", "origin", "subnormals",
              "untouched"}
INDEPENDENT = {"data", "plots", "export", "metrics"}
HEAVY = {"torchvision", "matplotlib", "arviz", "sklearn", "xarray", "tensorboard", "PIL"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports at its top level or anywhere else."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def layers(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("pyrovae.")}


def test_no_layer_reaches_over_its_own() -> None:
    engine = {p.stem for p in ROOT.glob("*.py")} | {"losses", "evidence"}
    engine -= FOUNDATION | INDEPENDENT | {"__init__"}
    for path in ROOT.rglob("*.py"):
        layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
        used = layers(path) - {layer}
        if layer in COMPONENTS:
            assert not used, f"{path}: a component knows torch, pyro and zuko only, not {used}"
        elif layer in PROGRAMS:
            assert used <= FOUNDATION | PROGRAMS, f"{path}: programs know the shape law only, not {used - FOUNDATION}"
        elif layer in FOUNDATION:
            assert used <= FOUNDATION, f"{path}: {used}"
        elif layer in INDEPENDENT:
            assert used <= {"files"}, f"{path}: {used}"
        elif layer in engine:
            assert used <= engine | FOUNDATION, f"{path}: the engine sees only callables, not {used - engine}"


def test_heavy_libraries_load_when_needed() -> None:
    code = f"import sys, pyrovae; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_files_are_short_and_silent() -> None:
    folders = (ROOT, Path(__file__).parent, ROOT.parent / "scripts")
    for path in [path for folder in folders for path in folder.rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert len(line) <= 125, f"{path}:{number} has {len(line)} columns, wanted at most 125"
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 260, f"{path} is too long to do one thing"
        calls = {node.func.id for node in ast.walk(ast.parse(text))
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert "print" not in calls, f"{path} prints"
