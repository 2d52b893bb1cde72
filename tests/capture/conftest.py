"""Fixtures that the tests of captures share."""

from test_capture import uncompiled

__all__ = ["uncompiled"]
