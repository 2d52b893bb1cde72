"""Posteriors: modules whose forward(context) returns q(z | context). zuko's flows need no file here."""
from pyrovae.posteriors.iaf import IAF

__all__ = ["IAF"]
