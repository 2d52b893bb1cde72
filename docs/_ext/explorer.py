"""The live explorer on the front page: a small VAE that the build trains, in a page of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent.parent
FOLDER = HERE / "generated" / "explorer"
"""Copied to the root of the site (`html_extra_path`)."""
MARK = "<!-- explorer -->"
FRAME = """```{raw} html
<iframe src="explorer.html" title="A variational autoencoder of digits, running in this page" loading="lazy"
        style="width: 100%; height: 52rem; border: 1px solid var(--pst-color-border); border-radius: .5rem"></iframe>
```"""


def write() -> None:
    """Train and write the page, where it is not there yet."""
    page = FOLDER / "explorer.html"
    if page.is_file():
        return
    run = HERE / "generated" / "run"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for command in (
        ["train_vae.py", "--epochs", "60", "--threads", "1", "--out", str(run)],
        ["explore.py", str(run), "--max-data", "300", "--out", str(page)],
    ):
        script = HERE.parent / "scripts" / command[0]
        done = subprocess.run(
            [sys.executable, script, *command[1:]], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def embed(app: Sphinx, name: str, content: list[str]) -> None:
    if name == "index":
        content[0] = content[0].replace(MARK, FRAME)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", embed)
    return {"parallel_read_safe": True}
