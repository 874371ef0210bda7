"""What holds for every related model: one interface, the command, documents, refusals, and the rules of the house."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import featurephase as fp
from featurephase import related_models
from featurephase.cli.app import run
from featurephase.foundation.errors import InputError
from featurephase.related_models.agreement import agreement
from featurephase.related_models.base import Quantity, RelatedModel
from featurephase.related_models.registry import MODELS, model_class

mpl.use("Agg")
DOCS = Path(__file__).parents[2] / "docs" / "related"
#: Small simulations.
QUICK = {
    "relu-phase": {"gamma": 0.5, "widths": [8, 16], "loss": 0.05},
    "teacher-student": {"time": [0.0, 1.0], "dimension": 50},
    "receptive-fields": {"pixels": 8, "steps": 20, "batch": 10, "units": 2},
    "contrastive": {"units": 3, "time": [0.0, 1.0]},
    "three-layer": {"dimension": 8, "samples": [60, 120], "dimensions": [6, 8], "width": 30},
    "double-descent": {"samples": 30},
    "catapult": {"steps": 5},
}


def invoke(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_solved_and_simulated(name) -> None:
    result = fp.related(name, simulate=True, replicates=2, workers=1, **QUICK.get(name, {}))
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    for key in ("model", "phase", "validity", "boundaries", "parameters", "measured", "comparison", "citation"):
        assert key in document
    assert document["model"] == name
    kind = model_class(name)
    for quantities in (result.quantities, result.measured):
        for key, quantity in quantities.items():
            assert quantity.dims == kind.known[key][0]
            if not isinstance(quantity.value, str):
                assert np.ndim(quantity.value) == len(quantity.dims), key
    if kind.stochastic:
        assert document["replicates"] == 2
        stochastic = [k for k, v in (result.quantities | result.measured).items() if v.se is not None]
        assert stochastic
        for key in result.measured:
            assert result.measured[key].se is not None, key
    assert result.to_xarray().variables
    assert name in result.table()
    figure = result.figure()
    figure.canvas.draw()
    assert len(figure.axes) == len(result.panels) >= 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("catapult", {"width": 10**9}),
        ("double-descent", {"samples": 10**5, "ratio": 50.0}),
        ("three-layer", {"samples": [10**5]}),
    ],
)
def test_a_training_run_that_does_not_fit_in_memory_is_refused(name, parameters, monkeypatch) -> None:
    monkeypatch.setattr("featurephase.foundation.memory.available_memory", lambda: 2.0**34)
    with pytest.raises(InputError, match=r"a training run of this size needs .* of memory and 16 GiB are available"):
        model_class(name)(**parameters).simulate(0, 2, workers=1)


@pytest.mark.parametrize("name", MODELS)
def test_theory_alone_has_no_errors_and_no_seed(name) -> None:
    result = fp.related(name, **{k: v for k, v in QUICK.get(name, {}).items() if k not in ("loss",)})
    assert result.seed is None
    assert result.measured == {}
    assert result.agree is None
    assert all(q.se is None for q in result.quantities.values())


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = (
        fp.related("double-descent", simulate=True, seed=3, replicates=3, workers=1, samples=30) for _ in "ab"
    )
    assert first == second
    other = fp.related("double-descent", simulate=True, seed=4, replicates=3, workers=1, samples=30)
    assert other.measured["risk"].value != first.measured["risk"].value


@pytest.mark.parametrize("name", MODELS)
def test_the_command_and_its_help(name) -> None:
    code, out, err = invoke("related", name, "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == name
    parameters = json.loads(out)["parameters"]
    assert out.count("\n") == 1
    code, out, _ = invoke("related", name, "--help")
    assert code == 0
    for parameter in parameters:
        assert f"--{parameter.replace('_', '-')}" in out


CONTRACT = {  # flags -> keys of the document
    "catapult": ("--eta 1 --width 100 --f0 0.1 --lambda0 3 --steps 10", "f ntk ntk_limit phase"),
    "diagonal": ("--x 1,2,0.5,-1;0,1,-1,2 --y 1,0.7 --alpha 0.1 --depth 3", "beta limit_l1 limit_l2"),
    "balanced-linear": (
        "--w1 1,0;0,1 --w2 1,0;0,1 --sigma 1,0.5;0,0.8 --time 0.5 --time 1",
        "product gram1 gram2 lambda time",
    ),
    "relu-phase": ("--gamma 1.5 --gamma-prime -0.5", "regime"),
    "stepwise-ssl": ("--s0 0.001,0.01 --gamma 1,0.5 --time 0,1,inf", "s critical_time"),
    "double-descent": ("--ratio 2 --ridge 0.1 --signal 1 --noise 0.25", "bias variance risk"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_flags_and_keys_of_the_contract(name) -> None:
    flags, keys = CONTRACT[name]
    code, out, err = invoke("related", name, *flags.split(), "--json")
    assert code == 0, err
    assert set(keys.split()) <= set(json.loads(out))


def test_relu_phase_with_simulation_has_distances_and_slope() -> None:
    code, out, _ = invoke(
        "related", "relu-phase", "--gamma", 0.5, "--widths", "8,16", "--loss", 0.05, "--simulate", "--json"
    )
    document = json.loads(out)
    assert code == 0
    assert len(document["rd"]) == len(document["rd_se"]) == 2
    assert {"slope", "slope_se"} <= set(document)


def test_the_list() -> None:
    code, out, _ = invoke("related")
    assert code == 0
    assert all(name in out for name in MODELS)
    code, out, _ = invoke("related", "--json")
    assert [m["name"] for m in json.loads(out)["models"]] == list(MODELS)


def test_figure_and_data(tmp_path) -> None:
    figure, data = tmp_path / "x.png", tmp_path / "x.nc"
    code, _, err = invoke("related", "catapult", "--figure", figure, "--save", data, "--quiet")
    assert code == 0, err
    assert figure.stat().st_size > 1000
    import xarray

    with xarray.open_dataset(data, engine="h5netcdf") as back:
        assert back["ntk"].dims == ("step",)
        assert back.attrs["phase"] == "catapult"
        assert json.loads(back.attrs["parameters"])["lambda0"] == 3.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("related nothing", "no related model 'nothing'; accepted: catapult"),
        ("related catapul", "did you mean 'catapult'"),
        ("related catapult --eta -1", "eta = -1.0: must be a finite number > 0 (step size of gradient descent)"),
        ("related catapult --eta nan", "eta = nan: must be a finite number > 0"),
        ("related catapult --width 2.5", "width"),
        ("related catapult --f0 100", "at most sqrt(width) lambda0 / 2 = 15"),
        ("related diagonal --x 1,2;3", "must have as many numbers as the first"),
        ("related diagonal --y 1,a", "--y 'a'"),
        ("related balanced-linear --w1 1,0;0,1 --w2 1,1;0,1", "the solution holds for W2'W2 - W1 W1' = lambda I"),
        ("related stepwise-ssl --start generic --s0 0.1 --gamma 1,0.97 --draw 1", "eigenvalues further apart"),
        ("related catapult --replicates 1 --simulate", "replicates = 1: must be a whole number >= 2"),
        ("related catapult --seed -1 --simulate", "seed = -1: must be a whole number >= 0"),
        ("related --json catapult", "flags of a model come after its name"),
    ],
)
def test_bad_input(arguments, words) -> None:
    code, out, err = invoke(*arguments.split())
    assert code == 2
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_a_limit_that_is_not_reached_is_exit_3() -> None:
    code, out, err = invoke("related", "catapult", "--lambda0", "2.000000001", "--f0", "1e-7", "--json")
    assert code == 3
    assert json.loads(out)["ntk_limit"] == "nan"
    assert "still moves" in err


def test_python_errors() -> None:
    with pytest.raises(InputError, match="unknown parameter 'etta'; did you mean 'eta'"):
        fp.related("catapult", etta=1.0)
    with pytest.raises(InputError, match="which related model"):
        fp.related(eta=1.0)
    with pytest.raises(InputError, match=r"replicates = 2\.5"):
        fp.related("catapult", simulate=True, replicates=2.5)


def test_agreement_can_fail() -> None:
    theory = Quantity(np.array([1.0, 2.0]), ("time",), None, 0.1)
    close = Quantity(np.array([1.05, 2.0]), ("time",), np.array([0.0, 0.0]))
    far = Quantity(np.array([1.0, 2.5]), ("time",), np.array([0.01, 0.01]))
    noisy = Quantity(np.array([1.0, 2.5]), ("time",), np.array([0.2, 0.2]))
    lost = Quantity(np.array([1.0, np.nan]), ("time",), np.array([0.2, np.nan]))
    verdicts = [agreement("x", theory, found, 8).agree for found in (close, far, noisy, lost)]
    assert verdicts == [True, False, True, False]
    worst = agreement("x", theory, far, 8)
    assert (worst.theory, worst.simulation, worst.difference) == (2.0, 2.5, 0.5)


def test_nothing_is_compared_where_the_theory_says_nothing() -> None:
    theory = Quantity(np.array([1.0, np.nan]), ("time",), None, 0.1)
    near = Quantity(np.array([1.05, 7.0]), ("time",), np.array([0.0, 0.0]))
    verdict = agreement("x", theory, near, 8)
    assert verdict.agree
    assert verdict.theory == 1.0


@pytest.mark.parametrize(("mean", "same", "agree"), [(0.99, 1.0, True), (1e-3, 0.0, True), (0.4, 1.0, False)])
def test_runs_that_all_find_the_same_fraction(mean, same, agree) -> None:
    """With 8 runs a probability of 0.4 gives 1 every time once in 1500."""
    theory, found = Quantity(mean), Quantity(same, (), 0.0)
    assert agreement("x", theory, found, 8, fraction=True).agree is agree
    assert not agreement("x", theory, found, 8).agree


def test_a_wrong_theory_is_found_out(monkeypatch) -> None:
    """The comparison is not decoration: a kernel that is a per mille off disagrees."""
    from featurephase.related_models import catapult

    exact = catapult.trajectory
    monkeypatch.setattr(catapult, "trajectory", lambda x, c, steps: tuple(1.001 * v for v in exact(x, c, steps)))
    assert fp.related("catapult", simulate=True, replicates=2, workers=1).agree is False


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_its_page(name) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    numbers = re.findall(r"arXiv:(\d+\.\d+)", model_class(name).citation)
    assert all(number in page for number in numbers)
    assert f"featurephase related {name}" in page
    assert "```python" in page


def test_no_file_is_longer_than_300_lines_and_every_model_is_in_the_table() -> None:
    folder = Path(related_models.__file__).parent
    for path in folder.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path.name
    for name in MODELS:
        assert issubclass(model_class(name), RelatedModel)
        assert model_class(name).name == name
    assert len(MODELS) == 10


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("catapult", {"eta": 1e-308}),
        ("catapult", {"lambda0": 1e308}),
        ("stepwise-ssl", {"gamma": [1e308]}),
        ("balanced-linear", {"sigma": [[1e200, 0.0], [0.0, 1.0]]}),
        ("three-layer", {"hermite": [0.0]}),
        ("receptive-fields", {"gain": 1e-100}),
    ],
)
def test_numbers_whose_squares_leave_floating_point_are_refused(name, values) -> None:
    with pytest.raises(InputError):
        fp.related(name, **values)


def test_sample_sizes_that_are_never_enough_are_said() -> None:
    run = fp.related("three-layer", hermite=[1.0, 2.0])
    assert run.status == "undetermined"
    assert "no exponent" in run.message
    assert np.isinf(run.quantities["half"].value[0])
    assert "exponent" not in run.quantities


@pytest.mark.parametrize(
    ("name", "values"),
    [("stepwise-ssl", {"time": [2.0]}), ("balanced-linear", {"time": [2.0]}), ("teacher-student", {"time": [5.0]})],
)
def test_a_figure_shows_the_way_to_the_time_asked_for(name, values) -> None:
    curve = fp.related(name, **values).panels[0].curves[0]
    assert len(curve.x) > 100
    assert curve.x[0] == 0.0
    assert curve.x[-1] == values["time"][0]


def test_a_figure_at_infinity_alone_is_the_start() -> None:
    assert fp.related("stepwise-ssl", time=[np.inf]).panels[0].curves[0].x.tolist() == [0.0]
