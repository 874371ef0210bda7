"""Activations, losses and links: white-listed expressions with exact derivatives, and a catalogue of names."""

from featurephase.functions.activation import Activation, activation
from featurephase.functions.link import Link, link
from featurephase.functions.loss import Loss, loss

__all__ = ["Activation", "Link", "Loss", "activation", "link", "loss"]
