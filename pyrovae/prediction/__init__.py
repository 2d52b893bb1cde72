"""Posterior predictions and their densities."""
