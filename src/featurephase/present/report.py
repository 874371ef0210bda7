"""The page of a saved result: its charts and tables, its inputs, how to make it again, and what to cite."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from featurephase.foundation.files import check_target
from featurephase.present.charts import Curve, curves_chart
from featurephase.present.citations import bibtex, cited_by
from featurephase.present.numbers import error_of, glossary, measured_variables, place, tables
from featurephase.present.page import PAGES, Block, Chart, Code, Section, Table, Text, page, write_page
from featurephase.present.page_panels import FIRST, PANELS, Panel
from featurephase.present.reproduce import commands
from featurephase.present.saved import SWEEP, Dataset, kind_of, open_saved, replicates_of, said
from featurephase.present.sweep_page import sweep_sections
from featurephase.results.base import Result

#: Curves of one chart; what is beyond stands in the tables.
_MOST_CURVES = 24
_WHAT = {
    "Prediction": "prediction in the limit n, d → ∞",
    "Threshold": "thresholds in the limit n, d → ∞",
    "Explanation": "explanation",
    "Simulation": "simulation of finite networks",
    "Comparison": "theory against simulation",
    "LatentResult": "exact training of the latent-variable model",
    "LatentPhaseResult": "phase of a scaling in the latent-variable model",
    "ProbeResult": "probe of a network in training",
    "RelatedResult": "a related solvable model",
    SWEEP: "sweep",
}


def report(source: Result | str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write a self-contained page on a result, or on a file or store that holds one.

    Parameters
    ----------
    source
        A result; or the path of a saved one (``.nc``, ``.zarr``) or of a sweep's store.
    path
        The page (``.html``); a file of that name is replaced, whole or not at all.

    Raises
    ------
    InputError
        If ``source`` leads to nothing, to something else, or to a damaged file, or the page cannot be written.
    MissingDependencyError
        Without plotly (extra ``page``).

    Examples
    --------
    >>> import featurephase as fp
    >>> fp.report(fp.related("catapult"), "catapult.html").name
    'catapult.html'
    """
    check_target("cannot write", path, PAGES)
    return write_page(path, page_of(source.to_xarray() if isinstance(source, Result) else open_saved(source)))


def page_of(data: Dataset) -> str:
    """The page of a data set with the attributes of a result."""
    kind = kind_of(data)
    title = said(data, "title") or _WHAT.get(kind, "result")
    sections = [*_results(data, kind), _inputs(data), _again(data, kind), _numbers(data), _citations(data, kind)]
    return page(title[0].upper() + title[1:], [s for s in sections if s.blocks], _lead(data), _facts(data, kind))


# ---- the head


def _lead(data: Dataset) -> str:
    words = [said(data, name) for name in ("verdict", "regime", "phase_note", "message")]
    words += [f"Warning: {line}" for line in said(data, "warnings").splitlines()]
    return "\n\n".join(word[0].upper() + word[1:] for word in words if word)


def _facts(data: Dataset, kind: str) -> dict[str, str]:
    seed, exact = said(data, "seed"), said(data, "seed") in ("", "-1")
    verdict = {"1": "agree", "0": "disagree"}.get(said(data, "agree"), "")
    facts = {
        "what": _WHAT.get(kind, ""),
        "theory and simulation": verdict,
        "status": said(data, "status"),
        "phase": said(data, "phase"),
        "seed": "none: nothing is random" if exact else seed,
        "replicates": said(data, "replicates"),
        "sample paths": said(data, "samples"),
        "made with": said(data, "source"),
    }
    return {name: word for name, word in facts.items() if word}


# ---- the charts


def _results(data: Dataset, kind: str) -> list[Section]:
    if kind == SWEEP:
        return sweep_sections(data)
    panels = PANELS.get(kind)
    panels = _every_variable(data) if panels is None else panels
    charts = [chart for panel in panels if (chart := _chart(data, panel)) is not None]
    sections = [Section("Results", _first(data, kind))]
    return sections + [Section(panel_title, [chart]) for panel_title, chart in charts]


