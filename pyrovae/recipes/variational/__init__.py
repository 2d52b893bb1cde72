"""Variational families that meet densities one can draw: in two dims, and on two weights."""
