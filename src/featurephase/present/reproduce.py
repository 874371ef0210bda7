"""The command that makes a saved result again, from what the file says of its inputs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

import numpy as np

from featurephase.present.saved import SWEEP, Dataset, said

_FILE = "experiment.toml"
_OF_FILE = f"Save the experiment above as `{_FILE}`."
_UNKNOWN = "Its inputs are not all in the file: it was made in Python, or by an older version."


def commands(data: Dataset, kind: str) -> tuple[list[str], str]:
    """Lines for a shell, and what is to be done besides; no lines where the inputs are not all in the file."""
    known = {
        "Prediction": _predict,
        "Threshold": _threshold,
        "Explanation": _explain,
        "Simulation": _simulate,
        "Comparison": _compare,
        "LatentResult": _latent,
        "LatentPhaseResult": _latent_phase,
        "ParameterisationTable": _latent_phase,
        "RelatedResult": _related,
        "ProbeResult": _probe,
        SWEEP: _sweep,
    }
    words, note = known[kind](data) if kind in known else ([], _UNKNOWN)
    return ([shlex.join(["featurephase", *words])] if words else []), note


def _experiment(data: Dataset, command: str, flags: Iterable[str] = ()) -> tuple[list[str], str]:
    """A command that reads the experiment file; none where the file does not hold it."""
    return ([command, _FILE, *flags], _OF_FILE) if said(data, "experiment") else ([], _UNKNOWN)


def _predict(data: Dataset) -> tuple[list[str], str]:
    analysed = data.sizes.get("hessian_time", 0) > 0
    flags = [] if analysed else ["--no-hessian"]
    flags += [f"--time={t}" for t in data["hessian_time"].values] if analysed else []
    return _experiment(data, "predict", flags)


def _threshold(data: Dataset) -> tuple[list[str], str]:
    times = data["threshold_time"].values if "threshold_time" in data.coords else ()
    limit = ["--time=inf"] if "delta_nn_limit" in data.data_vars else []
    return _experiment(data, "threshold", [*(f"--time={t}" for t in times), *limit])


def _explain(data: Dataset) -> tuple[list[str], str]:
    dimension = said(data, "dimension")
    flags = [f"--delta={said(data, 'delta')}", *([f"--dimension={dimension}"] if dimension else [])]
    return _experiment(data, "explain", flags)


def _simulate(data: Dataset) -> tuple[list[str], str]:
    if "labels" in data.attrs or "dimension" not in data.data_vars:
        return [], _UNKNOWN
    flags = [f"--dimension={int(data['dimension'].values.flat[0])}", f"--seeds={said(data, 'replicates')}"]
    flags += [f"--method={said(data, 'method')}", f"--start={said(data, 'start')}"]
    flags += [f"--eigenvalues={data.sizes['eigenvalue']}"] if data.sizes.get("eigenvalue") else []
    return _experiment(data, "simulate", flags)


def _compare(data: Dataset) -> tuple[list[str], str]:
    dimensions = np.atleast_1d(data.attrs.get("dimensions", ()))
    flags = [*(f"--dimension={int(d)}" for d in dimensions), f"--seeds={said(data, 'replicates')}"]
    return _experiment(data, "compare", flags)


def _latent(data: Dataset) -> tuple[list[str], str]:
    if data["time"].values[0] != 0:
        return [], "The weights at time 0 are not in the file."
    names = ("eta_u", "eta_w", "second_moment", "cross_moment", "response_moment", "gamma", "loss_factor")
    flags = [_flag(name, data[name].values[0].tolist()) for name in ("u", "w")]
    flags += [_flag(name, data.attrs[name]) for name in names]
    return ["latent", *flags, _flag("time", data["time"].values.tolist())], ""


def _latent_phase(data: Dataset) -> tuple[list[str], str]:
    scaling = {str(k).removeprefix("scaling_"): v for k, v in data.attrs.items() if str(k).startswith("scaling_")}
    map_flags = [_flag(name, data.attrs[name]) for name in ("kappa", "replicates", "seed") if "kappa" in data.attrs]
    return ["latent-phase", *(_flag(name, value) for name, value in scaling.items()), *map_flags], ""


def _related(data: Dataset) -> tuple[list[str], str]:
    parameters = json.loads(said(data, "parameters") or "{}")
    flags = [_flag(name, value) for name, value in parameters.items() if value is not None]
    if said(data, "replicates"):
        flags += ["--simulate", f"--replicates={said(data, 'replicates')}", f"--seed={said(data, 'seed')}"]
    return ["related", said(data, "model"), *flags], ""


def _probe(data: Dataset) -> tuple[list[str], str]:
    setting = {str(k).removeprefix("setting_"): v for k, v in data.attrs.items() if str(k).startswith("setting_")}
    if not setting:
        return [], "It was made by a probe in a training loop of the user's."
    if setting.pop("automatic_step", "False") == "True":  # each replicate chooses its own
        setting.pop("step_size", None)
    flags = []
    for name, value in setting.items():
        word = str(value)
        if word in ("True", "False"):
            flags.append(f"--{'' if word == 'True' else 'no-'}{name.replace('_', '-')}")
        elif word not in ("None", "[]", "()", ""):
            flags.append(_flag(name, json.loads(word) if word.startswith("[") else word))
    return ["probe", *flags, f"--replicates={said(data, 'replicates')}", f"--seed={said(data, 'seed')}"], ""


def _sweep(data: Dataset) -> tuple[list[str], str]:
    note = "Save the sweep above as `sweep.toml` and its base, as `experiment.toml`, beside it."
    return ["sweep", "sweep.toml", "--store", "store"], note


def _flag(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')}={_word(value)}"


def _word(value: Any) -> str:
    """A value as the command line takes it: vectors with commas, rows with semicolons, numbers with all digits."""
    if isinstance(value, (list, tuple)):
        rows = bool(value) and isinstance(value[0], (list, tuple))
        return (";" if rows else ",").join(map(_word, value))
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)
