"""The documentation site: `make docs` builds it into docs/_build/html."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import api_pages  # noqa: E402
import citations  # noqa: E402
import explorer  # noqa: E402
import inventories  # noqa: E402
from figures import figure_scraper  # noqa: E402

import pyrovae  # noqa: E402

project = "pyrovae"
author = "The pyrovae authors"
copyright = "The pyrovae authors, Apache-2.0"
version = release = pyrovae.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_codeautolink",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "docstrings",
    "explorer",
    "name_links",
    "repository_links",
]
exclude_patterns = ["_build", "_ext", "_templates", "course", "generated/backreferences"]
exclude_patterns += [
    "generated/explorer",
    "generated/run",
    "generated/course/*.ipynb",
    "generated/course/*.py",
    "generated/course/*.json",
]
suppress_warnings = [
    "config.cache",  # functions in sphinx_gallery_conf cannot be pickled
    "codeautolink.match_name",  # what the gallery has linked before
]
default_role = "code"
pygments_style = "tango"

# pages
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 3

# the API: pages are written by _ext/api_pages.py, docstrings read by _ext/docstrings.py
api_pages.write(HERE / "generated" / "api")
citations.write(HERE / "generated" / "citations.md")
intersphinx_mapping = inventories.write(HERE / "inventories", HERE / "generated" / "inventories")
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False  # of nn.Module, that is
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

# the course
sphinx_gallery_conf = {
    "examples_dirs": "course",
    "gallery_dirs": "generated/course",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("pyrovae",),
    "filename_pattern": r"\.py$",
    "image_scrapers": (figure_scraper,),
    "capture_repr": (),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 600,
    "remove_config_comments": True,
    "plot_gallery": "True",
}
codeautolink_concat_default = False

# the look; nothing is fetched from elsewhere
html_theme = "pydata_sphinx_theme"
html_title = "pyrovae"
html_static_path = ["_static"]
explorer.write()
html_extra_path = ["generated/explorer"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {"index": []}
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}
