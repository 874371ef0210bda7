"""The problem as a value: what is accepted, that it cannot change, that its file gives it back exactly."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurephase.cli.templates import read_template, template_names
from featurephase.foundation.errors import InputError
from featurephase.functions import activation, link, loss
from featurephase.problem import (
    ACCEPTED,
    Asymptotics,
    GradientDescent,
    Problem,
    Run,
    Student,
    Teacher,
    ThresholdSearch,
    load,
)

MINIMAL = """
[teacher]
latent_dim = 2
link = "tanh(g1)"
[student]
activation = "gelu"
readout = [1, -0.5]
[loss]
name = "squared"
[training]
step_size = 1
steps = 7
"""


@pytest.fixture
def problem() -> Problem:
    return Problem.from_toml(MINIMAL)


# -- the file --


def test_every_other_key_defaults_to_the_value_of_the_contract(problem: Problem) -> None:
    assert problem.title == ""
    assert problem.teacher.easy_basis is None
    assert problem.training == GradientDescent(step_size=1.0, steps=7, weight_decay=0.0)
    assert problem.asymptotics == Asymptotics(samples=100_000, replicates=8, seed=0)
    assert problem.threshold == ThresholdSearch(delta_range=(0.05, 1000.0), max_steps=5000)
    assert problem.run == Run(delta=(), times=None)
    np.testing.assert_array_equal(problem.student.init_gram, np.eye(2))
    np.testing.assert_array_equal(problem.student.init_overlap, np.zeros((2, 2)))


@pytest.mark.parametrize("key", ["latent_dim", "link", "activation", "readout", "name", "step_size", "steps"])
def test_required_keys_are_required(key: str) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(f"{key} ="))
    with pytest.raises(InputError, match=key):
        Problem.from_toml(text)


@pytest.mark.parametrize("table", ["teacher", "student", "loss", "training"])
def test_required_tables_are_required(table: str) -> None:
    parts = [part for part in MINIMAL.split("\n[") if part.strip() and not part.startswith(table)]
    with pytest.raises(InputError, match=rf"\[{table}\] is missing"):
        Problem.from_toml("".join(f"\n[{part}" for part in parts))


@pytest.mark.parametrize("name", template_names())
def test_templates_load_and_round_trip(name: str, tmp_path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(read_template(name), encoding="utf-8")
    problem = load(path)
    assert problem.title
    assert problem.run.delta, "a template must run without flags"
    assert Problem.from_toml(problem.to_toml()) == problem


def test_templates_are_the_problems_they_are_named_after() -> None:
    one, two, staircase = (
        Problem.from_toml(read_template(name)) for name in ("one-neuron", "two-neurons", "staircase")
    )
    # theory/thresholds, and Dandi et al. in theory/dynamics
    assert (one.training.step_size, one.student.activation.name) == (0.8, "gelu")
    np.testing.assert_array_equal(two.student.init_gram, [[1, 0.3], [0.3, 0.73]])
    np.testing.assert_array_equal(two.student.readout, [1, 1.2])
    assert (two.training.step_size, two.training.steps, two.run.delta) == (0.5, 20, (24.0,))
    np.testing.assert_array_max_ulp(staircase.student.readout, np.array([1, -1]) / math.sqrt(2))
    assert (staircase.training.step_size, staircase.run.delta, staircase.run.times) == (0.6, (3.0,), ())


def test_file_may_start_with_a_byte_order_mark_and_use_dotted_keys() -> None:
    flat = 'teacher = {latent_dim = 1, link = "g1"}\nloss.name = "squared"\n'
    flat += "training = {step_size = 1, steps = 0}\n"
    flat += 'student.activation = "relu"\nstudent.readout = [1]\n'
    assert Problem.from_toml("\ufeff" + flat).teacher.latent_dim == 1


finite = st.floats(-1e3, 1e3, allow_nan=False).filter(lambda x: abs(x) > 1e-9)
positive = st.floats(1e-6, 1e6)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    k, m = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = rng.standard_normal((k + m, m)) / math.sqrt(k + m)
    start = draw(
        st.sampled_from(
            [
                {},
                {"init_norm": draw(st.one_of(st.just(0.0), st.floats(1e-9, 10)))},
                {"init_gram": vectors.T @ vectors},
                {"init_gram": vectors.T @ vectors, "init_overlap": vectors[:k]},
            ]
        )
    )
    same = draw(st.booleans())
    steps = draw(st.integers(0, 1000))
    return Problem(
        title=draw(st.text(st.characters(codec="utf-8"), max_size=30)),
        teacher=Teacher(
            k,
            draw(st.sampled_from(["g1", "tanh(g1)*e1 + u2", "sign(g1)"])),
            draw(st.sampled_from([None, rng.standard_normal((k, 1)), np.eye(k)])),
        ),
        student=Student(
            draw(st.sampled_from(["gelu", "relu", "h**2"])),
            [draw(finite)] * m if same else [draw(finite) for _ in range(m)],
            **start,
        ),
        loss=draw(st.sampled_from([loss("squared"), loss(expression="log(1 + (y - f)**2)")])),
        training=GradientDescent(draw(positive), steps, draw(st.floats(0, 10))),
        asymptotics=Asymptotics(
            draw(st.integers(100, 10**9)), draw(st.integers(2, 99)), draw(st.integers(0, 2**63 - 1))
        ),
        threshold=ThresholdSearch((draw(st.floats(1e-9, 1)), draw(st.floats(1.5, 1e6)))),
        run=Run(
            draw(st.lists(positive, max_size=4)),
            draw(st.one_of(st.none(), st.lists(st.integers(0, steps), max_size=4))),
        ),
    )


@settings(max_examples=40, deadline=None)
@given(problems())
def test_any_problem_round_trips_exactly(problem: Problem) -> None:
    text = problem.to_toml()
    again = Problem.from_toml(text)
    assert again == problem
    assert hash(again) == hash(problem)
    assert again.to_toml() == text
    assert problem.replace() == problem


def test_equal_readouts_are_written_short(problem: Problem) -> None:
    wide = problem.replace(student={"readout": {"width": 32, "value": 0.03125}})
    assert "readout = {width = 32, value = 0.03125}" in wide.to_toml()
    assert wide.student.width == 32
    assert set(wide.student.readout) == {0.03125}


@pytest.mark.parametrize("norm", [0.0, 0.1, 1 / 3, 1e-7, 123.456])
def test_init_norm_survives_being_kept_as_a_gram_matrix(norm: float) -> None:
    student = Student("tanh", [1.0, 1.0], init_norm=norm)
    np.testing.assert_array_equal(student.init_gram, norm * norm * np.eye(2))
    assert student._init == {"init_norm": norm}


# -- values --


def test_nothing_can_be_changed(problem: Problem) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.title = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.student.readout = np.ones(2)  # type: ignore[misc]
    teacher = Teacher(2, "g1", [[3.0], [4.0]])
    assert teacher.easy_basis is not None
    for array in (
        problem.student.readout,
        problem.student.init_gram,
        problem.student.init_overlap,
        teacher.easy_basis,
    ):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


def test_arrays_given_are_copied() -> None:
    readout = np.array([1.0, 2.0])
    student = Student("tanh", readout)
    readout[0] = 5
    assert student.readout[0] == 1


def test_a_problem_travels_to_another_process(problem: Problem) -> None:
    copy = pickle.loads(pickle.dumps(problem))
    assert copy == problem
    assert hash(copy) == hash(problem)
    assert not copy.student.readout.flags.writeable


def test_equality_is_by_content(problem: Problem) -> None:
    assert problem == Problem.from_toml(MINIMAL)
    assert problem != problem.replace(training={"steps": 8})
    assert problem != problem.replace(student={"readout": [1, -0.25]})
    assert problem != "problem"


@pytest.mark.parametrize(
    "variant",
    [
        {"optimiser": "heavy-ball", "momentum": 0.9},
        {"optimiser": "nesterov", "momentum": 0.5, "warmup": 2},
        {"batch_fraction": 0.333333, "batches": "reshuffled"},
        {"batch_fraction": 1 / 7, "batches": "one-pass"},
        {"schedule": "cosine", "schedule_final": 0.1},
        {"schedule": "power", "schedule_exponent": 1.0, "schedule_time": 3.5},
        {"gradient_scaling": "clip", "clip_norm": 2.5},
        {"gradient_scaling": "orthogonalise"},
    ],
)
def test_variants_of_training_round_trip(problem: Problem, variant: dict[str, object]) -> None:
    changed = problem.replace(training=variant)
    assert changed != problem
    assert Problem.from_toml(changed.to_toml()) == changed
    assert changed.replace() == changed


def test_fractions_in_decimals_are_fractions(problem: Problem) -> None:
    third = problem.replace(training={"batch_fraction": 0.3333}).training
    assert (third.batch_fraction, third.batch_count) == (1 / 3, 3)


def test_excluded_optimisers_are_refused_with_the_reason(problem: Problem) -> None:
    with pytest.raises(InputError, match="rotation-invariant"):
        problem.replace(training={"optimiser": "Adam"})
    with pytest.raises(InputError, match="batch_fraction"):
        problem.replace(training={"batch_size": 32})


def test_easy_basis_is_made_orthonormal_and_keeps_its_span() -> None:
    given_basis = np.array([[1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    basis = Teacher(3, "g1", given_basis).easy_basis
    assert basis is not None
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(basis @ (basis.T @ given_basis), given_basis, atol=1e-14)
    np.testing.assert_array_equal(Teacher(3, "g1", basis).easy_basis, basis)
    nothing_easy = Teacher(2, "g1*g2", [[], []]).easy_basis
    assert nothing_easy is not None
    assert nothing_easy.shape == (2, 0)


def test_functions_may_be_given_as_text_or_as_objects() -> None:
    by_text = Problem(
        teacher=Teacher(1, "g1"),
        student=Student("gelu", [1.0]),
        loss="squared",
        training=GradientDescent(0.1, 2),
    )
    by_object = Problem(
        teacher=Teacher(1, link("g1", 1)),
        student=Student(activation("gelu"), np.array([1])),
        loss=loss("squared"),
        training=GradientDescent(np.float64(0.1), np.int64(2)),
    )
    assert by_text == by_object
    assert type(by_object.training.steps) is int
    with pytest.raises(InputError, match="2 latent coordinates"):
        Teacher(1, link("g1", 2))


def test_times_are_kept_ascending_without_repetition() -> None:
    assert Run(times=(5, 0, 5)).times == (0, 5)


# -- replace --


def test_replace_takes_keys_sections_and_objects(problem: Problem) -> None:
    assert problem.replace(**{"training.steps": 9}).training.steps == 9
    assert problem.replace(training={"steps": 9}) == problem.replace(**{"training.steps": 9})
    assert problem.replace(training=GradientDescent(1.0, 9)) == problem.replace(training={"steps": 9})
    assert problem.replace(loss="huber").loss == loss("huber")
    assert problem.replace(**{"loss.expression": "(y - f)**2"}).loss == loss(expression="(y - f)**2")
    assert problem.replace(title="new").title == "new"


def test_replace_keeps_a_default_start_when_sizes_change(problem: Problem) -> None:
    wider = problem.replace(**{"student.readout": [1, 2, 3], "teacher.latent_dim": 3})
    np.testing.assert_array_equal(wider.student.init_gram, np.eye(3))
    assert wider.student.init_overlap.shape == (3, 3)
    assert wider.teacher.link.latent_dim == 3


def test_replace_lets_exclusive_keys_take_each_others_place(problem: Problem) -> None:
    gram = [[2.0, 0.5], [0.5, 1.0]]
    changed = problem.replace(student={"init_gram": gram})
    np.testing.assert_array_equal(changed.student.init_gram, gram)
    back = changed.replace(**{"student.init_norm": 3})
    np.testing.assert_array_equal(back.student.init_gram, 9 * np.eye(2))


def test_replace_refuses_what_is_unknown_or_does_not_fit(problem: Problem) -> None:
    for changes, message in (
        ({"training.stepz": 3}, "did you mean 'steps'"),
        ({"trainin": {"steps": 3}}, "did you mean 'training'"),
        ({"steps": 3}, r"belongs in \[training\]"),
        ({"run": {"times": [8]}}, "beyond the last step"),
        ({"student.readout": [1, 2], "student.init_gram": [[1.0]]}, "init_gram"),
    ):
        with pytest.raises(InputError, match=message):
            problem.replace(**changes)


def test_quick_runs_a_tenth_of_the_samples(problem: Problem) -> None:
    assert problem.quick().asymptotics == Asymptotics(samples=10_000)
    assert problem.replace(asymptotics={"samples": 150}).quick().asymptotics.samples == 100


# -- what is refused --


def training(**changes: object) -> GradientDescent:
    return GradientDescent(0.5, 3, **changes)  # type: ignore[arg-type]


REFUSED = [
    ("teacher.latent_dim", lambda v: Teacher(v, "g1"), [0, 65, 1.0, True, "1", None, math.nan]),
    ("teacher.link", lambda v: Teacher(1, v), ["", 3, "g2", "tanh(", "nope(g1)", None]),
    (
        "teacher.easy_basis",
        lambda v: Teacher(2, "g1", v),
        [
            [1.0, 0.0],
            [[1.0]],
            [[1.0, 2.0], [2.0, 4.0]],
            [[0.0], [0.0]],
            [["a"], ["b"]],
            [[1, 0, 0], [0, 1, 0]],
        ],
    ),
    ("student.activation", lambda v: Student(v, [1.0]), ["gleu", "", 1, "h +", "g1"]),
    (
        "student.readout",
        lambda v: Student("gelu", v),
        [
            [],
            1.0,
            [0.0, 0.0],
            [True],
            [math.inf],
            [[1.0], [1.0, 2.0]],
            [[]],
            [[0.0, 0.0]],
            ["1"],
            {"width": 2},
            {"width": 0, "value": 1.0},
            [10**400],
        ],
    ),
    ("student.bias", lambda v: Student("gelu", [1.0, 1.0], bias=v), [[1.0], "0", [math.nan, 0.0], [[0.0, 0.0]]]),
    (
        "student.output_bias",
        lambda v: Student("gelu", [[1.0, 1.0]], output_bias=v),
        [[1.0], [0.0] * 3, None, math.inf],
    ),
    ("teacher.classes", lambda v: Teacher(1, classes=v, logits=["g1", "0"]), [1, 65, 2.5, "two", True]),
    ("teacher.logits", lambda v: Teacher(1, classes=2, logits=v), ["g1", [], ["g1", 1], ["g2", "0"], [["g1"], "0"]]),
    ("teacher.decision", lambda v: Teacher(1, classes=2, logits=["g1", "0"], decision=v), ["max", "", 1]),
    *(
        (
            f"training.{part}_{key}",
            lambda v, name=f"{part}_{key}": GradientDescent(0.5, 1, **{name: v}),
            [-1, "1", math.nan],
        )
        for part in ("readout", "bias", "output_bias")
        for key in ("step_size", "decay")
    ),
    *(
        (f"training.{part}_decay", lambda v, name=f"{part}_decay": GradientDescent(0.5, 1, **{name: v}), [0.1])
        for part in ("readout", "bias", "output_bias")
    ),
    (
        "student.init_gram",
        lambda v: Student("gelu", [1.0, 1.0], v),
        [[[1.0]], [1.0, 1.0], [[1, 2], [2, 1]], [[1, 0.5], [0.4, 1]], [[1, math.nan], [math.nan, 1]]],
    ),
    ("student.init_norm", lambda v: Student("gelu", [1.0], init_norm=v), [-1, math.inf, "1", False]),
    (
        "student.init_overlap",
        lambda v: Student("gelu", [1.0, 1.0], None, v),
        [[[1.0]], [[1.1, 0.0]], [[0.8, 0.8]], [0.1, 0.1], [[math.nan, 0.0]]],
    ),
    (
        "training.step_size",
        lambda v: GradientDescent(v, 1),
        [0, -1, math.inf, math.nan, "1", True, None, 10**400],
    ),
    ("training.steps", lambda v: GradientDescent(1.0, v), [-1, 1.0, 10**6 + 1, "3", True, 10**5000]),
    ("training.weight_decay", lambda v: GradientDescent(1.0, 1, v), [-0.1, math.nan, "0"]),
    ("training.optimiser", lambda v: training(optimiser=v), ["adam", "SGD", "", 1, ["nesterov"], "signsgd"]),
    ("training.momentum", lambda v: training(optimiser="nesterov", momentum=v), [0, 1, -0.5, math.nan, "0.9"]),
    ("training.momentum", lambda v: training(momentum=v), [0.9]),
    (
        "training.batch_fraction",
        lambda v: training(batch_fraction=v),
        [0, 0.4, 1.1, -1, math.nan, 1e-310, 9e-5, "1/2", True],
    ),
    ("training.batches", lambda v: training(batches=v), ["", "random", 3, None]),
    ("training.schedule", lambda v: training(schedule=v), ["linear", 0.5, None]),
    ("training.schedule_final", lambda v: training(schedule="cosine", schedule_final=v), [-0.1, 1.5, math.nan]),
    ("training.schedule_exponent", lambda v: training(schedule="power", schedule_exponent=v), [-1, math.inf]),
    ("training.schedule_time", lambda v: training(schedule="power", schedule_time=v), [0, -1, "1"]),
    ("training.warmup", lambda v: training(warmup=v), [-1, 1.0, 10**7]),
    ("training.gradient_scaling", lambda v: training(gradient_scaling=v), ["sign", 1, ""]),
    ("training.clip_norm", lambda v: training(gradient_scaling="clip", clip_norm=v), [0, -1, math.inf, math.nan, "1"]),
    ("training.clip_norm", lambda v: training(clip_norm=v), [1.0, math.nan]),
    ("asymptotics.samples", lambda v: Asymptotics(samples=v), [99, 1e5, 10**10]),
    ("asymptotics.replicates", lambda v: Asymptotics(replicates=v), [1, 0, 2.0]),
    ("asymptotics.seed", lambda v: Asymptotics(seed=v), [-1, 2**63, 0.5, None]),
    (
        "threshold.delta_range",
        lambda v: ThresholdSearch(delta_range=v),
        [(0, 1), (2, 1), (1, 1), (1,), (1, 2, 3), (1, math.inf), 3, "ab"],
    ),
    ("threshold.max_steps", lambda v: ThresholdSearch(max_steps=v), [0, 1.5, 10**7]),
    ("run.delta", lambda v: Run(delta=v), [[0.0], [-1.0], [math.nan], [math.inf], [1e308], "4", ["4"], [[4.0]]]),
    ("run.times", lambda v: Run(times=v), [[-1], [1.0], [True], -3, "3", ["3"], [[3]]]),
]


@pytest.mark.parametrize(
    ("key", "make", "value"),
    [
        pytest.param(key, make, value, id=f"{key}-{i}")
        for key, make, values in REFUSED
        for i, value in enumerate(values)
    ],
)
def test_refusals_name_the_key(key: str, make, value: object) -> None:
    with pytest.raises(InputError) as caught:
        make(value)
    assert key in str(caught.value)
    assert len(str(caught.value)) < 800


def test_every_key_is_tested_for_refusals() -> None:
    assert {key for key, _, _ in REFUSED} == {k for k in ACCEPTED if k != "title" and not k.startswith("loss.")}


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "experiment-file.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert rows == {key.rpartition(".")[2] for key in ACCEPTED}


def test_title_must_be_writable() -> None:
    problem = Problem.from_toml(MINIMAL)
    for title in ("x" * 501, 3, None, "half \ud800 a pair"):
        with pytest.raises(InputError, match="title"):
            problem.replace(title=title)
    nasty = 'quote " backslash \\ tab \t newline \n escape \x1b \x7f é'
    assert Problem.from_toml(problem.replace(title=nasty).to_toml()).title == nasty


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"teacher.link": "log(g1)"}, "teacher.link"),
        ({"student.activation": "sqrt(h)"}, "student.activation"),
        (
            {"student.activation": "exp(h**4)"},
            "student.activation",
        ),  # finite near 0, not where samples can be
        ({"loss.expression": "log(y - f)"}, "loss"),
        ({"loss.expression": "sqrt(abs(y - f) - 0.001)"}, "loss"),
    ],
)
def test_functions_must_be_finite_on_samples(problem: Problem, changes: dict[str, str], key: str) -> None:
    with pytest.raises(InputError, match=rf"{key}.*finite"):
        problem.replace(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher.link": "1e-40*g1", "loss.name": "pseudo_huber"}, "the response reaches .*: teacher.link"),
        ({"teacher.link": "1e200*g1", "loss.name": "pseudo_huber"}, "the response reaches .*1e-30 to 1e.30"),
        ({"student.readout": [1e-40]}, "gradient of the loss in a pre-activation.*what sets it: student.readout"),
        ({"student.readout": [1e250], "loss.name": "pseudo_huber"}, r"gradient of the loss .*reaches 1.*e\+250"),
        ({"student.init_norm": 1e-50, "student.activation": "h**2"}, "gradient of the loss .*must be 0 or 1e-30 to 1e"),
    ],
)
def test_numbers_must_fit_into_single_precision(problem: Problem, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        problem.replace(**({"student.readout": [1.0]} | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"student.init_norm": 0.0, "student.activation": "h**2"},  # a saddle: the gradient vanishes
        {"student.readout": [1e-20]},
        {"student.readout": [1e20], "loss.name": "pseudo_huber"},
    ],
)
def test_small_and_large_numbers_are_fine(problem: Problem, changes: dict[str, object]) -> None:
    assert problem.replace(**({"student.readout": [1.0]} | changes)).student.width == 1


@pytest.mark.parametrize(
    "changes",
    [
        # y = g1^2 >= 0 and f > 0: never on the singularity, which lies elsewhere
        {"loss.expression": "(y - f)**2/(2*(1 + y + f))", "student.activation": "h**2", "student.readout": [1]},
        {"loss.expression": "f - y*log(f)", "student.activation": "softplus", "student.readout": [1]},
        {"loss.name": "phase_retrieval", "student.activation": "h**2"},
    ],
)
def test_functions_need_be_finite_only_where_there_are_samples(problem: Problem, changes: dict[str, object]) -> None:
    assert problem.replace(**{"teacher.link": "g1**2"} | changes).student.width


def test_start_must_exist() -> None:
    with pytest.raises(InputError, match="positive semidefinite"):
        Student("gelu", [1.0, 1.0], [[1.0, 0.9], [0.9, 1.0]], [[0.9, -0.9]])
    Student("gelu", [1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]])  # exactly on the boundary


def test_init_gram_and_init_norm_exclude_each_other() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        Student("gelu", [1.0], [[1.0]], init_norm=1.0)


def test_sections_cannot_be_confused_with_other_files() -> None:
    with pytest.raises(InputError, match="featurephase sweep"):
        Problem.from_toml(MINIMAL + "\n[[axis]]\nkey = 'a'\n")
    with pytest.raises(InputError, match="featurephase latent"):
        Problem.from_toml(MINIMAL + "\n[latent]\nu = [1]\n")


def test_neurons_that_can_be_swapped() -> None:
    gram = np.eye(4) + 0.2
    assert Student("gelu", [1.0, 1.0, 0.5, 1.0], gram).exchangeable == ((0, 1, 3), (2,))
    gram[0, 1] = gram[1, 0] = 0.1  # swapping 0 and 1 still changes nothing, 0 and 3 would
    assert Student("gelu", [1.0] * 4, gram).exchangeable == ((0, 1), (2, 3))
    assert Student("gelu", [1.0] * 2, init_overlap=[[0.1, -0.1]]).exchangeable == ((0,), (1,))
