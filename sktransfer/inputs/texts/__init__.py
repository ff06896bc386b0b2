"""Texts, or pairs of texts: how they are read, and become token ids."""

__all__ = ()
