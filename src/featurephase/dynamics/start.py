"""The start of training at finite dimension: weights with the Gram matrix and the overlap of the student.

One function serves the dense weights and the exact law without a data matrix: both need only Gaussian rows, of which
those outside the latent space may be replaced by the triangle of their QR split.
"""

from __future__ import annotations

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array

#: kind of start -> what it is.
STARTS = {
    "orthonormal": "Gram matrix exactly init_gram; overlap as prescribed on the span of init_overlap, random elsewhere",
    "gaussian": "independent Gaussian columns: init_gram and the overlap hold on average",
    "sphere": "Gaussian columns scaled to the norms of init_gram",
    "prescribed": "Gram matrix and overlap exactly as given, zero overlap included",
}


def start_weights(kind: str, gram: Array, overlap: Array, latent: Array, rest: Array, dimension: int) -> Array:
    """Theta(0) in a basis whose first k vectors are the latent directions, (k + rows of ``rest``, m).

    Parameters
    ----------
    kind
        One of :data:`STARTS`.
    gram, overlap
        Q0 (m, m) and M0 (k, m).
    latent, rest
        Gaussian rows (k, m), and outside the latent space either all (d - k, m) or their triangle.
    dimension
        d.

    Raises
    ------
    InputError
        If the kind is unknown, or d is too small for weights outside the latent space to be independent.
    """
    k, m = overlap.shape
    if kind not in STARTS:
        raise InputError(f"start = {kind!r}: must be {', '.join(STARTS)}")
    if dimension < k + m:
        raise InputError(
            f"dimension = {dimension}: must be at least latent_dim + width = {k + m}, for the latent directions and "
            "independent neurons"
        )
    values, vectors = np.linalg.eigh(gram - overlap.T @ overlap)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    left, singular, _ = np.linalg.svd(overlap)
    prescribed = k if kind == "prescribed" else int(np.count_nonzero(singular > 1e-10 * singular[0]))
    free = left[:, prescribed:]  # latent directions along which the overlap is left to chance
    frame = np.concatenate([latent[: free.shape[1]], rest])
    if kind == "gaussian":
        frame = frame @ root / np.sqrt(dimension)
    elif kind == "sphere":
        frame = frame @ root
        norms = np.linalg.norm(frame, axis=0)
        frame = frame * (np.sqrt(np.maximum(np.diag(root @ root), 0.0)) / np.where(norms > 0, norms, 1.0))
    else:
        frame_values, frame_vectors = np.linalg.eigh(frame.T @ frame)
        frame = frame @ (frame_vectors / np.sqrt(frame_values)) @ frame_vectors.T @ root
    random = free.shape[1]
    return np.concatenate([overlap + free @ frame[:random], frame[random:]])
