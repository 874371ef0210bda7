"""Sphinx configuration: MyST pages, strict build."""

from featurephase import __version__

project = "featurephase"
author = "the featurephase developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "featurephase"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
