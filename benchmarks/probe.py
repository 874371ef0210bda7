"""What the probe costs, and first results on real tasks beside the predictions of theory/latent-phases.

    OMP_NUM_THREADS=1 python benchmarks/probe.py cost
    OMP_NUM_THREADS=1 python benchmarks/probe.py study --task digits --figure digits-study.png
    OMP_NUM_THREADS=1 python benchmarks/probe.py study --task fashion-mnist --figure fashion-study.png

`cost` trains on Fashion-MNIST under a probe with its defaults and prints the CPU seconds of either, told
apart within one run so that other load on the machine hits both. `study` trains one-hidden-layer networks
at several widths and initialisation scales, several seeds each.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from featurephase.present.figures import PALETTE, house_style, new_figure, write_figure
from featurephase.probe import Probe
from featurephase.probe.experiment import Experiment, run
from featurephase.probe.networks import build_network
from featurephase.probe.tasks import load_task

#: Per task: widths, scales, seeds, and the training.
STUDIES = {
    "digits": {
        "widths": (32, 64, 128, 256, 512, 1024),
        "scales": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        "seeds": 5,
        "steps": 1000,
    },
    "fashion-mnist": {
        "widths": (32, 128, 512),
        "scales": (0.03, 0.1, 0.3, 1.0, 3.0),
        "seeds": 3,
        "steps": 1500,
        "train_samples": 10000,
        "test_samples": 2000,
    },
}


def _train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> dict[str, float]:
    """CPU seconds that momentum SGD at batch size 64 and its probe take, told apart within one run."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    loss = nn.functional.cross_entropy
    generator = torch.Generator().manual_seed(0)
    clock = time.process_time
    begin = clock()
    probe = Probe(model, x[:32], y[:32], loss=loss, heldout=x[-32:])
    inside = clock() - begin
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            optimiser.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
            before = clock()
            probe.step()
            inside += clock() - before
    before = clock()
    probe.close()
    inside += clock() - before
    account = probe.result().cost
    return {
        "training": clock() - begin - inside,
        "probe": inside,
        "records": account.records,
        "stated_MiB": account.memory_bytes / 2**20,
    }


#: What `cost` trains.
NETWORKS = {
    "mlp": {"kind": "mlp", "depth": 2, "width": 256},
    "cnn": {"kind": "cnn", "depth": 2, "width": 16},
}


