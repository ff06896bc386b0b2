"""Configuration of Sphinx."""

# Sphinx-gallery looks up the names that examples import without running them.
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from sktransfer import __version__

project = "sktransfer"
author = "The sktransfer developers"
copyright = "The sktransfer developers"
release = __version__
version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
# No intersphinx: the documentation builds offline.

default_role = "literal"
exclude_patterns = ["_build", "auto_examples/**/*.md5", "sg_execution_times.rst"]
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings hold the types
numpydoc_show_class_members = False  # the template of classes lists them

html_theme = "pydata_sphinx_theme"
html_title = "sktransfer"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False}
html_sidebars = {"changelog": [], "installation": []}

copybutton_exclude = ".linenos, .gp, .go"

# All examples run. To build the text alone: make docs SPHINXOPTS="-D plot_gallery=0".
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/\d{4}_\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}
