"""Activations, losses and links: white-listed expressions with exact derivatives, and a catalogue of names."""

from featurephase.functions.activation import Activation, activation
from featurephase.functions.link import Link, link
from featurephase.functions.loss import Loss, loss
from featurephase.functions.responses import class_link, vector_link
from featurephase.functions.vector_loss import VectorLoss, vector_loss

__all__ = [
    "Activation",
    "Link",
    "Loss",
    "VectorLoss",
    "activation",
    "class_link",
    "link",
    "loss",
    "vector_link",
    "vector_loss",
]
