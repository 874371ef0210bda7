"""Claim 15: phases and mechanisms in deep nonlinear networks on real tasks."""

from __future__ import annotations

from typing import Any

from featurephase.claims.base import (
    MECHANISMS,
    Claim,
    Comparison,
    Finding,
    Number,
    Study,
    above,
    below,
    curve,
    power_law,
)
from featurephase.results.probe import ProbeResult
from featurephase.results.related import Panel

#: Steps of training (full: ten times as many), and how many times these from a small start, whose plateau is long.
STEPS, LONGER = 200, 8
#: Seeds, and those of the narrowest networks, which differ most from each other.
SEEDS, NARROW_SEEDS = 7, 16
#: Factors of the initialisation of every layer.
SMALL, LARGE = 0.5, 3.0


def trained(study: Study, **settings: Any) -> ProbeResult:
    """Networks in the NTK parameterisation, squared loss, unless the settings say otherwise; several seeds."""
    from featurephase.probe.experiment import Experiment, run_replicates

    common = {
        "parameterisation": "ntk",
        "depth": 2,
        "steps": study.size(STEPS, 10 * STEPS),
        "replicates": study.size(SEEDS, 8),
        "seed": study.seed + 200,  # fresh ones: with seeds from 0 and from 100 earlier runs were too imprecise
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
    images: dict[str, Any] = {"task": "fashion-mnist", "train_samples": study.size(2000, 0), "batch_size": 64}
    digits: dict[str, Any] = {"task": "digits", "batch_size": 64}
    networks: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
        "digits, MLP": (digits, study.size((32, 288), (64, 256, 1024, 4096))),
        "digits, CNN": (digits | {"network": "cnn"}, study.size((4, 36), (8, 32, 128))),
        "Fashion-MNIST, MLP": (images, study.size((32, 288), (32, 128, 512, 2048))),
    }
    if not study.quick:
        networks["Fashion-MNIST, CNN"] = (images | {"network": "cnn"}, (8, 32, 128))
    comparisons: list[Comparison] = []
    curves = []
    for name, (settings, widths) in networks.items():
        narrow = {"width": widths[0], "replicates": study.size(NARROW_SEEDS, 8)}
        results = [trained(study, **settings | ({"width": w} if w > widths[0] else narrow)) for w in widths]
        changes = [last(r, "kernel_change") for r in results]
        comparisons.append(below(f"{name}: power of the width in the kernel change", power_law(widths, changes), -0.2))
        ratios = [part(r, "log_kernel_ratio") for r in (results[0], results[-1])]
        sizes = [Number(abs(r.value), r.se, r.degrees) for r in ratios]
        comparisons.append(below(f"{name}: |change of ln K|, widest against narrowest", sizes[1], sizes[0]))
        curves.append(curve(widths, changes, name))
        steps = study.size(STEPS, 10 * STEPS)
        small = trained(study, init_scale=SMALL, **settings | narrow | {"steps": LONGER * steps})
        large = trained(study, width=widths[0], init_scale=LARGE, **settings)
        comparisons += [
            above(f"{name}, small start: part of ln K by alignment", part(small, "alignment"), 0.0),
            above(f"{name}, small start: part of ln K by growth", part(small, "growth"), 0.0),
            below(f"{name}, large start: part of ln K by disalignment", part(large, "disalignment"), 0.0),
        ]
    panel = Panel(
        "width", "relative change of the kernel", tuple(curves), "NTK parameterisation", log_x=True, log_y=True
    )
    limits = (
        "two hidden layers; "
        + study.size("2000 of the 60 000 training images, the CNN on digits alone; ", "")
        + "grokking: claim telescoping"
    )
    return Finding(comparisons, limits, (panel,))


CLAIM = Claim(
    id="deep-networks",
    number=15,
    statement="The same in deep nonlinear networks on real tasks: in the kernel phase the kernel changes less with "
    "growing width; small initialisation aligns and grows, large initialisation disaligns.",
    source=MECHANISMS,
    criterion="Digits (MLP, CNN) and Fashion-MNIST (MLP; full: CNN), NTK parameterisation: the kernel change falls "
    "with a power of the width below -0.2 and ln K changes less in the widest than in the narrowest; at half of the "
    "initialisation the parts of ln K by alignment and by growth are positive; at 3 times, the part by disalignment "
    "is negative.",
    experiment="Networks with two hidden layers trained by mini-batches under the probe, 7 seeds, 16 of the narrowest "
    "(full: 8 of all); eight times the steps from the small start.",
    run=experiment,
    needs=("torch", "fashion-mnist"),
)
