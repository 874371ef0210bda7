"""Related solvable models of the passage from the kernel regime to feature learning, behind one interface.

Adding a model is adding a file here and a line in :mod:`featurephase.related_models.registry`.
"""

from featurephase.related_models.registry import related

__all__ = ["related"]
