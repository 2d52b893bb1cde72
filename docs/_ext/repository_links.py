"""Pages that live at the root of the repository (CONTRIBUTING.md, ...) are included by pages of the
site; links between the two kinds are written for a code host, and turned here."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT_PAGES = {"CONTRIBUTING", "SECURITY", "CHANGELOG"}


def of_the_site(text: str) -> str:
    """`](../CONTRIBUTING.md)`, the files of the course and, in the pages of the root,
    `](docs/programs.md)`."""
    for name in ROOT_PAGES:
        text = re.sub(rf"\]\((?:\.\./)?{name}\.md", f"]({name.lower()}.md", text)
    text = re.sub(r"\]\(docs/", "](", text)
    text = text.replace("](course/GALLERY_HEADER.rst)", "](generated/course/index.rst)")
    return re.sub(r"\]\(course/(\w+)\.py\)", r"](generated/course/\1.rst)", text)


def read(app: Sphinx, name: str, content: list[str]) -> None:
    content[0] = of_the_site(content[0])


def included(app: Sphinx, path: Path, name: str, content: list[str]) -> None:
    content[0] = of_the_site(content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read)
    app.connect("include-read", included)
    return {"parallel_read_safe": True}
