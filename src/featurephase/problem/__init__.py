"""The experiment as a value: teacher, student, loss, training; its file; the user's own data."""

from featurephase.problem.values import (
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

__all__ = [
    "ACCEPTED",
    "Asymptotics",
    "GradientDescent",
    "Problem",
    "Run",
    "Student",
    "Teacher",
    "ThresholdSearch",
    "load",
]
