"""Training dynamics: the conditioning recursion (written once) and the laws that run on it."""
