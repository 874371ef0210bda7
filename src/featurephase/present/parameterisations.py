"""Table and figure of the named parameterisations: one line each, and their places in the phase diagram."""

from __future__ import annotations

from featurephase.latent_model.phase_diagram import Slice
from featurephase.present.figures import Figure
from featurephase.present.latent_phase import phase_figure
from featurephase.present.tables import aligned
from featurephase.results.latent import ParameterisationTable

__all__ = ["figure", "table"]


def table(result: ParameterisationTable) -> str:
    """One line per parameterisation, and the rule behind each."""
    columns = ("name", "c_k", "c_h", "c_g", "c_s0", "phase", "stability", "mechanism")
    every = result.parameterisations
    rows = [
        [p["name"], *(f"{p['exponents'][c]:g}" for c in columns[1:5]), *(str(p[c]) for c in columns[5:])] for p in every
    ]
    return "\n".join([*aligned(rows, columns, indent=""), "", *(f"  {p['name']}: {p['rule']}" for p in every)])


def figure(result: ParameterisationTable) -> Figure:
    """The phase diagram with all of them."""
    return phase_figure(Slice())
