"""How Sphinx builds the documentation: `sphinx-build -W --keep-going docs docs/_build/html`."""

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import stellarhml

project = "stellarhml"
author = "The stellarhml developers"
copyright = f"2026, {author}"
version = release = stellarhml.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "written_by_the_package",
]
root_doc = "index"
exclude_patterns = ["_build", "**/README.md", "auto_examples/*.ipynb", "auto_examples/*.py*"]
templates_path = ["_templates"]
nitpicky = False  # types such as "array-like" lead nowhere

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it
toc_object_entries_show_parents = "hide"  # names with their classes do not fit beside the page
numpydoc_show_class_members = False  # the template has them in full
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "parallel": 2,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 0,
    "backreferences_dir": "auto_examples/backreferences",
    "doc_module": ("stellarhml",),
    "reference_url": {"stellarhml": None},
}
# examples are scripts, in which show() without a screen is no mistake
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive", category=UserWarning)

html_theme = "pydata_sphinx_theme"
html_title = f"stellarhml {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# pages without pages below them need no navigation beside them
_SINGLE = (
    "tutorial",
    "real-star",
    "explore",
    "method",
    "limits",
    "figures",
    "comparison",
    "troubleshooting",
    "architecture",
)
html_sidebars = {page: [] for page in _SINGLE}
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _skip_what_scikit_learn_documents(app, what, name, obj, skip, options):
    """Leave out methods that estimators inherit from scikit-learn: its own pages tell them, with its own links."""
    inherited = str(getattr(obj, "__module__", "")).startswith("sklearn")
    return True if inherited or (name.startswith("set_") and name.endswith("_request")) else None


def setup(app):
    """Register the handler."""
    app.connect("autodoc-skip-member", _skip_what_scikit_learn_documents)
