"""What the probe costs, and first results on real tasks beside the predictions of theory/latent-phases.

    OMP_NUM_THREADS=1 python benchmarks/probe.py cost
    OMP_NUM_THREADS=1 python benchmarks/probe.py speed
    OMP_NUM_THREADS=1 python benchmarks/probe.py study --task digits --figure digits-study.png
    OMP_NUM_THREADS=1 python benchmarks/probe.py study --task fashion-mnist --figure fashion-study.png

`speed` computes kernels and top Hessian eigenvalues beside torch.func's own recipe, hessian-eigenthings 1.0 and
curvlinops 3.0 (`pip install` them for it; what is not there is left out). `cost` trains on Fashion-MNIST under a probe
with its defaults and prints the CPU seconds of either, told apart within one run so that other load on the machine hits
both. `study` trains one-hidden-layer networks at several widths and initialisation scales, several seeds each.
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
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from featurephase.hessian.lanczos import extreme_pairs
from featurephase.present.figures import PALETTE, house_style, new_figure, write_figure
from featurephase.probe import Probe
from featurephase.probe.experiment import Experiment, run
from featurephase.probe.functional import TorchNetwork
from featurephase.probe.hessian import HessianOperator, Objective, Spectrum, eigenpairs
from featurephase.probe.kernel import exact_kernel
from featurephase.probe.networks import build_network
from featurephase.probe.tasks import load_task
from featurephase.probe.trees import Batch

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


class Transformer(nn.Module):
    """Two layers of causal self-attention on tokens, and the mean of the last hidden states read out."""

    def __init__(self, vocabulary: int = 64, width: int = 64, outputs: int = 10) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.embed = nn.Embedding(vocabulary, width)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(tokens)).mean(1))


def _speed_cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    mlp, _ = build_network("mlp", 784, 10, depth=2, width=256)
    cnn, _ = build_network("cnn", 784, 10, depth=2, width=16, image=(1, 28, 28))
    return {
        "mlp": (mlp, torch.randn(32, 784)),
        "cnn": (cnn, torch.randn(32, 784)),
        "transformer": (Transformer().eval(), torch.randint(0, 64, (32, 16))),
    }


def _kernel_by_recipe(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The recipe of torch.func's tutorial on neural tangent kernels: per-sample Jacobians, then contractions."""
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def single(values: dict[str, torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, values, (sample.unsqueeze(0),)).squeeze(0)

    with sdpa_kernel(SDPBackend.MATH):
        rows = torch.func.vmap(torch.func.jacrev(single), (None, 0))(parameters, x)
    flat = [value.flatten(2) for value in rows.values()]
    total = torch.stack([torch.einsum("nap,mbp->namb", j, j) for j in flat]).sum(0)
    return total.reshape(len(x) * total.shape[1], -1).numpy()


def _kernel_by_probe(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    network = TorchNetwork(model)
    with network.isolated():
        return exact_kernel(network, network.state(), Batch.of(x, "inputs"))


PRODUCTS = 30


def _top_by_probe(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    network = TorchNetwork(model, loss=nn.functional.cross_entropy)
    with network.isolated():
        operator = HessianOperator(network, network.state(), Objective([(Batch.of(x, "inputs"), y, 1.0)]))
        pairs, *_ = eigenpairs(operator, Spectrum(1, 1e-12, PRODUCTS))
    return float(pairs.values[-1])


def _top_by_eigenthings(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    import hessian_eigenthings as he

    operator = he.HessianOperator(model, [(x, y)], he.supervised_loss(nn.functional.cross_entropy))
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        found = he.lanczos(operator, k=1, max_iter=PRODUCTS, tol=1e-12, which="LA", reorthogonalize=True, seed=0)
    return float(found.eigenvalues[0])


def _top_by_curvlinops(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    from curvlinops import HessianLinearOperator

    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False)
    scipy_operator = operator.to_scipy()
    vector = np.random.default_rng(0).standard_normal(scipy_operator.shape[0]).astype(np.float32)
    start = vector / np.linalg.norm(vector)
    basis = np.empty((PRODUCTS, start.size), np.float32)  # the same Lanczos method around its products
    with sdpa_kernel(SDPBackend.MATH):
        pairs = extreme_pairs(scipy_operator.matvec, start, basis, 1, tolerance=1e-12, eps=1e-7)
    return float(pairs.values[-1])


def speed(repeats: int) -> dict:
    """CPU seconds (median over interleaved repeats) and the largest relative difference of the answers."""
    report: dict[str, Any] = {}
    for name, (model, x) in _speed_cases().items():
        y = torch.randint(0, 10, (len(x),), generator=torch.Generator().manual_seed(1))
        jobs: dict[str, dict[str, Any]] = {
            "kernel": {
                "probe": partial(_kernel_by_probe, model, x),
                "torch.func": partial(_kernel_by_recipe, model, x),
            },
            "top eigenvalue": {
                "probe": partial(_top_by_probe, model, x, y),
                "hessian-eigenthings": partial(_top_by_eigenthings, model, x, y),
                "curvlinops": partial(_top_by_curvlinops, model, x, y),
            },
        }
        for what, ways in jobs.items():
            report[f"{name}, {what}"] = _raced(ways, repeats)
    return report


def _raced(ways: dict[str, Any], repeats: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    answers: dict[str, Any] = {}
    for _ in range(repeats + 1):  # the first round warms up
        for way, compute in ways.items():
            begin = time.process_time()
            try:
                answers[way] = compute()
            except ImportError:
                continue
            seconds.setdefault(way, []).append(time.process_time() - begin)
    reference = answers["probe"]
    scale = float(np.abs(reference).max())
    return {
        way: {
            "seconds": statistics.median(taken[1:]),
            "difference": float(np.abs(answers[way] - reference).max()) / scale,
        }
        for way, taken in seconds.items()
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    race = commands.add_parser("speed")
    race.add_argument("--repeats", type=int, default=5)
    measure = commands.add_parser("cost")
    measure.add_argument("--epochs", type=int, default=10)
    measure.add_argument("--repeats", type=int, default=3)
    measure.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=sorted(NETWORKS))
    series = commands.add_parser("study")
    series.add_argument("--task", choices=sorted(STUDIES), default="digits")
    series.add_argument("--figure")
    series.add_argument("--seeds", type=int)
    given = parser.parse_args()
    if given.command == "speed":
        report = speed(given.repeats)
    elif given.command == "cost":
        report = cost(given.epochs, given.repeats, given.networks)
    else:
        report = study(given.task, given.figure, given.seeds)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
