"""What the theory says of the problems of ``trained_cases``: the same named numbers as the dense reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.foundation.executors import replicate_seeds
from featurephase.hessian.spectrum import Spectrum, spectrum
from featurephase.problem import Problem

from .evidence import Estimate, estimates
from .trained_reference import Trained, parameter_numbers


def problem(case: Trained) -> Problem:
    """The case as a problem of featurephase."""
    width, outputs = np.shape(case.readout)
    keys = ("step_size", "readout_step_size", "bias_step_size", "output_bias_step_size")
    decays = ("weight_decay", "readout_decay", "bias_decay", "output_bias_decay")
    optimiser = "nesterov" if case.nesterov else "heavy-ball"
    lines = [
        "[teacher]",
        f"latent_dim = {case.latent}",
        case.teacher,
        "[student]",
        f'activation = "{case.activation}"',
        f"readout = {case.readout if outputs > 1 else [row[0] for row in case.readout]}",
        f"bias = {case.bias}",
        f"output_bias = {case.output_bias if outputs > 1 else case.output_bias[0]}",
        f"init_gram = {np.eye(width).tolist()}",
        f"init_overlap = {np.zeros((case.latent, width)).tolist() if case.warm is None else case.warm}",
        "[loss]",
        f'name = "{"cross_entropy" if case.classes else "squared"}"',
        "[training]",
        f"steps = {case.steps}",
        *(f"{key} = {value}" for key, value in zip(keys, case.rates, strict=True)),
        *(f"{key} = {value}" for key, value in zip(decays, case.decays, strict=True) if value),
    ]
    if case.momentum:
        lines += [f'optimiser = "{optimiser}"', f"momentum = {case.momentum}"]
    if case.batches > 1:
        lines += [f"batch_fraction = {1 / case.batches}", 'batches = "fixed"']
    return Problem.from_toml("\n".join(lines))


def easy_basis(case: Trained) -> np.ndarray:
    return np.eye(case.latent)[:, list(case.easy)]


def theory_trajectory(
    case: Trained, times: Sequence[int], samples: int, replicates: int, seed: int = 5
) -> dict[str, Estimate]:
    """Losses, accuracies, Gram matrix, overlaps and O(1) parameters."""
    rows = []
    for s in replicate_seeds(seed, replicates):
        run = run_replicate(
            problem(case), case.delta, s, easy_basis=easy_basis(case), steps=max(times), samples=samples
        )
        row: dict[str, float] = {}
        for t in times:
            row |= {f"train loss, t={t}": run.train_loss[t], f"test loss, t={t}": run.test_loss[t]}
            if case.classes:
                row |= {f"train accuracy, t={t}": run.train_accuracy[t], f"test accuracy, t={t}": run.test_accuracy[t]}
            if t:
                outer = [run.readout, run.bias, run.output_bias]
                psi = [
                    np.zeros(np.shape(p)) if r is None else r[t] for p, r in zip(case.parameters, outer, strict=True)
                ]
                row |= parameter_numbers(case, t, run.gram[t], run.overlap[t], psi)
        rows.append(row)
    return estimates(rows)


def theory_spectra(case: Trained, samples: int, replicates: int, seed: int = 6) -> list[Spectrum]:
    """The spectrum of the Theta block of every replicate at the ratio and the time of ``case.hessian``."""
    asked, hard = problem(case), [j for j in range(case.latent) if j not in case.easy]
    delta, time, _ = case.hessian

    def look(moment):
        return spectrum(
            asked.teacher.link,
            moment,
            delta=delta,
            weight_decay=0.0,
            easy_basis=easy_basis(case),
            hard_basis=np.eye(case.latent)[:, hard],
        )

    return [
        run_replicate(
            asked,
            delta,
            s,
            easy_basis=easy_basis(case),
            steps=time,
            samples=samples,
            observers={time: look},
            test=False,
        ).observations[time]
        for s in replicate_seeds(seed, replicates)
    ]


def theory_hessian(case: Trained, samples: int, replicates: int) -> dict[str, Estimate]:
    """Edges, and every outlier that all replicates have, with its overlap; named as in the reference."""
    rows = []
    for s in theory_spectra(case, samples, replicates):
        assert s.status == "ok"
        assert s.complete
        row = {"left edge": s.left_edge, "right edge": s.right_edge}
        for kind, side, found in (
            ("hard", "left", s.hard_left),
            ("hard", "right", s.hard_right),
            ("visited", "left", s.visited_left),
            ("visited", "right", s.visited_right),
        ):
            for j, outlier in enumerate(found):
                row[f"{kind} {side} outlier {j + 1}"] = outlier.value
                row[f"{kind} {side} overlap {j + 1}"] = outlier.overlap
        rows.append(row)
    shared = set.intersection(*(set(row) for row in rows))
    return estimates({name: row[name] for name in rows[0] if name in shared} for row in rows)
