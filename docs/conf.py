"""Configuration of Sphinx."""

import sys
from pathlib import Path

# Sphinx-gallery looks up the names that examples import without running them.
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from sktransfer import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for `_afresh`

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

toc_object_entries_show_parents = "hide"  # "fit()" in the contents of a page

default_role = "literal"
exclude_patterns = ["_build", "auto_examples/**/*.md5", "sg_execution_times.rst"]
templates_path = ["_templates"]

autosummary_generate = True
autosummary_context = {
    # Methods that only the package itself calls.
    "internal_methods": (
        "classifier_layers count describe_prefix extra_repr features_key fork "
        "frozen_section in_order in_short is_special make_params n_special "
        "n_stages_before of owner prefix_fingerprint probe_digest separator "
        "surely_fits tokens untraced weights_fingerprint"
    ).split(),
    # What is documented on the page of another name: results, parts and steps of it.
    "same_page": {
        "sktransfer.adaptation.domain_gap": [
            ("function", "sktransfer.adaptation.proxy_a_distance"),
            ("function", "sktransfer.adaptation.mmd_test"),
        ],
        "sktransfer.advice.domain_similarity": [
            ("class", "sktransfer.advice.DomainSimilarity"),
        ],
        "sktransfer.backbones.Backbone": [("class", "sktransfer.backbones.Stage")],
        "sktransfer.backbones.model_card": [
            ("class", "sktransfer.backbones.ModelCard"),
        ],
        "sktransfer.inspection.explain": [
            ("class", "sktransfer.inspection.Explanation"),
        ],
    },
}
autodoc_typehints = "none"  # the docstrings hold the types
numpydoc_show_class_members = False  # the template of classes lists them

html_theme = "pydata_sphinx_theme"
html_title = "sktransfer"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "header_links_before_dropdown": 5,  # in one line with the search
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}
_alone = ("benchmarks", "changelog", "index", "installation", "tutorials")
html_sidebars = {page: [] for page in _alone}

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
    "reset_modules": ("matplotlib", "seaborn", "_afresh.start_afresh"),
}
