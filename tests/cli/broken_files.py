"""Broken experiment files of many kinds, each with words that the message about it must contain.

The tests of the commands read them, and so does ``tests/guard.py``.
"""

from __future__ import annotations

from pathlib import Path

import featurephase

#: The template that every broken file is made from, wherever the package keeps it.
GOOD = next(Path(featurephase.__file__).parent.rglob("two-neurons.toml")).read_text(encoding="utf-8")


#: The same for networks with several outputs.
CLASSES = next(Path(featurephase.__file__).parent.rglob("three-classes.toml")).read_text(encoding="utf-8")


def class_but(key: str, new: str) -> str:
    """The file with three classes with the line of one key changed."""
    lines = CLASSES.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
    lines[at] = new
    return "\n".join(lines) + "\n"


def but(old: str, new: str) -> str:
    """The good file with one thing changed."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def link(text: str) -> str:
    return but('link = "tanh(g1) + 1.5*tanh(g2**2)"', f"link = {text}")


def activation(text: str) -> str:
    return but('activation = "gelu"', f"activation = {text}")


def readout(text: str) -> str:
    return but("readout = [1.0, 1.2]", f"readout = {text}")


def gram(text: str) -> str:
    return but("init_gram = [[1.0, 0.3], [0.3, 0.73]]", text)


def loss(text: str) -> str:
    return but('name = "squared"', text)


def training(old: str, new: str) -> str:
    return but(old, new)


def run_table(text: str) -> str:
    return but("delta = [24.0]", text)


K = 1024
#: kind -> (file, what the message must contain)
BROKEN: dict[str, list[tuple[str | bytes, str]]] = {
    "not text": [
        (b"\xff\xfe\x00\x01" * 50, "UTF-8"),
        (GOOD.encode() + b"\x80", "UTF-8"),
        (GOOD + "\0", "zero byte"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8"),
        (GOOD.encode("utf-16"), "UTF-8"),
    ],
    "not TOML": [
        ("readout", "not valid TOML"),
        (GOOD.replace("[teacher]", "[teacher"), "not valid TOML"),
        (GOOD + "\n[student]\n", "not valid TOML"),
        (training("steps = 20", "steps = 20 30"), "line"),
        (activation('"gelu'), "not valid TOML"),
        ('{"teacher": {"latent_dim": 1}}', "not valid TOML"),
    ],
    "too much": [
        (GOOD + "#" * 256 * K, "256 KiB"),
        (GOOD + "a." * 20 * K + "b = 1", "parts"),
        (GOOD + "x = " + "[" * 100 * K, "nested"),
        (training("steps = 20", "steps = " + "9" * 100 * K), "digits"),
        (training("steps = 20", "steps = 0x" + "f" * 100 * K), "training.steps"),
        (readout("[" + "1.0, " * 2000 + "1.0]"), "student.readout"),
    ],
    "missing": [
        ("", "[teacher]"),
        ("# nothing here\n", "[teacher]"),
        (training("step_size = 0.5", ""), "training.step_size"),
        (link("").replace("link =", ""), "teacher.link"),
        (loss(""), "[loss]"),
        (readout("").replace("readout =", ""), "student.readout"),
    ],
    "unknown key": [
        (training("step_size", "stepsize"), "'step_size'"),
        (training("steps = 20", "steps = 20\nmomentum = 0.9"), "momentum"),
        (GOOD + 'x-y = "z"\n', "x-y"),
        ("colour = 1\n" + GOOD, "colour"),
        (training("steps = 20", "steps = 20\ndelta = [3]"), "[run]"),
        (readout('[1.0, 1.2]\n"read\\u001bout" = 1'), "student"),
    ],
    "unknown table": [
        (GOOD.replace("[training]", "[trainin]"), "'training'"),
        (GOOD + "\n[optimizer]\nname = 'adam'\n", "optimizer"),
        (GOOD + "\n[latent]\nu = [1.0]\n", "featurephase latent"),
        ('base = "experiment.toml"\n' + GOOD, "featurephase sweep"),
        (GOOD.replace("[teacher]", "[[teacher]]"), "[teacher]"),
        (GOOD.replace("[run]", "[run.more]"), "more"),
    ],
    "wrong type": [
        (training("step_size = 0.5", 'step_size = "0.5"'), "training.step_size"),
        (training("steps = 20", "steps = true"), "training.steps"),
        (training("steps = 20", "steps = 20.0"), "training.steps"),
        (link("3"), "teacher.link"),
        (training("step_size = 0.5", "step_size = 1979-05-27"), "training.step_size"),
        ("student = 3\n", "student"),
    ],
    "out of range": [
        (training("step_size = 0.5", "step_size = 0.0"), "training.step_size"),
        (training("step_size = 0.5", "step_size = nan"), "training.step_size"),
        (training("steps = 20", "steps = -1"), "training.steps"),
        (training("steps = 20", "steps = 20\nweight_decay = -inf"), "training.weight_decay"),
        (GOOD + "\n[asymptotics]\nreplicates = 1\n", "asymptotics.replicates"),
        (GOOD + "\n[asymptotics]\nseed = -1\n", "asymptotics.seed"),
    ],
    "ratios and times": [
        (run_table("delta = [0.0]"), "run.delta"),
        (run_table("delta = [inf]"), "run.delta"),
        (run_table("delta = [[24.0]]"), "run.delta"),
        (run_table("delta = [1e308]"), "run.delta"),
        (but("times = [20]", "times = [21]"), "run.times"),
        (but("times = [20]", "times = [-1]"), "run.times"),
        (GOOD + "\n[threshold]\ndelta_range = [10, 1]\n", "threshold.delta_range"),
    ],
    "readout": [
        (readout("[]"), "student.readout"),
        (readout("[0.0, 0.0]"), "student.readout"),
        (readout("[1.0, nan]"), "student.readout"),
        (readout("[[[1.0]], [[1.2]]]"), "student.readout"),
        (readout("{width = 2}"), "student.readout"),
        (readout("{width = 1e6, value = 1}"), "student.readout.width"),
    ],
    "initialisation": [
        (gram("init_gram = [[1.0]]"), "student.init_gram"),
        (gram("init_gram = [[1.0, 2.0], [2.0, 1.0]]"), "student.init_gram"),
        (gram("init_gram = [[1.0, 0.3], [0.2, 1.0]]"), "student.init_gram"),
        (gram("init_gram = [[1.0, 0.3], [0.3]]"), "student.init_gram"),
        (gram("init_norm = 1.0\ninit_gram = [[1.0, 0.0], [0.0, 1.0]]"), "init_norm"),
        (gram("init_norm = -1.0"), "student.init_norm"),
    ],
    "warm start": [
        (gram("init_overlap = [[1.1, 0.0], [0.0, 0.0]]"), "semidefinite"),
        (gram("init_overlap = [[0.8, 0.8], [0.0, 0.0]]"), "semidefinite"),
        (gram("init_overlap = [[0.1, 0.1]]"), "student.init_overlap"),
        (gram("init_overlap = [[0.1], [0.1]]"), "student.init_overlap"),
        (gram("init_overlap = 0.1"), "student.init_overlap"),
    ],
    "latent space": [
        (but("latent_dim = 2", "latent_dim = 0"), "teacher.latent_dim"),
        (but("latent_dim = 2", "latent_dim = 1"), "teacher.link"),
        (but("latent_dim = 2", "latent_dim = 10_000"), "teacher.latent_dim"),
        (but("latent_dim = 2", "latent_dim = 2\neasy_basis = [[1.0]]"), "teacher.easy_basis"),
        (but("latent_dim = 2", "latent_dim = 2\neasy_basis = [[1, 2], [1, 2]]"), "teacher.easy_basis"),
        (but("latent_dim = 2", "latent_dim = 2\neasy_basis = [[0.0], [0.0]]"), "teacher.easy_basis"),
    ],
    "link syntax": [
        (link('"tanh(g1"'), "teacher.link"),
        (link('"g1 g2"'), "teacher.link"),
        (link('""'), "teacher.link"),
        (link('"tanh(g1, g2)"'), "teacher.link"),
        (link('"' + "(" * 900 + "g1" + ")" * 900 + '"'), "teacher.link"),
        (link('"g1' + " + g1" * 20_000 + '"'), "teacher.link"),
    ],
    "names in a link": [
        (link('"tanhh(g1)"'), "tanh"),
        (link('"g3"'), "teacher.link"),
        (link('"h"'), "teacher.link"),
        (link('"e0"'), "teacher.link"),
        (link('"pi2*g1"'), "pi2"),
        (link('"g1\\u202e"'), "teacher.link"),
    ],
    "code in an expression": [
        (link("\"__import__('os').system('id')\""), "teacher.link"),
        (link('"(lambda: g1)()"'), "teacher.link"),
        (link('"g1.__class__"'), "teacher.link"),
        (link('"[g1 for g1 in g2]"'), "teacher.link"),
        (activation("\"exec('1')\""), "student.activation"),
        (loss('expression = "open(y)"'), "loss.expression"),
    ],
    "activation": [
        (activation('"gleu"'), "gelu"),
        (activation('"g1"'), "student.activation"),
        (activation('"h +"'), "student.activation"),
        (activation('["gelu"]'), "student.activation"),
        (activation('"tanh(h"'), "student.activation"),
    ],
    "loss": [
        (loss('name = "sqared"'), "squared"),
        (loss('expression = "y - g"'), "loss.expression"),
        (loss('name = "squared"\nexpression = "(y - f)**2"'), "exactly one"),
        (loss("name = 2"), "loss.name"),
        (loss('expression = ""'), "loss.expression"),
    ],
    "not finite": [
        (link('"log(g1)"'), "teacher.link"),
        (link('"1/(g1 - g1)"'), "teacher.link"),
        (activation('"sqrt(h)"'), "student.activation"),
        (activation('"exp(exp(h))"'), "student.activation"),
        (loss('expression = "log(y - f)"'), "loss"),
        (loss('expression = "sqrt(abs(y - f) - 0.01)"'), "loss"),
    ],
    "classes": [
        (class_but("classes", "classes = 1"), "teacher.classes"),
        (class_but("classes", "classes = 4"), "teacher.logits has 3 entries"),
        (class_but("classes", ""), "teacher.classes is missing"),
        (class_but("logits", ""), "teacher.logits is missing"),
        (class_but("logits", 'logits = "1.5*g1"'), "teacher.logits"),
        (class_but("logits", 'logits = ["1.5*g1", "g3", "0"]'), "teacher.logits[1]"),
        (class_but("classes", 'link = "g1"\nclasses = 3'), "exclude each other"),
        (class_but("decision", 'decision = "max"'), "teacher.decision"),
    ],
    "classes that make no sense": [
        (class_but("logits", 'logits = ["1.5*g1", "2*(g2**2 - 1)", "-100"]'), "class 2 (of 0 to 2) never occurs"),
        (class_but("logits", 'logits = ["exp(1000*g1)", "0", "0"]'), "a logit is not finite"),
        (class_but("logits", 'logits = ["1", "0", "-1"]').replace('"softmax"', '"argmax"'), "never occurs"),
    ],
    "outputs": [
        (class_but("readout", "readout = [0.8, -0.4]"), "3 classes need 3"),
        (class_but("readout", "readout = [[0.8, -0.5], [-0.4, 0.9]]"), "3 classes need 3"),
        (class_but("readout", "readout = [[0.8, -0.5, -0.3], [-0.4, 0.9]]"), "student.readout"),
        (class_but("readout", "readout = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]"), "student.readout"),
        (readout("[[1.0, 2.0], [1.2, 0.1]]"), "student.readout has 2 outputs"),
        (link('["g1", "g2", "g1*g2"]'), "teacher.link has 3 components"),
        (link("[]"), "teacher.link"),
    ],
    "biases and their rates": [
        (class_but("bias", "bias = [0.1, -0.2, 0.3]"), "student.bias"),
        (class_but("bias", 'bias = "0.1"'), "student.bias"),
        (class_but("output_bias", "output_bias = [0.1, 0.2]"), "student.output_bias"),
        (class_but("readout_step_size", "readout_step_size = -0.1"), "training.readout_step_size"),
        (class_but("bias_step_size", "bias_step_size = 0\nbias_decay = 0.1"), "training.bias_decay"),
        (class_but("output_bias_step_size", "output_bias_step_size = inf"), "training.output_bias_step_size"),
        (class_but("bias_step_size", "biases_step_size = 0.1"), "bias_step_size"),
    ],
    "never ending numbers": [
        (link('"9**9**9**9*g1"'), "teacher.link"),
        (link('"g1**1e308"'), "teacher.link"),
        (link('"hermite(1000000000, g1)"'), "teacher.link"),
        (link('"1e999*g1"'), "teacher.link"),
        (activation('"' + "tanh(" * 300 + "h" + ")" * 300 + '"'), "student.activation"),
        (link('"' + "exp(" * 30 + "g1" + ")" * 30 + '"'), "teacher.link"),
    ],
}
