"""Fixtures of the slow suites."""

from tests.sessions.serving import pictures, weights

__all__ = ["pictures", "weights"]
