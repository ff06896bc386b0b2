"""Vectors: rows of real numbers."""

__all__ = ()
