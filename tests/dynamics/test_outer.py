"""Trained readouts and biases, several outputs: against plain loops, against the old numbers, and both finite laws."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate
from featurephase.dynamics.dense import run_dense
from featurephase.dynamics.implicit import run_implicit
from featurephase.dynamics.network import Network
from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.problem import GradientDescent, Problem, Student, Teacher

SEED = np.random.SeedSequence(3)
TRAINED = {"readout_step_size": 0.3, "bias_step_size": 0.2, "output_bias_step_size": 0.25}
DECAYS = {"readout_decay": 0.1, "bias_decay": 0.2, "output_bias_decay": 0.3, "weight_decay": 0.05}
RULES = {
    "gradient descent": DECAYS,
    "heavy ball": {"optimiser": "heavy-ball", "momentum": 0.5},
    "nesterov": {"optimiser": "nesterov", "momentum": 0.6} | DECAYS,
    "schedule": {"schedule": "power", "warmup": 2},
    "batches": {"batch_fraction": 0.25, "batches": "fixed"},
}


def three_classes(**training: object) -> Problem:
    return Problem(
        teacher=Teacher(2, classes=3, logits=["1.5*g1", "2*(g2**2 - 1)", "0"], easy_basis=[[1.0], [0.0]]),
        student=Student("gelu", [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], bias=[0.1, -0.2], output_bias=[0.0, 0.1, -0.1]),
        loss="cross_entropy",
        training=GradientDescent(**({"step_size": 1.5, "steps": 6} | TRAINED | training)),
    )


def vector(**training: object) -> Problem:
    return Problem(
        teacher=Teacher(2, ["g1 + 0.3*e1", "tanh(g2**2)"], easy_basis=[[1.0], [0.0]]),
        student=Student("tanh", [[1.0, 0.3], [-0.2, 0.8], [0.5, -0.5]]),
        loss="squared",
        training=GradientDescent(**({"step_size": 0.5, "steps": 6} | TRAINED | training)),
    )


def one_output(**training: object) -> Problem:
    return Problem(
        teacher=Teacher(1, "1.5*tanh(g1**2)", easy_basis=np.zeros((1, 0))),
        student=Student("gelu", [1.0, -0.5], bias=0.2, output_bias=-0.1),
        loss="squared",
        training=GradientDescent(**({"step_size": 0.6, "steps": 6} | TRAINED | training)),
    )


PROBLEMS = {"three classes": three_classes, "vector": vector, "one output": one_output}


# ---- a plain loop, written without the package


def _gelu(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
    return h * c, c + h * np.exp(-(h**2) / 2) / math.sqrt(2 * math.pi)


def plain_loop(x, y, theta, training, momentum, nesterov, steps, shares, rate_of):
    """Softmax cross-entropy of a GeLU network with all parameters trained; x (n, d), y one-hot (n, 3)."""
    parameters = [
        theta,
        np.array([[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]]),
        np.array([0.1, -0.2]),
        np.array([0, 0.1, -0.1]),
    ]
    previous = [p.copy() for p in parameters]
    rates = [
        training.step_size,
        *(TRAINED[k] for k in ("readout_step_size", "bias_step_size", "output_bias_step_size")),
    ]
    decays = [training.weight_decay, training.readout_decay, training.bias_decay, training.output_bias_decay]
    for t in range(steps):
        drift = [momentum * (p - q) for p, q in zip(parameters, previous, strict=True)]
        at = [p + v for p, v in zip(parameters, drift, strict=True)] if nesterov else parameters
        w, a, b, c = at
        s, slope = _gelu(x @ w + b)
        f = s @ a + c
        p = np.exp(f - f.max(axis=1, keepdims=True))
        r = (p / p.sum(axis=1, keepdims=True) - y) * shares(t)[:, None]
        back = (r @ a.T) * slope
        gradients = [x.T @ back, s.T @ r, back.sum(axis=0), r.sum(axis=0)]
        new = [
            q - rate_of(t) * eta * (g / len(x) + lam * q) + (0 if nesterov else v)
            for q, g, v, eta, lam in zip(at, gradients, drift, rates, decays, strict=True)
        ]
        previous, parameters = parameters, new
    return parameters


@pytest.mark.parametrize("name", RULES)
def test_dense_training_is_the_plain_loop(name: str) -> None:
    p = three_classes(**RULES[name])
    kept: dict[str, np.ndarray] = {}

    def keep(moment) -> None:
        kept.update(x=moment.design.matrix.copy(), y=moment.responses.copy(), theta=moment.weights.copy())

    run = run_dense(p, 48, 12, SEED, observers={0: keep})
    training = p.training

    def shares(t: int) -> np.ndarray:
        if training.batch_count == 1:
            return np.ones(48)
        from featurephase.dynamics.optimisers import BatchSequence

        batch_rng = np.random.default_rng(np.random.SeedSequence(3).spawn(5)[3])
        return BatchSequence(48, training.batch_count, False, batch_rng).weights(t)

    def rate(t: int) -> float:
        return (1 + t) ** -0.5 * (min(t + 1, 3) / 3) if training.schedule == "power" else 1.0

    one_hot = np.eye(3)[kept["y"].astype(int)]
    theta, a, b, c = plain_loop(
        kept["x"], one_hot, kept["theta"], training, training.momentum, name == "nesterov", 6, shares, rate
    )
    np.testing.assert_allclose(run.gram[6], theta.T @ theta, rtol=1e-10)
    np.testing.assert_allclose(run.readout[6], a, rtol=1e-10)
    np.testing.assert_allclose(run.bias[6], b, rtol=1e-10)
    np.testing.assert_allclose(run.output_bias[6], c, rtol=1e-10)
    f = _gelu(kept["x"] @ theta + b)[0] @ a + c
    assert run.train_accuracy[6] == np.mean(np.argmax(f, axis=1) == kept["y"])
    log_p = f - f.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(run.train_loss[6], -np.mean(np.sum(one_hot * log_p, axis=1)), rtol=1e-10)


# ---- identities


def _softmax_pair(loss: str, outputs: int, factor: float, batches: int) -> Problem:
    a = np.array([0.8, -0.6])
    two = outputs == 2
    return Problem(
        teacher=Teacher(2, classes=2, logits=["0", "2*g1 + g2**2 - 1"], easy_basis=[[1.0], [0.0]]),
        student=Student(
            "gelu",
            np.stack([-a / 2, a / 2], axis=1) if two else a,
            bias=[0.1, 0.3],
            output_bias=[-0.1, 0.1] if two else 0.2,
        ),
        loss=loss,
        training=GradientDescent(
            1.0,
            8,
            optimiser="nesterov",
            momentum=0.4,
            batch_fraction=1 / batches,
            readout_step_size=0.4 * factor,
            bias_step_size=0.2,
            output_bias_step_size=0.3 * factor,
        ),
    )


@pytest.mark.parametrize(
    ("run", "batches"),
    [(lambda p: run_replicate(p, 4.0, SEED, samples=3000), 2), (lambda p: run_implicit(p, 120, 30, SEED), 1)],
    ids=["limit", "finite"],
)
def test_two_classes_by_softmax_are_the_logistic_loss_of_one_output(run, batches: int) -> None:
    """f_1 - f_0 is the log-odds; its readout moves at twice the rate of each of the two.

    At finite size the order and the sign of new directions are those of a pivoted QR split, which round-off decides
    where samples are outside the batch (first numbers are 0) or a basis is made orthogonal again (norms are equal):
    there, no batches, and the steps before that.
    """
    steps = 9 if batches > 1 else 5
    softmax = run(_softmax_pair("cross_entropy", 2, 0.5, batches))
    for loss in ("binary_cross_entropy", "logistic"):
        one = run(_softmax_pair(loss, 1, 1.0, batches))
        for name in ("train_loss", "test_loss", "gram", "overlap", "bias", "train_accuracy", "test_accuracy"):
            np.testing.assert_allclose(
                getattr(softmax, name)[:steps], getattr(one, name)[:steps], rtol=1e-9, atol=1e-11, err_msg=name
            )
        np.testing.assert_allclose(np.diff(softmax.readout[:steps], axis=2), one.readout[:steps], rtol=1e-9)
        np.testing.assert_allclose(np.diff(softmax.output_bias[:steps], axis=1), one.output_bias[:steps], rtol=1e-9)


def test_rates_that_tend_to_zero_give_the_old_numbers() -> None:
    """The difference is of first order in the rate, and at rate 0 it is none at all."""

    def difference(rate: float) -> float:
        names = ("readout_step_size", "bias_step_size", "output_bias_step_size")
        p = Problem(
            teacher=Teacher(1, "1.5*tanh(g1**2)", easy_basis=np.zeros((1, 0))),
            student=Student("gelu", [1.0, -0.5]),
            loss="squared",
            training=GradientDescent(0.6, 6, **dict.fromkeys(names, rate)),
        )
        run = run_replicate(p, 4.0, SEED, samples=2000, accuracy=double)
        return float(np.max(np.abs(run.gram - old.gram)) + np.max(np.abs(run.train_loss - old.train_loss)))

    fixed = Problem(
        teacher=Teacher(1, "1.5*tanh(g1**2)", easy_basis=np.zeros((1, 0))),
        student=Student("gelu", [1.0, -0.5]),
        loss="squared",
        training=GradientDescent(0.6, 6),
    )
    double = PathAccuracy(tolerance=1e-8)
    old = run_replicate(fixed, 4.0, SEED, samples=2000, accuracy=double)
    assert old.readout is None
    assert difference(0.0) == 0.0
    assert difference(1e-4) / difference(1e-3) == pytest.approx(0.1, rel=0.05)
    assert difference(1e-4) > 1e-8


def test_equal_columns_are_one_output() -> None:
    """A vector response with one component 0 and no readout there is a problem of one output."""
    common = {"step_size": 0.5, "steps": 5, "bias_step_size": 0.2}
    one = Problem(
        teacher=Teacher(1, "tanh(2*g1)", easy_basis=[[1.0]]),
        student=Student("gelu", [1.0, 0.5], bias=0.1),
        loss="squared",
        training=GradientDescent(**common),
    )
    two = one.replace(teacher={"link": ["tanh(2*g1)", "0"]}, student={"readout": [[1.0, 0.0], [0.5, 0.0]]})
    a, b = (run_replicate(p, 3.0, SEED, samples=2000) for p in (one, two))
    np.testing.assert_allclose(a.gram, b.gram, rtol=1e-12)
    np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_curvature_is_the_derivative_of_the_gradient(name: str) -> None:
    p = PROBLEMS[name]()
    network, rng = Network.of(p), np.random.default_rng(0)
    h = rng.standard_normal((p.student.width, 9000))
    y = p.teacher.link.sample(rng.standard_normal((p.teacher.latent_dim, 9000)), rng)
    w = network.curvature(h, y)
    np.testing.assert_allclose(network.block_curvature(h, y), np.einsum("rrn->rn", w), rtol=1e-10, atol=1e-12)
    for r in range(p.student.width):
        step = np.zeros((p.student.width, 1))
        step[r] = 1e-5
        up, down = (network.losses_and_gradient(h + sign * step, y)[1] for sign in (1, -1))
        np.testing.assert_allclose(w[r], (up - down) / 2e-5, atol=1e-7)


def test_a_hit_is_the_first_largest_output() -> None:
    """Against argmax, with ties of two and of all outputs."""
    p = three_classes()
    output = np.random.default_rng(0).integers(0, 3, (3, 300)).astype(float)
    y = np.arange(300.0) % 3
    np.testing.assert_array_equal(Network.of(p).hits(output, y), np.argmax(output, axis=0) == y)


# ---- implicit and dense


def _numbers(run: ReplicateTrajectory) -> list[float]:
    out: list[float] = []
    for t in (1, 3, 6):
        upper = np.triu_indices(run.gram.shape[1])
        out += [run.train_loss[t], run.test_loss[t], *run.gram[t][upper], *np.abs(run.overlap[t]).ravel()]
        out += [*run.readout[t].ravel(), *run.bias[t], *run.output_bias[t]]
    return out


def _smallest_p(p: Problem, n: int, d: int, runs: int, law: Problem | None = None) -> tuple[float, int]:
    """Smallest p of three tests for each number (means, spreads, all), and how many; ``law``: of the implicit runs."""
    seeds = np.random.SeedSequence(n + d).spawn(2 * runs)
    a = np.array([_numbers(run_implicit(law or p, n, d, s, test_samples=400)) for s in seeds[:runs]])
    b = np.array([_numbers(run_dense(p, n, d, s, test_samples=400)) for s in seeds[runs:]])
    pairs = [(x, y) for x, y in zip(a.T, b.T, strict=True) if np.ptp(x) > 0]
    tests = (partial(stats.ttest_ind, equal_var=False), stats.levene, stats.ks_2samp)
    values = [test(x, y).pvalue for x, y in pairs for test in tests]
    return min(values), len(values)


LAWS = [
    ("three classes", {}),
    ("vector", {"optimiser": "heavy-ball", "momentum": 0.4}),
    ("one output", {"batch_fraction": 0.5, "batches": "reshuffled"}),
]


@pytest.mark.parametrize(("name", "training"), LAWS)
def test_implicit_and_dense_have_one_law(name: str, training: dict[str, object]) -> None:
    p, count = _smallest_p(PROBLEMS[name](**training), 40, 20, 60)
    assert p * count * len(LAWS) > 0.01


#: n, d and runs: few samples, where averages over them differ most from those of the population; many, whose numbers
#: scatter little; and more directions than the steps visit.
SIZES = [(40, 20, 200), (400, 20, 200), (400, 100, 60)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "training"), [*LAWS, ("three classes", {"batch_fraction": 0.5, "batches": "one-pass"})]
)
@pytest.mark.parametrize("size", SIZES)
def test_implicit_and_dense_have_one_law_at_three_sizes(name: str, training: dict[str, object], size) -> None:
    p, count = _smallest_p(PROBLEMS[name](**training), *size)
    assert p * count * 12 > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("name", "training"), LAWS)
def test_a_readout_that_moves_a_fifth_too_far_is_noticed(name: str, training: dict[str, object]) -> None:
    """By the rule above: else that test would pass whatever the law. A tenth is in two of the three problems."""
    wrong = PROBLEMS[name](**(training | {"readout_step_size": 1.2 * TRAINED["readout_step_size"]}))
    p, count = _smallest_p(PROBLEMS[name](**training), *SIZES[1], law=wrong)
    assert p * count * 12 < 0.01
