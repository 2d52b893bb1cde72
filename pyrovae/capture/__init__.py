"""Programs recorded as tensor graphs, checked, compiled and replayed."""

from pyrovae.capture.graph import Captured

__all__ = ["Captured"]
