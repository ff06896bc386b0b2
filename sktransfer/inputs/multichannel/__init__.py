"""Images of any number of channels, such as those of satellites and microscopes."""

__all__ = ()
