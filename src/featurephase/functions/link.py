"""Links y = phi(g, e, u): how the response depends on the latent coordinates and on noise."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError, suggest
from featurephase.foundation.types import Array
from featurephase.functions.catalogue import LANGUAGE, LINKS, expand, number, split_call
from featurephase.functions.facts import LinkFacts, grows, scan_points
from featurephase.functions.intervals import enclosure
from featurephase.functions.parser import check_length, parse, refuse
from featurephase.functions.program import Program
from featurephase.functions.specified import Origin, Remade
from featurephase.functions.tape import Tape

#: most noise variables of each kind
MAX_NOISE = 64

#: draws of the scan that looks for unbounded responses, at each scale
_SCAN = 2000

_VARIABLE = re.compile(r"\b([geu])([1-9][0-9]{0,5})\b", re.ASCII)


class NoiseSource(Protocol):
    """What noise is drawn from: a NumPy generator, or rows of quasi-random points."""

    def standard_normal(self, size: tuple[int, int]) -> Array:
        """Independent N(0, 1)."""
        ...

    def random(self, size: tuple[int, int]) -> Array:
        """Independent U(0, 1)."""
        ...


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Link(Remade):
    """A link: the response y as a function of latent coordinates g1..gk, normal noise e1.. and uniform noise u1..

    Made by :func:`link` from a text, or by :meth:`from_callable` from a Python function. Immutable, hashable, equal if
    made from the same text, picklable.

    Attributes
    ----------
    name : str
        The text it was made from, or the name given to a Python function.
    source : str
        The expression behind the name (the name itself for a Python function).
    latent_dim : int
        k.
    normals, uniforms : int
        How many e's, independent N(0, 1), and u's, independent U(0, 1), it takes.
    uses : tuple of int
        Which of the coordinates 1..k appear (all of them, for a Python function).
    facts : LinkFacts
        Whether the response is bounded, and by what.
    parts : tuple of Link
        The logits of a class, or the components of a vector (:mod:`featurephase.functions.responses`); else none.
    components : int
        C of a vector response (N, C); 0 for a number or a class.
    labels : tuple of float
        The values that a class takes as a response, else none.
    decision : str
        How logits make a class: "softmax" (drawn) or "argmax"; "" where the response is no class.
    """

    name: str
    source: str
    latent_dim: int
    normals: int
    uniforms: int
    uses: tuple[int, ...]
    facts: LinkFacts
    #: (g, e, u) -> responses
    _function: Callable[..., Any]
    parts: tuple[Link, ...] = ()
    components: int = 0
    labels: tuple[float, ...] = ()
    decision: str = ""

    @property
    def classes(self) -> int:
        """How many classes the response may be; 0: it is no class."""
        return len(self.labels)

    @classmethod
    @lru_cache(maxsize=256)
    def _from_text(cls, text: str, latent_dim: int) -> Link:
        source = _expression(text, latent_dim)
        tape = Tape()
        names = {
            kind + index: tape.variable(kind + index)
            for kind, index in _VARIABLE.findall(source)
            if int(index) <= (latent_dim if kind == "g" else MAX_NOISE)
        }
        node = parse(tape, source, "link", names, lambda name: _unknown(name, latent_dim), LANGUAGE)
        used: dict[str, list[int]] = {"g": [], "e": [], "u": []}
        for name in tape.variables(node):
            used[name[0]].append(int(name[1:]))
        counts = (latent_dim, max(used["e"], default=0), max(used["u"], default=0))
        arguments = [f"{kind}{j + 1}" for kind, count in zip("geu", counts, strict=True) for j in range(count)]
        program = Program(tape, [node], arguments)

        def function(g: Array, e: Array, u: Array) -> Array:
            return program(*g, *e, *u)[0]

        ranges = {n: (0.0, 1.0) if n[0] == "u" else (-np.inf, np.inf) for n in arguments}
        low, high = enclosure(tape, node, ranges)
        bound = max(abs(low), abs(high))
        return cls(
            name=text,
            source=source,
            latent_dim=latent_dim,
            normals=counts[1],
            uniforms=counts[2],
            uses=tuple(sorted(used["g"])),
            facts=LinkFacts(bounded=True, bound=bound) if np.isfinite(bound) else _scanned(function, counts),
            _function=function,
            _origin=Origin(link, (text, latent_dim)),
        )

    @classmethod
    def from_callable(
        cls,
        function: Callable[[Array, Array, Array], Array],
        latent_dim: int,
        *,
        normals: int = 0,
        uniforms: int = 0,
        name: str = "custom",
    ) -> Link:
        """A link from a Python function.

        Parameters
        ----------
        function : callable
            Of g (k, N), e (normals, N), u (uniforms, N); returns (N,). To be picklable, the function must be.
        latent_dim : int
        normals, uniforms : int
            How many noise variables of each kind it takes.
        name : str

        Raises
        ------
        InputError
            If it fails, or returns another shape, on a few draws.
        """
        k, words = _dimension(latent_dim), {"normals": normals, "uniforms": uniforms, "name": name}
        try:
            facts = _scanned(function, (k, normals, uniforms))
        except Exception as error:
            raise InputError(f"link {name!r}: the function failed on {_SCAN} draws: {error}") from error
        return cls(
            name=name,
            source=name,
            latent_dim=k,
            normals=normals,
            uniforms=uniforms,
            uses=tuple(range(1, k + 1)),
            facts=facts,
            _function=function,
            _origin=Origin(cls.from_callable, (function, k), tuple(words.items())),
        )

    def evaluate(self, g: ArrayLike, e: ArrayLike | None = None, u: ArrayLike | None = None) -> Array:
        """The responses at given coordinates and noise.

        Parameters
        ----------
        g : (k, N) array_like
        e : (normals, N) array_like
        u : (uniforms, N) array_like
            May be left out where none is taken.

        Returns
        -------
        (N,) array, or (N, C) of a vector

        Raises
        ------
        InputError
            If a shape is wrong.
        """
        columns: int | None = None
        arrays = []
        for given, (kind, count) in zip((g, e, u), self._counts, strict=True):
            array = np.empty((0, columns or 0)) if given is None else np.asarray(given, dtype=np.float64)
            columns = array.shape[1] if array.ndim == 2 and columns is None else columns
            if array.ndim != 2 or array.shape[0] != count or (count and array.shape[1] != columns):
                wanted = f"({count}, {'N' if columns is None else columns})"
                raise InputError(f"link {self.name!r}: {kind} must have shape {wanted}, got {array.shape}")
            arrays.append(array)
        result = np.asarray(self._function(*arrays), dtype=np.float64)
        if result.ndim == 0:
            result = np.full(columns or 0, result)
        if result.shape != ((columns, self.components) if self.components else (columns,)):
            raise InputError(f"link {self.name!r}: {columns} responses expected, got shape {result.shape}")
        return result

    @property
    def _counts(self) -> tuple[tuple[str, int], ...]:
        return ("g", self.latent_dim), ("e", self.normals), ("u", self.uniforms)

    def sample(self, g: ArrayLike, rng: NoiseSource) -> Array:
        """Responses at g (k, N) with fresh noise, drawn from ``rng``: (N,), or (N, C) of a vector.

        Raises
        ------
        InputError
            If a response is not finite.
        """
        g = np.asarray(g, dtype=np.float64)
        e = rng.standard_normal((self.normals, g.shape[-1]))
        u = rng.random((self.uniforms, g.shape[-1]))
        y = self.evaluate(g, e, u)
        finite = np.isfinite(y) if y.ndim == 1 else np.isfinite(y).all(axis=1)
        if not finite.all():
            i = int(np.argmin(finite))
            places = [
                f"{kind}{j + 1} = {row[i]:.6g}"
                for (kind, _), rows in zip(self._counts, (g, e, u), strict=True)
                for j, row in enumerate(rows)
            ]
            what = "a logit is not finite" if self.labels else f"the response is {y[i]}"
            raise InputError(f"link {self.name!r}: {what} at {', '.join(places)}; it must be finite on every sample")
        return y

    def to_spec(self) -> str | list[str]:
        """The text that :func:`link` makes this link from; the texts of its parts, if it has parts.

        Raises
        ------
        InputError
            If it was made from a Python function.
        """
        if self.parts:
            return [str(part.to_spec()) for part in self.parts]
        if self._origin.make is not link:
            raise InputError(f"link {self.name!r} was made from a Python function: it cannot be written as text")
        return self.name

    def __repr__(self) -> str:
        return f"link({self.name!r}, {self.latent_dim})" if self._origin.make is link else f"<link {self.name!r}>"


def _scanned(function: Callable[..., Any], counts: tuple[int, int, int]) -> LinkFacts:
    """Whether responses grow with their arguments: draws of increasing scale, the same stream every time."""
    rng = np.random.default_rng(0)
    sizes = []
    for scale in (1.0, 1e1, 1e2, 1e3, 1e4):
        g = scan_points(rng, counts[0], _SCAN, scale)
        e = scan_points(rng, counts[1], _SCAN, scale)
        with np.errstate(all="ignore"):
            y = np.abs(np.asarray(function(g, e, rng.random((counts[2], _SCAN))), dtype=np.float64))
        if y.shape != (_SCAN,):
            raise InputError(f"{_SCAN} responses expected, got shape {y.shape}")
        sizes.append(float(np.max(np.where(np.isnan(y), 0.0, y))))
    bound = math.inf if grows(max(sizes[:4]), sizes[4]) else max(sizes)
    return LinkFacts(bounded=math.isfinite(bound), bound=bound, measured=frozenset({"bounded", "bound"}))


def _unknown(name: str, latent_dim: int) -> str:
    coordinates = "g1" if latent_dim == 1 else f"g1 to g{latent_dim}"
    variable = _VARIABLE.fullmatch(name)
    if variable is not None and variable[1] == "g":
        return f"there is no coordinate {name}: with latent_dim = {latent_dim} there are {coordinates}"
    if variable is not None:
        return f"there is no noise {name}: there are {name[0]}1 to {name[0]}{MAX_NOISE}"
    return (
        f"unknown name {name[:40]!r}; accepted: {coordinates} (latent coordinates), e1, e2, .. (independent N(0,1)), "
        f"u1, u2, .. (independent U(0,1)), pi, {', '.join(sorted(LANGUAGE))}; or a name: {', '.join(LINKS)}"
    )


def _expression(text: str, latent_dim: int) -> str:
    """The expression behind a text: a name, a name in a noise wrapper, or the text itself."""
    call = split_call(text)
    if call is not None and call[0] in ("noisy", "flipped"):
        wrapper, given = call
        size = number(given[-1]) if given and len(given) == 2 else None
        if not given or size is None or not 0 < size < (np.inf if wrapper == "noisy" else 1):
            usage = {"noisy": "noisy(LINK, sd) adds sd*N(0,1)", "flipped": "flipped(LINK, p) flips the sign, 0 < p < 1"}
            raise refuse("link", text, None, usage[wrapper])
        inner = _expression(given[0], latent_dim)
        kind = "e" if wrapper == "noisy" else "u"
        fresh = 1 + max((int(j) for k, j in _VARIABLE.findall(inner) if k == kind), default=0)
        if wrapper == "noisy":
            return f"({inner}) + {size!r}*e{fresh}"
        return f"where(u{fresh} < {size!r}, -1, 1)*({inner})"
    if (named := expand(LINKS, "link", text, latent_dim)) is not None:
        return named[0]
    if call is not None and call[1] is None and not _VARIABLE.fullmatch(call[0]) and call[0] != "pi":
        why = f"unknown name; {suggest(call[0], LINKS)}; or an expression in g1.., e1.., u1.."
        raise refuse("link", text, None, why)
    return text


def _dimension(latent_dim: Any) -> int:
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, (int, np.integer)) or latent_dim < 1:
        raise InputError(f"link: latent_dim must be a whole number, at least 1, got {latent_dim!r:.40}")
    return int(latent_dim)


def link(spec: str, latent_dim: int) -> Link:
    """The link of a name of the catalogue, or given by an expression in g1..gk, e1, e2.. and u1, u2.. .

    Parameters
    ----------
    spec : str
        ``"tanh_square"``, ``"parity(3)"``, ``"1.5*tanh(g1**2) + 0.1*e1"``; ``"noisy(.., sd)"`` adds normal noise,
        ``"flipped(.., p)"`` changes the sign with probability p, to any of these.
    latent_dim : int
        k, the number of latent coordinates.

    Raises
    ------
    InputError
        If the text is not in the language or names a coordinate that does not exist.

    Examples
    --------
    >>> phi = link("g1 + tanh(g2**2) + 0.1*e1", latent_dim=2)
    >>> phi.uses, phi.normals, phi.facts.bounded
    ((1, 2), 1, False)
    """
    if not isinstance(spec, str):
        raise InputError(f"link: expected a text, got {type(spec).__name__}")
    check_length("link", spec)
    return Link._from_text(spec.strip(), _dimension(latent_dim))
