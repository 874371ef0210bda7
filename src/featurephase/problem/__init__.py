"""The experiment as a value: teacher, student, loss, training; its file; the user's own data."""

from featurephase.problem.checks import ACCEPTED
from featurephase.problem.problem import Problem, load
from featurephase.problem.values import Asymptotics, GradientDescent, Run, Student, Teacher, ThresholdSearch

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
