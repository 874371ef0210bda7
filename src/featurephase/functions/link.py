"""Links y = phi(g, e, u): how the response depends on the latent coordinates and on noise."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.errors import InputError
from featurephase.functions.catalogue import LINKS, lookup
from featurephase.functions.parser import parse
from featurephase.functions.program import Program
from featurephase.functions.tape import Tape

Array = NDArray[np.float64]

__all__ = ["Link", "link"]

#: most noise variables of each kind
MAX_NOISE = 16


class Link:
    """A link phi(g1..gk; e1, e2.. ~ N(0,1); u1, u2.. ~ U(0,1)); made by :func:`link`."""

    def __init__(self, spec: str, latent_dim: int) -> None:
        self.spec = self.source = spec.strip()
        self.latent_dim = latent_dim
        tape = Tape()
        found = lookup(LINKS, "link", spec)
        if found is not None:
            self.source = found[1].expression
        variables = [f"g{i + 1}" for i in range(latent_dim)]
        variables += [f"{kind}{i + 1}" for kind in "eu" for i in range(MAX_NOISE)]
        names = {n: tape.variable(n) for n in variables}
        if found is not None:
            names |= {k: tape.constant(v) for k, v in found[2].items()}

        def unknown(name: str) -> str:
            if re.fullmatch(r"g[0-9]+", name):
                return f"{name} is not a latent coordinate: with latent_dim = {latent_dim} they are " + (
                    "g1" if latent_dim == 1 else f"g1 to g{latent_dim}"
                )
            return (
                f"unknown name {name!r}; a link is an expression in g1..g{latent_dim} (latent coordinates), "
                f"e1..e{MAX_NOISE} (independent N(0,1)), u1..u{MAX_NOISE} (independent U(0,1)), or one of "
                + ", ".join(LINKS)
            )

        node = parse(tape, self.source, "link", names, unknown)
        used = tape.variables(node)
        self.uses = tuple(sorted(int(n[1:]) for n in used if n[0] == "g"))
        self.normals = max((int(n[1:]) for n in used if n[0] == "e"), default=0)
        self.uniforms = max((int(n[1:]) for n in used if n[0] == "u"), default=0)
        order = [
            *(f"g{i + 1}" for i in range(latent_dim)),
            *(f"e{i + 1}" for i in range(self.normals)),
            *(f"u{i + 1}" for i in range(self.uniforms)),
        ]
        self._program = Program(tape, [node], order)

    def evaluate(self, g: ArrayLike, e: ArrayLike | None = None, u: ArrayLike | None = None) -> Array:
        """phi at g (k, N), e (normals, N), u (uniforms, N): (N,)."""
        rows: list[Any] = list(np.asarray(g, dtype=np.float64))
        rows += list(np.asarray(e, dtype=np.float64))[: self.normals] if self.normals else []
        rows += list(np.asarray(u, dtype=np.float64))[: self.uniforms] if self.uniforms else []
        return self._program(*rows)[0]

    def sample(self, g: ArrayLike, rng: np.random.Generator) -> Array:
        """Responses at g (k, N) with fresh noise: (N,). Raises InputError if one is not finite."""
        g = np.asarray(g, dtype=np.float64)
        e = rng.standard_normal((self.normals, g.shape[1]))
        u = rng.random((self.uniforms, g.shape[1]))
        y = self.evaluate(g, e, u)
        bad = np.flatnonzero(~np.isfinite(y))
        if bad.size:
            at = ", ".join(f"g{i + 1} = {v:.6g}" for i, v in enumerate(g[:, bad[0]]))
            raise InputError(
                f"link {self.spec!r}: the response is {y[bad[0]]} at {at}; it must be finite on every sample"
            )
        return y

    def to_spec(self) -> str:
        """The text that gives this link back."""
        return self.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return link, (self.spec, self.latent_dim)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and (self.spec, self.latent_dim) == (other.spec, other.latent_dim)

    def __hash__(self) -> int:
        return hash((Link, self.spec, self.latent_dim))

    def __repr__(self) -> str:
        return f"link({self.spec!r}, {self.latent_dim})"


@lru_cache(maxsize=256)
def link(spec: str, latent_dim: int) -> Link:
    """The link of that name, or given by an expression in g1..gk, e1.., u1... ."""
    if not isinstance(spec, str):
        raise InputError(f"link: expected text, got {spec!r:.60}")
    return Link(spec, latent_dim)
