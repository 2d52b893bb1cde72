"""Diagnostics of a pair: the use of its latent variables, and the variance of its gradients."""
