"""Images: paths, encoded images, PIL images, arrays and datasets of them."""

__all__ = ()
