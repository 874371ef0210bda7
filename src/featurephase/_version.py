"""The version, in the one place that the build, the documents and the command read, and that of the numbers."""

__version__ = "0.1.0"

#: Raised whenever the same input gives other numbers than before: cells of a sweep are then computed anew.
NUMERICS = 1