def cost(epochs: int, repeats: int, networks: list[str]) -> dict:
    """Slowdown of Fashion-MNIST trainings by a probe with its defaults."""
    task = load_task("fashion-mnist")
    x = torch.as_tensor(task.train_inputs, dtype=torch.float32)
    y = torch.as_tensor(task.train_labels)
    rows = {}
    for name in networks:
        options = NETWORKS[name]
        runs = []
        for _ in range(repeats):
            model, _ = build_network(inputs=784, outputs=10, image=task.image, **options)
            runs.append(_train(model, x, y, epochs))
        slowdowns = [100 * run["probe"] / run["training"] for run in runs]
        rows[name] = {"epochs": epochs, "slowdown_percent": statistics.median(slowdowns), "runs": runs}
    rows["peak_resident_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return rows


def _measure(experiments: Iterable[Experiment]) -> dict[str, float]:
    """Kernel change and kernel ratio at the end: means over seeds with standard errors (of the logarithm too)."""
    changes, ratios, verdicts = [], [], []
    for experiment in experiments:
        result = run(experiment)
        if not result.ok:
            print(f"{experiment}: {result.message}", file=sys.stderr)
            continue
        changes.append(result.kernel_change[-1])
        ratios.append(result.kernel_trace[-1] / result.kernel_trace[0])
        verdicts.append(result.outcome.get("test_accuracy", math.nan))
    n = len(changes)
    return {
        "change": float(np.mean(changes)),
        "change_se": float(np.std(changes, ddof=1) / math.sqrt(n)),
        "ratio": float(np.mean(ratios)),
        "ratio_se": float(np.std(ratios, ddof=1) / math.sqrt(n)),
        "accuracy": float(np.mean(verdicts)),
        "seeds": n,
    }


def _slope(x: list[float], points: list[dict[str, float]], key: str) -> tuple[float, float]:
    """Weighted least squares of log y on log x, with its standard error."""
    lx = np.log(x)
    ly = np.log([p[key] for p in points])
    weights = np.array([(p[key] / p[f"{key}_se"]) ** 2 for p in points])
    centre = (weights * lx).sum() / weights.sum()
    spread = (weights * (lx - centre) ** 2).sum()
    slope = float((weights * (lx - centre) * ly).sum() / spread)
    return slope, float(1 / math.sqrt(spread))


def study(task: str, figure: str | None, seeds: int | None) -> dict:
    """Kernel change against width (NTK and muP), kernel ratio against the initialisation's scale (NTK)."""
    plan = STUDIES[task]
    count = seeds or plan["seeds"]
    common = {k: plan[k] for k in ("train_samples", "test_samples") if k in plan}
    base = {"task": task, "depth": 1, "hessian": "none", "schedule": "logarithmic:2", "steps": plan["steps"], **common}
    widths, scales = list(plan["widths"]), list(plan["scales"])
    jobs = {("width", p, w): {"parameterisation": p, "width": w} for p in ("ntk", "mup") for w in widths}
    jobs |= {("scale", "ntk", s): {"parameterisation": "ntk", "width": 256, "init_scale": s} for s in scales}
    measured = {}
    for key, options in tqdm(jobs.items(), desc=task):
        measured[key] = _measure(Experiment(**base, **options, seed=seed) for seed in range(count))
    by_width = {p: [measured["width", p, w] for w in widths] for p in ("ntk", "mup")}
    by_scale = [measured["scale", "ntk", s] for s in scales]
    small = [i for i, s in enumerate(scales) if s <= 0.1]
    slopes = {
        "ntk_width": _slope(widths, by_width["ntk"], "change"),
        "ntk_width_widest_two": _slope(widths[-2:], by_width["ntk"][-2:], "change"),
        "mup_width": _slope(widths, by_width["mup"], "change"),
        "mup_width_widest_two": _slope(widths[-2:], by_width["mup"][-2:], "change"),
        "small_init": _slope([scales[i] for i in small], [by_scale[i] for i in small], "ratio"),
    }
    if figure:
        write_figure(_figure(task, widths, scales, by_width, by_scale, slopes), figure)
    report = {"task": task, "plan": plan, "slopes": slopes}
    report["measured"] = [{"axis": k[0], "parameterisation": k[1], "at": k[2], **v} for k, v in measured.items()]
    return report


def _figure(task, widths, scales, by_width, by_scale, slopes):
    """Points with two standard errors; dashed: the exponents of theory/latent-phases, through one measured point."""
    last, first = by_width["ntk"][-1]["change"], by_scale[0]["ratio"]
    w, s = np.array(widths, float), np.array(scales)
    flat = float(np.exp(np.mean(np.log([p["change"] for p in by_width["mup"]]))))
    panel_width = {
        "title": f"{task}: kernel change against width",
        "xlabel": "width",
        "ylabel": "relative kernel change",
        "points": [
            {
                "label": "{}: slope {:.2f} +- {:.2f} at the end".format(p, *slopes[f"{p}_width_widest_two"]),
                "x": widths,
                "y": [q["change"] for q in by_width[p]],
                "se": [q["change_se"] for q in by_width[p]],
            }
            for p in ("ntk", "mup")
        ],
        "predictions": [
            {"label": "theory, NTK: width^-1", "x": w, "y": last * (w / w[-1]) ** -1.0},
            {"label": "theory, muP: width^0", "x": w, "y": np.full(w.shape, flat)},
        ],
    }
    # K_inf/K_0 = sqrt(1 - rho_0^2 + sigma_*^2) with sigma_* ~ scale^-2, set by the smallest scale; rho_0^2 ~ 1/width.
    sigma = math.sqrt(max(first**2 - 1, 0.0)) * (s[0] / np.geomspace(s[0], s[-1], 60)) ** 2
    panel_scale = {
        "title": f"{task}: small and large initialisation",
        "xlabel": "scale of the initialisation",
        "ylabel": "kernel at the end / at the start",
        "points": [
            {
                "label": "ntk, width 256: slope {:.2f} +- {:.2f} (small)".format(*slopes["small_init"]),
                "x": scales,
                "y": [q["ratio"] for q in by_scale],
                "se": [q["ratio_se"] for q in by_scale],
            }
        ],
        "predictions": [
            {
                "label": "theory: sqrt(1 - 1/width + sigma^2), sigma ~ scale^-2",
                "x": np.geomspace(s[0], s[-1], 60),
                "y": np.sqrt(1 - 1 / 256 + sigma**2),
            }
        ],
    }
    return series_figure([panel_width, panel_scale])


@house_style()
def series_figure(panels: Sequence[Mapping[str, Any]], *, width: float = 9.5, height: float = 4.0) -> Figure:
    """Measured points with error bars against a parameter, and the prediction beside them.

    Parameters
    ----------
    panels
        One mapping per panel: ``title``, ``xlabel``, ``ylabel``, ``points`` (mappings ``label``, ``x``,
        ``y``, ``se``) and ``predictions`` (mappings ``label``, ``x``, ``y``).
    """
    figure = new_figure(width, height)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for colour, points in zip(PALETTE, panel["points"], strict=False):
            axes.errorbar(
                points["x"], points["y"], 2 * np.asarray(points["se"]), fmt="o", markersize=4, capsize=2,
                color=colour, label=points["label"],
            )  # fmt: skip
        for colour, line in zip(PALETTE, panel["predictions"], strict=False):
            axes.plot(line["x"], line["y"], "--", lw=1.2, color=line.get("color", colour), label=line["label"])
        axes.set(xscale="log", yscale="log", xlabel=panel["xlabel"], ylabel=panel["ylabel"], title=panel["title"])
        ticks = sorted({float(x) for points in panel["points"] for x in points["x"]})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.xaxis.minorticks_off()
        axes.legend(fontsize=8)
    return figure


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("cost")
    measure.add_argument("--epochs", type=int, default=10)
    measure.add_argument("--repeats", type=int, default=3)
    measure.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=sorted(NETWORKS))
    series = commands.add_parser("study")
    series.add_argument("--task", choices=sorted(STUDIES), default="digits")
    series.add_argument("--figure")
    series.add_argument("--seeds", type=int)
    given = parser.parse_args()
    if given.command == "cost":
        report = cost(given.epochs, given.repeats, given.networks)
    else:
        report = study(given.task, given.figure, given.seeds)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