def _first(data: Dataset, kind: str) -> list[Block]:
    """The tables at the top: single numbers, the variables that come first, statuses that are not ok, and words."""
    names = measured_variables(data)
    scalars = [name for name in names if data[name].ndim == 0]
    words = [n for n in names if data[n].ndim and data[n].dtype.kind in "OU"]
    telling = [n for n in words if not (n.endswith("status") and set(data[n].values.flat) == {"ok"})]
    first = FIRST.get(kind)
    blocks: list[Block] = [*tables(data, scalars)]
    if kind == "Explanation":
        blocks += [*tables(data, first), *_sentences(data)]
    else:
        blocks += tables(data, telling if first is None else [*first, *(n for n in telling if n not in first)])
    return blocks


def _sentences(data: Dataset) -> list[Block]:
    """What an explanation says of each direction."""
    rows = [
        [str(name), *(str(data[part].values[i]) for part in ("mechanism", "change"))]
        for i, name in enumerate(data["direction"].values)
    ]
    return [Table(["direction", "mechanism", "what would change it"], rows)]


def _every_variable(data: Dataset) -> tuple[Panel, ...]:
    """A chart for each variable that runs over numbers, with what a simulation measured of it."""
    panels = []
    for name in measured_variables(data):
        if name.startswith("measured_") or not data[name].dims or data[name].dtype.kind not in "fiu":
            continue
        about = str(data[name].attrs.get("long_name", "")) or name.replace("_", " ")
        measured = f"measured_{name}"
        panels.append(Panel(about[0].upper() + about[1:], (name, measured), name.replace("_", " "), points=(measured,)))
    return tuple(panels)


def _chart(data: Dataset, panel: Panel) -> tuple[str, Chart] | None:
    names = [n for n in panel.y if n in data.data_vars and data[n].size and np.isfinite(data[n].values).any()]
    running = [name for name in names if data[name].dims]
    if not running:
        return None
    curves = [c for i, name in enumerate(names) for c in _curves(data, panel, name, i if len(names) > 1 else None)]
    level = [curve for curve in curves if curve.x.size == 0]
    curves = _levelled([c for c in curves if c.x.size], level)
    x = _axis(data, panel, running[0])
    if not curves or x is None:
        return None
    shown = curves[:_MOST_CURVES]
    drawn = curves_chart(
        shown, _axis_title(data, x), panel.label, replicates_of(data), log_x=panel.log_x, log_y=panel.log_y
    )
    left = f"{len(shown)} of {len(curves)} curves; the others are in the tables." if len(shown) < len(curves) else ""
    caption = " ".join(word for word in (panel.caption, left) if word)
    return panel.title, Chart(drawn, f"{panel.title}: the numbers are in the table of all numbers.", caption)


def _axis(data: Dataset, panel: Panel, name: str) -> str | None:
    """The variable or dimension on the horizontal axis."""
    variable = data[name]
    if panel.x in variable.dims or (panel.x in data.variables and set(data[panel.x].dims) <= set(variable.dims)):
        return panel.x
    numeric = [str(d) for d in variable.dims if d not in data.coords or data[d].dtype.kind in "fiu"]
    return max(numeric, key=lambda dim: data.sizes[dim], default=None)


def _axis_title(data: Dataset, x: str) -> str:
    if x not in data.variables:
        return x.replace("_", " ")
    about, unit = (str(data[x].attrs.get(key, "")) for key in ("long_name", "units"))
    words = about or x.replace("_", " ")
    return words if unit in ("", "1") or unit in words else f"{words} ({unit})"


