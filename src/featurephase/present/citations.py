"""What to cite: the entries (``references.bib``), and by rules from the inputs of a result which of them it used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from featurephase._version import __version__
from featurephase.foundation.errors import InputError, suggest
from featurephase.present.saved import SWEEP, Dataset, kind_of, open_saved, said
from featurephase.results.base import Result
from featurephase.results.documents import Citations

SOFTWARE, PHASES, MECHANISMS, TELESCOPING = (
    "featurephase",
    "montanari2026phase",
    "xu2024three",
    "jeffares2024telescoping",
)
#: What the package itself rests on.
OWN = (SOFTWARE, PHASES, MECHANISMS)
#: Class of a result, or kind of a sweep -> the paper whose theory it computes.
_THEORY = {
    "LatentResult": (MECHANISMS,),
    "LatentPhaseResult": (MECHANISMS,),
    "ParameterisationTable": (MECHANISMS,),
    "ProbeResult": (MECHANISMS, TELESCOPING),
    "RelatedResult": (),
    "latent": (MECHANISMS,),
    "probe": (MECHANISMS, TELESCOPING),
    "related": (),
}
#: Word in the setting of a probe -> where it comes from.
_SETTINGS = {"ntk": "jacot2018neural", "mup": "yang2020feature", "fashion-mnist": "xiao2017fashion"}
#: Work without a number at arXiv: how citations name it.
_NAMED = {"Saad, Solla": "saad1995online"}


@cache
def entries() -> dict[str, str]:
    """Key -> BibTeX entry."""
    text = files(__package__).joinpath("references.bib").read_text(encoding="utf-8").replace("VERSION", __version__)
    return {match[1]: match[0] for match in re.finditer(r"^@\w+\{(\w+),\n.*?^\}$", text, re.MULTILINE | re.DOTALL)}


def bibtex(keys: Iterable[str] = OWN) -> str:
    """The BibTeX entries of these keys, in this order.

    Raises
    ------
    InputError
        If a key is unknown.
    """
    known = entries()
    chosen = list(keys)
    for key in chosen:
        if key not in known:
            raise InputError(f"{key!r} is no reference; {suggest(key, known)}")
    return "\n\n".join(known[key] for key in chosen) + "\n"


def cited_by(data: Dataset, kind: str) -> list[str]:
    """Keys of what a saved result used: the software, the theory, its model, and what its setting names.

    ``kind``: class of the result, as :func:`~featurephase.present.saved.kind_of` tells it.
    """
    of = said(data, "kind") if kind == SWEEP else kind
    keys = [SOFTWARE, *_THEORY.get(of, (PHASES,)), *_quoted(said(data, "citation"))]
    keys += [key for name in ("parameterisation", "task") if (key := _SETTINGS.get(said(data, f"setting_{name}")))]
    if of == "related" and kind == SWEEP:
        keys += _of_model(said(data, "experiment"))
    return list(dict.fromkeys(keys))


def cite(source: Result | str | os.PathLike[str] | None = None) -> Citations:
    """What to cite for a result, or for a saved one; without any: for featurephase and its theory.

    Raises
    ------
    InputError
        If the path leads to no result.

    Examples
    --------
    >>> import featurephase as fp
    >>> fp.cite(fp.related("catapult")).keys
    ('featurephase', 'lewkowycz2020catapult')
    """
    if source is None:
        keys = list(OWN)
    else:
        data = source.to_xarray() if isinstance(source, Result) else open_saved(source)
        keys = cited_by(data, kind_of(data))
    return Citations(keys=tuple(keys), bibtex=bibtex(keys))


def _quoted(citation: str) -> list[str]:
    """Keys of the works that a citation in words names, by their number at arXiv."""
    keys = [key for name, key in _NAMED.items() if name in citation]
    numbers = re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", citation)
    return keys + [key for number in numbers for key, entry in entries().items() if f"{{{number}}}" in entry]


def _of_model(experiment: str) -> list[str]:
    """Keys of the related model that the base of a sweep names."""
    from featurephase.related_models.registry import MODELS, model_class

    return [key for name in MODELS if f'"{name}"' in experiment for key in _quoted(model_class(name).citation)]
