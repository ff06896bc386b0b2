"""Vectors: rows of real numbers."""

__all__: list[str] = []
