"""Recordings of sound: how they are read, and become model inputs."""

__all__ = ()
