"""Do the outputs, the response and the loss fit each other?"""

from __future__ import annotations

import copy

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.functions import Link, Loss, VectorLoss, class_link, vector_loss
from featurephase.functions.responses import class_probabilities
from featurephase.problem.values import Student, Teacher

#: A class below this probability counts as one that never occurs, and how many draws say so.
_NEVER, _DRAWS = 1e-5, 100_000


def fitting_loss(loss: Loss | VectorLoss, outputs: int) -> Loss | VectorLoss:
    """The loss for that many outputs: one of several outputs unless there is one.

    Raises
    ------
    InputError
        If a loss made for several outputs is one for another number of them.
    """
    if isinstance(loss, VectorLoss) and loss.scalar is not None:
        loss = loss.scalar
    if isinstance(loss, Loss):
        return loss if outputs == 1 else vector_loss(loss, outputs)
    if loss.outputs != outputs:
        raise InputError(f"loss {loss.name!r} is one of {loss.outputs} outputs, but student.readout has {outputs}")
    return loss


def fitting_teacher(teacher: Teacher, student: Student, loss: Loss | VectorLoss) -> Teacher:
    """The teacher; two classes for one output are called as the loss expects them, 0 and 1 or -1 and 1.

    Raises
    ------
    InputError
        If the network has not as many outputs as the response needs.
    """
    link, outputs = teacher.link, student.outputs
    two_by_one = link.classes == 2 and outputs == 1
    needed = link.classes or link.components or 1
    if outputs != needed and not two_by_one:
        what = (
            f"teacher.classes = {link.classes} classes need"
            if link.classes
            else f"teacher.link has {needed} components, which need"
            if needed > 1
            else "teacher.link is one number, which needs"
        )
        also = ", or one output for two classes" if link.classes == 2 else ""
        have = "one output (a list of m numbers)" if outputs == 1 else f"{outputs} outputs (rows of {outputs} numbers)"
        want = "a list of m numbers" if needed == 1 else f"m rows of {needed} numbers"
        raise InputError(f"student.readout has {have}, but {what} {needed}{also}: must be {want}")
    labels = (loss.expected_labels or (0.0, 1.0)) if two_by_one else tuple(float(c) for c in range(link.classes))
    if link.labels == labels:
        return teacher
    fitted = copy.copy(teacher)
    fitted._set(link=class_link(link.parts, link.decision, labels))
    return fitted


def require_classes(link: Link) -> None:
    """Refuse a class that never occurs: nothing can be said of it, nor averaged over its samples.

    Raises
    ------
    InputError
        With the class.
    """
    if not link.classes:
        return
    rng = np.random.default_rng(1)
    g, e = rng.standard_normal((link.latent_dim, _DRAWS)), rng.standard_normal((link.normals, _DRAWS))
    with np.errstate(all="ignore"):
        probability = np.mean(class_probabilities(link, g, e, rng.random((link.uniforms, _DRAWS))), axis=1)
    for c in np.flatnonzero(probability < _NEVER):
        raise InputError(
            f"teacher.logits: class {c} (of 0 to {link.classes - 1}) never occurs in {_DRAWS} draws of the latent "
            f"coordinates (probability {probability[c]:.1g}); every class must occur: leave it out or raise its logit"
        )
