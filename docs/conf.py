"""How Sphinx builds these pages: ``make docs``."""

import hf_posmine

project = "hf_posmine"
author = "the hf_posmine authors"
copyright = "2026, the hf_posmine authors"
version = release = hf_posmine.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "hf_posmine"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2f5d8a", "color-brand-content": "#2f5d8a"},
    "dark_css_variables": {"color-brand-primary": "#8ab8e6", "color-brand-content": "#8ab8e6"},
}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
exclude_patterns = ["_*"]
suppress_warnings = [
    "myst.xref_missing"
]  # pages also lead to files outside docs/; tests/test_docs.py follows every link
