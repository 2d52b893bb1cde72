"""Bayesian neural networks: guides, priors and samplers of weights."""
