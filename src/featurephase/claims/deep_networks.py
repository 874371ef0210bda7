"""Claim 15: phases and mechanisms in deep nonlinear networks on real tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurephase.claims.base import MECHANISMS, Claim, Comparison, Finding, Number, Study, above, below, power_law
from featurephase.results.probe import ProbeResult
from featurephase.results.related import Curve, Panel


def trained(study: Study, **settings: Any) -> ProbeResult:
    """Networks in the NTK parameterisation, squared loss, unless the settings say otherwise; several seeds."""
    from featurephase.probe.experiment import Experiment, run_replicates

    common = {
        "parameterisation": "ntk",
        "steps": study.size(200, 2000),
        "replicates": study.size(3, 8),
        "seed": study.seed,
        "hessian": "none",
        "schedule": study.size("logarithmic:1", "logarithmic:3"),
        "test_samples": study.size(200, 0),
    }
    return run_replicates(Experiment(**(common | settings)))


def last(result: ProbeResult, name: str) -> Number:
    """The last entry of a series of the probe, with its error over seeds."""
    return Number.of(getattr(result, name)[-1], getattr(result, f"{name}_se")[-1], result.replicates)


def part(result: ProbeResult, name: str) -> Number:
    """A part of the budget of the mechanisms."""
    return Number.of(getattr(result.mechanisms, name), getattr(result.mechanisms, f"{name}_se"), result.replicates)


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    images: dict[str, Any] = {"task": "fashion-mnist", "train_samples": study.size(4000, 0)}
    cnn = images | {"network": "cnn", "depth": 2, "batch_size": 32, "steps": study.size(100, 2000)}
    networks: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
        "digits, MLP": ({"task": "digits", "depth": 2}, study.size((32, 128, 512), (64, 256, 1024, 4096))),
        "Fashion-MNIST, MLP": (images | {"depth": 2}, study.size((32, 128, 512), (32, 128, 512, 2048))),
        "Fashion-MNIST, CNN": (cnn, study.size((4, 8, 16), (8, 32, 128))),
    }
    comparisons: list[Comparison] = []
    curves = []
    for name, (settings, widths) in networks.items():
        results = [trained(study, width=width, **settings) for width in widths]
        changes = [last(r, "kernel_change") for r in results]
        comparisons.append(below(f"{name}: power of the width in the kernel change", power_law(widths, changes), -0.2))
        ratios = [part(r, "log_kernel_ratio") for r in (results[0], results[-1])]
        sizes = [Number(abs(r.value), r.se, r.degrees) for r in ratios]
        comparisons.append(below(f"{name}: |change of ln K|, widest against narrowest", sizes[1], sizes[0]))
        x, y = np.array(widths, float), np.array([c.value for c in changes])
        curves.append(Curve(x, y, name, "bars", np.array([c.se for c in changes])))
        middle = widths[1]
        small = trained(study, width=middle, init_scale=0.3, **settings)
        large = trained(study, width=middle, init_scale=3.0, **settings)
        comparisons += [
            above(f"{name}, small start: part of ln K by alignment", part(small, "alignment"), 0.0),
            above(f"{name}, small start: part of ln K by growth", part(small, "growth"), 0.0),
            below(f"{name}, large start: part of ln K by disalignment", part(large, "disalignment"), 0.0),
            below(f"{name}, large start: ln K", part(large, "log_kernel_ratio"), 0.0),
        ]
    panel = Panel(
        "width", "relative change of the kernel", tuple(curves), "NTK parameterisation", log_x=True, log_y=True
    )
    limits = (
        "two hidden layers; " + study.size("4000 of the 60 000 training images, ", "") + "grokking: claim telescoping"
    )
    return Finding(comparisons, limits, (panel,))


CLAIM = Claim(
    id="deep-networks",
    number=15,
    statement="The same in deep nonlinear networks on real tasks: in the kernel phase the kernel changes less with "
    "growing width; small initialisation aligns and grows, large initialisation disaligns.",
    source=MECHANISMS,
    criterion="Digits (MLP) and Fashion-MNIST (MLP, CNN), NTK parameterisation: the kernel change falls with a "
    "power of the width below -0.2 and ln K changes less in the widest than in the narrowest; at 0.3 of "
    "the initialisation the parts of ln K by alignment and by growth are positive; at 3 times, the part "
    "by disalignment and ln K's change are negative.",
    experiment="Networks with two hidden layers trained by mini-batches under the probe, 3 (full: 8) seeds.",
    run=experiment,
    needs=("torch", "fashion-mnist"),
)
