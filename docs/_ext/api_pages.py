"""One page for each public package, and one for each public object.

An object has one page, under the shortest path that it is public by; other packages that export
it link there.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

from docstrings import plain

PACKAGES = (
    "pyrovae",
    "pyrovae.programs",
    "pyrovae.priors",
    "pyrovae.heads",
    "pyrovae.posteriors",
    "pyrovae.nets",
    "pyrovae.losses",
    "pyrovae.training.hooks",
    "pyrovae.training.expectation_maximization",
    "pyrovae.evidence",
    "pyrovae.diagnostics.active_units",
    "pyrovae.diagnostics.gradient_variance",
    "pyrovae.prediction",
    "pyrovae.bnn.guides",
    "pyrovae.bnn.priors",
    "pyrovae.bnn.samplers",
    "pyrovae.bnn.posthoc",
    "pyrovae.bnn.curvature",
    "pyrovae.metrics",
    "pyrovae.plots",
    "pyrovae.data",
    "pyrovae.capture",
    "pyrovae.recipes.trained_vae",
    "pyrovae.recipes.trained_bnn",
)


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or the classes and functions that a module defines."""
    names = getattr(module, "__all__", None)
    if names is not None:
        return sorted(names, key=str.lower)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def homes() -> dict[str, dict[str, str]]:
    """For each package its public names, and the full name under which each has its page."""
    found: dict[str, dict[str, str]] = {}
    home_of: dict[int, str] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        found[package] = {}
        for name in public_names(module):
            value = getattr(module, name)
            documented = inspect.isclass(value) or inspect.isroutine(value)
            full = f"{package}.{name}"
            found[package][name] = home_of.setdefault(id(value), full) if documented else full
    return found


def names_for_links() -> dict[str, str]:
    """From the names that texts use (`ElboLoss`, `losses.ElboLoss`, `pv.ElboLoss`) to full names;
    a short name that two objects have is left out."""
    links: dict[str, str] = {}
    twice = set()
    for package, names in homes().items():
        for name, full in names.items():
            if links.setdefault(name, full) != full:
                twice.add(name)
            tail = package.removeprefix("pyrovae").lstrip(".")
            for path in (f"{package}.{name}", f"{tail}.{name}" if tail else f"pv.{name}"):
                links[path] = full
    return {name: full for name, full in links.items() if name not in twice}


def package_page(package: str, names: dict[str, str]) -> str:
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", "   :no-members:", ""]
    lines += [".. list-table::", "   :widths: 30 70", ""]
    for name, full in names.items():
        summary = first_sentence(getattr(importlib.import_module(package), name))
        lines += [f"   * - :py:obj:`{name} <{full}>`", f"     - {summary}"]
    own = [full for name, full in names.items() if full == f"{package}.{name}"]
    lines += ["", ".. toctree::", "   :hidden:", "", *(f"   {full}" for full in own), ""]
    return "\n".join(lines)


def first_sentence(value: object) -> str:
    """Of the docstring, as reStructuredText; empty for constants and types."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    first = " ".join((value.__doc__ or "").strip().split("\n\n")[0].split())
    return plain(re.split(r"(?<=[a-z`)\]])[.:;] ", first)[0].rstrip(".") + ".")


def object_page(package: str, name: str) -> str:
    full = f"{package}.{name}"
    value = getattr(importlib.import_module(package), name)
    title = name.replace("_", r"\_")
    lines = [title, "=" * len(title), "", f".. currentmodule:: {package}", ""]
    if inspect.isclass(value):
        lines += [f".. autoclass:: {full}", "   :members:"]
    elif inspect.isroutine(value):
        lines += [f".. autofunction:: {full}"]
    else:
        lines += [f".. autodata:: {full}"]
    lines += ["", f".. minigallery:: {full}", "   :add-heading: Used in the course", ""]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write what has changed, and remove pages of objects that are gone."""
    pages: dict[str, str] = {}
    for package, names in homes().items():
        pages[package] = package_page(package, names)
        for name, full in names.items():
            if full == f"{package}.{name}":
                pages[full] = object_page(package, name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for stem, text in pages.items():
        path = folder / f"{stem}.rst"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
