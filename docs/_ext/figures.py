"""Figures of a course page for sphinx-gallery: `pyrovae.plots` returns figures and calls no pyplot."""

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def figure_scraper(block: tuple, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each `Figure` that a variable of the page holds and no earlier block has shown."""
    shown = []
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and not hasattr(value, "shown_on_page"):
            value.shown_on_page = True
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=130)
            shown.append(path)
    return figure_rst(shown, gallery_conf["src_dir"])
