"""The exact latent-variable model: solution, mechanisms, phase diagram (arXiv:2401.07085)."""
