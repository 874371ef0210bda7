"""Sphinx configuration: MyST pages, strict build."""

import runpy
from pathlib import Path

from featurephase import __version__

project = "featurephase"
author = "the featurephase developers"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "fieldlist"]
myst_heading_anchors = 3
# Formulas are set by MathJax, which the browser loads from its usual address. Without a network, build with
# -D mathjax_path=file:///..  or a path below html_static_path.
exclude_patterns = ["_build", "_pages"]
# Interactive pages, made as the documentation is built (gallery/pages.py).
html_extra_path = ["_pages"]
# The tutorial is executed anew at each build; a cell that fails, fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
# Equations are numbered by page of the theory and place in it: (4.7).
numfig = True
numfig_secnum_depth = 1
html_theme = "furo"
html_title = "featurephase"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_rtype = False

runpy.run_path(str(Path(__file__).parent / "gallery" / "pages.py"))["main"]()
