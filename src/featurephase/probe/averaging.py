"""The mean of several probe runs with standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.probe.verdict import decide
from featurephase.results.base import Record, averaged
from featurephase.results.probe import ProbeResult
from featurephase.results.status import OK, replicates_failed

R = TypeVar("R", bound=Record)

#: What identifies a result rather than being measured.
_GIVEN = frozenset(("status", "message", "seed", "version", "setting", "replicates", "verdict", "times"))


def average(results: Sequence[ProbeResult]) -> ProbeResult:
    """The mean of R >= 2 runs of the same experiment; ``x_se`` is their standard deviation over the square root of R.

    They have the same records, layers and pairs. Runs that diverged are left out, and counted in the message.

    Raises
    ------
    InputError
        If fewer than two are given, or their records differ.
    """
    if len(results) < 2:
        raise InputError(f"a mean with errors needs at least 2 replicates, not {len(results)}")
    good = [r for r in results if r.ok]
    failed = len(results) - len(good)
    if not good:
        words = "; ".join(dict.fromkeys(r.message for r in results))
        return replace(results[0], replicates=len(results), message=words)
    first = good[0]
    if any(r.times.shape != first.times.shape or np.any(r.times != first.times) for r in good):
        raise InputError("the replicates recorded at different times")
    result = replace(_mean(good, _GIVEN), outcome=_mean_of_words([r.outcome for r in good]), replicates=len(good))
    parts = {name: part for name, part in result.mechanisms.items() if isinstance(part, float)}
    verdict = decide(
        [float(t) for t in result.times],
        result.kernel_change,
        result.kernel_change_se,
        parts,
        {layer.name: float(layer.movement[-1]) for layer in result.layers},
    )
    reason = next((r.message for r in results if not r.ok), "")
    return replace(
        result,
        verdict=verdict,
        message=f"{failed} of {len(results)} replicates failed: {reason}" if failed else "",
        status=replicates_failed(failed, len(results)) if failed else OK,
    )


def _mean(records: Sequence[R], given: frozenset[str] = frozenset()) -> R:
    """Numbers with a sibling ``x_se`` become mean and error; records are entered, words joined, the rest kept."""
    names = {f.name for f in fields(records[0])} - given
    changes: dict[str, Any] = {}
    for name in names:
        values = [getattr(record, name) for record in records]
        sample = values[0]
        if f"{name}_se" in names:
            if sample is not None:
                changes |= _with_error(name, values)
        elif isinstance(sample, Record):
            changes[name] = _mean(values)
        elif isinstance(sample, tuple) and sample and isinstance(sample[0], Record):
            changes[name] = tuple(_mean(entries) for entries in zip(*values, strict=True))
        elif isinstance(sample, bool):
            changes[name] = any(values)
        elif isinstance(sample, str) and not name.endswith("_se"):
            changes[name] = sample if len(set(values)) == 1 else "; ".join(dict.fromkeys(values))
    return replace(records[0], **changes)


def _with_error(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if len(values) == 1:
        return {name: values[0], f"{name}_se": np.asarray(values[0], float) * np.nan}
    return averaged(**{name: np.stack([np.asarray(value, float) for value in values])})


def _mean_of_words(outcomes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Numbers by name, with errors."""
    means = [_with_error(name, [outcome[name] for outcome in outcomes]) for name in outcomes[0]]
    return {name: float(value) for mean in means for name, value in mean.items()}
