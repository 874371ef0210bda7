"""Every status a result can have, with what it means and what could be done about it: here and nowhere else.

A status is a string, the one in the JSON documents. Compare it with those below, or ask for its :attr:`Status.kind`
where it carries numbers; never take it apart.
"""

from __future__ import annotations

from typing import Self


class Status(str):
    """A status, which is what JSON documents say, and what it means.

    Attributes
    ----------
    kind
        The same without its numbers: ``"diverged"`` for ``"diverged at step 12"``.
    message
        What it means to people, with advice; empty where only the place it occurs at can say.
    step
        The training step it carries, if any.
    """

    kind: str
    message: str
    step: int | None

    def __new__(cls, text: str, message: str = "", *, kind: str = "", step: int | None = None) -> Self:
        """A string with its meaning."""
        self = super().__new__(cls, text)
        self.kind, self.message, self.step = kind or text, message, step
        return self

    def explained(self, where: str = "") -> str:
        """The message, prefixed by where it holds; nothing for ``"ok"``."""
        if self == OK:
            return ""
        text = self.message or str(self)
        return f"{where}: {text}" if where else text


OK = Status("ok")

# ---- subspaces and thresholds of the data

GIVEN = Status("given", "the teacher came with its easy basis")
AMBIGUOUS_RANK = Status(
    "ambiguous-rank",
    "which latent directions are easy could not be decided within the sampling budget; give teacher.easy_basis",
)
UNRESOLVED = Status("unresolved", "the value cannot be told from its bound with the samples drawn")

# ---- training

DIVERGED = Status(
    "diverged", "gradient descent diverges; try a smaller training.step_size, or those of a trained readout or bias"
)


def diverged(step: float) -> Status:
    """Divergence at a step, which the status says; its kind is that of :data:`DIVERGED`."""
    return Status(f"{DIVERGED} at step {step:g}", DIVERGED.message, kind=DIVERGED, step=int(step))


# ---- Hessian

SINGULAR_CURVATURE = Status(
    "singular-curvature",
    "the second derivative of the activation or the loss is singular where its slope jumps, so the Hessian has no "
    "limit; trajectories are not affected. Smooth alternatives: gelu, silu, softplus, tanh, erf (activations); "
    "pseudo_huber, huber, squared; of two classes logistic, smooth_hinge (losses)",
)
UNBOUNDED_CURVATURE = Status(
    "unbounded-curvature",
    "the curvature of single samples is unbounded below, so the bulk of the Hessian has no left edge: computed edges "
    "drift with the logarithm of the number of samples",
)
HEAVY_TAILS = Status(
    "heavy-tails",
    "the squared slope of the loss has no mean, so gradients over n samples do not settle as n grows and training has "
    "no limit; what has one: a response with lighter tails, or a loss of bounded slope (pseudo_huber, huber)",
)
NOT_AVAILABLE = Status("not-available", "the Hessian is not measured without a data matrix; --method dense has it")
SLOW = Status("slow", "still moving after the largest number of steps")
NOT_CONVERGED = Status("not-converged", "the tolerance was not reached within the budget")
NO_EIGENVALUES = Status("no Hessian eigenvalues", "no eigenvalue of the Hessian could be computed")
#: Why the Hessian of a PyTorch network cannot be had; where it occurs says which operation or function.
NO_SECOND_DERIVATIVE = Status("no second derivative", "autograd has no second derivative of the network or its loss")
NOT_FINITE = Status("not finite", "the derivatives of the loss are not finite at these weights")
NOT_SYMMETRIC = Status("not symmetric", "autograd's second derivatives are not symmetric, and so not those of the loss")
WRONG_SECOND_DERIVATIVE = Status(
    "wrong second derivative", "autograd's second derivatives are not those of the loss's gradient"
)
OUT_OF_MEMORY = Status("out of memory", "more memory is needed than memory_limit allows")


def unbounded_curvature(reason: str, advice: str) -> Status:
    """:data:`UNBOUNDED_CURVATURE` with why, and what would give the bulk an edge; either may be empty."""
    because = f" ({reason})" if reason else ""
    meaning = UNBOUNDED_CURVATURE.message.replace("below,", f"below{because},", 1)
    return Status(UNBOUNDED_CURVATURE, f"{meaning}; what has an edge: {advice}" if advice else meaning)


def heavy_tails(where: str) -> Status:
    """:data:`HEAVY_TAILS` with where the response goes too far."""
    return Status(HEAVY_TAILS, f"the response is too heavily tailed {where}: {HEAVY_TAILS.message}")


def out_of_products(tolerance: float, products: int) -> Status:
    """The Lanczos method has spent its Hessian-vector products; its kind is that of :data:`NOT_CONVERGED`."""
    text = f"not converged to {tolerance:g} in {products} products: see the residuals"
    return Status(text, NOT_CONVERGED.message, kind=NOT_CONVERGED)


# ---- probe


def not_measured(step: float) -> Status:
    """Recording ended at a step because something failed there; the training went on."""
    return Status(f"not measured at step {step:g}", "recording ended there", kind="not measured", step=int(step))


# ---- thresholds of the network, and escape

NO_TRANSITION = Status("no transition in the range searched")
NOT_NEGATIVE = Status("hard outlier not negative at the end of the range")
STABLE = Status("stable", "no hard outlier stands below 0: the plateau is stable")
UNDECIDED = Status("undecided", "too close to the transition to say whether the plateau ends")
NOT_PREDICTED = Status("not-predicted", "the theory does not cover this")
ONE_PASS = Status(
    NOT_PREDICTED,
    "with fresh samples at every step (training.batches = 'one-pass') the Hessian of one batch does not decide what is "
    "learned: its mean over all data does, at any n/d; `featurephase simulate` tells",
)
IDENTICAL_NEURONS = Status(
    NOT_PREDICTED,
    "two neurons begin with the same weights, read-out and bias, and stay the same: the Hessian has directions along "
    "which they part, which gradient descent never takes; give one neuron with the sum of their read-outs, and a step "
    "size divided by their number",
)
UNDETERMINED = Status("undetermined", "whether a direction is learned could not be decided")

# ---- the latent-variable model

SADDLE = Status("saddle", "the flow starts on the stable manifold of a saddle, and ends there")
FROZEN = Status("frozen", "nothing moves")

# ---- the ledger of claims

NOT_CONFIRMED = Status("not-confirmed", "the evidence is not as the claim says")
NOT_DETERMINED = Status("not-determined", "the experiment could not be run here")

# ---- runs

INTERRUPTED = Status("interrupted", "stopped before everything was finished")


def replicates_failed(failed: int, total: int) -> Status:
    """Some of the replicates failed; the means are over the others."""
    return Status(f"{failed} of {total} replicates failed", kind="replicates failed")


def cells_failed(failed: int, total: int) -> Status:
    """Some of the cells of a sweep failed; the others are there."""
    return Status(f"{failed} of {total} cells failed", kind="cells failed")


#: Statuses that are an answer: everything that was asked for exists.
FINE = frozenset((OK, GIVEN, SADDLE, FROZEN))