def _curves(data: Dataset, panel: Panel, name: str, series: int | None) -> list[Curve]:
    """A curve for each entry along the dimensions that are not on the axis; one without any has no ``x``."""
    variable, se = data[name], error_of(data, name)
    word = name.replace("_", " ") if series is not None else ""
    if not variable.dims:
        error = None if se is None else se.values.reshape(1)
        return [Curve(np.empty(0), variable.values.reshape(1), error, word, series or 0, 1)]
    x = _axis(data, panel, name)
    if x is None:
        return []
    along = x if x in variable.dims else str(data[x].dims[-1])
    others = [str(dim) for dim in variable.dims if dim != along]
    out: list[Curve] = []
    for number, index in enumerate(product(*(range(data.sizes[dim]) for dim in others))):
        chosen = dict(zip(others, index, strict=True))
        places = [place(data, dim, i) for dim, i in chosen.items() if data.sizes[dim] > 1]
        out.append(
            Curve(
                x=_along(data, x, along, chosen),
                y=np.asarray(variable.isel(chosen).values, dtype=float),
                se=None if se is None else np.asarray(se.isel(chosen).values, dtype=float),
                name=", ".join([word, *places] if word else places),
                colour=number if series is None else series,
                dash=number // 6 if series is None else number,
                points=name in panel.points,
            )
        )
    return out


def _along(data: Dataset, x: str, along: str, chosen: dict[str, int]) -> Any:
    if x not in data.variables:
        return np.arange(1, data.sizes[along] + 1)
    values = data[x].isel({dim: i for dim, i in chosen.items() if dim in data[x].dims}).values
    numbers = values.dtype.kind in "fiu"
    return values if numbers else np.arange(1, len(values) + 1)


def _levelled(curves: list[Curve], levels: list[Curve]) -> list[Curve]:
    """Numbers without an axis become level lines from one end of the others to the other."""
    if not curves:
        return []
    ends = np.array([min(np.min(c.x) for c in curves), max(np.max(c.x) for c in curves)])
    flat = [
        Curve(ends, np.repeat(c.y, 2), None if c.se is None else np.repeat(c.se, 2), c.name, c.colour, c.dash)
        for c in levels
        if np.isfinite(c.y).all()
    ]
    return curves + flat


# ---- the rest


def _inputs(data: Dataset) -> Section:
    blocks: list[Block] = []
    rows = [[name, value] for name, value in _parameters(data).items()]
    if rows:
        blocks.append(Table(["parameter", "value"], rows))
    for name, file in (("sweep", "sweep.toml"), ("experiment", "experiment.toml")):
        if said(data, name):
            blocks.append(Code(said(data, name), file))
    return Section("Inputs", blocks)


def _parameters(data: Dataset) -> dict[str, str]:
    """What was computed, from the attributes of the results that have no experiment file."""
    out: dict[str, str] = {}
    text = said(data, "parameters")
    if text:
        values = {name: value for name, value in json.loads(text).items() if value is not None}
        out |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    for name, value in data.attrs.items():
        for front in ("setting_", "scaling_"):
            if str(name).startswith(front) and str(value) not in ("None", "[]"):
                out[str(name).removeprefix(front)] = str(value)
    return out


def _again(data: Dataset, kind: str) -> Section:
    lines, note = commands(data, kind)
    version, seed = said(data, "version"), said(data, "seed")
    words = f"featurephase {version}" + ("" if seed in ("", "-1") else f", seed {seed}")
    blocks: list[Block] = [Text(f"Made with {words}; the same version, seed and machine give the same numbers. {note}")]
    if lines:
        blocks.append(Code("\n".join(lines)))
    return Section("How to make it again", blocks)


def _numbers(data: Dataset) -> Section:
    shown = tables(data)
    return Section("All numbers", [glossary(data), *shown] if shown else [], folded=True)


def _citations(data: Dataset, kind: str) -> Section:
    keys = cited_by(data, kind)
    words = "If this is used in a publication, please cite what it rests on."
    return Section("Citations", [Text(words), Code(bibtex(keys), "references.bib")])
