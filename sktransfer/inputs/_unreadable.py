"""Samples that cannot be read: how they are marked, and the error that names them."""

from dataclasses import dataclass

__all__ = ["Unreadable", "UnreadableSampleError", "explain"]


class UnreadableSampleError(ValueError):
    """A sample of X cannot be read.

    Parameters
    ----------
    row : int
        Its position in X.
    name : str or None
        Its path, if it has one.
    reason : str
        Why, and what to do.

    Examples
    --------
    >>> from sktransfer.inputs import UnreadableSampleError
    >>> print(UnreadableSampleError(3, "a.png", "the file does not exist"))
    Samples must be readable images. Got sample 3 ('a.png'), which is not; replace it or
    leave it out. The reason: the file does not exist
    """

    def __init__(self, row, name, reason):
        super().__init__(row, name, reason)
        self.row = row
        self.name = name
        self.reason = reason

    def __str__(self):
        """Return which sample it is, what to do, and why."""
        return (
            f"Samples must be readable images. Got {self.where}, which is not; "
            f"replace it or leave it out. The reason: {self.reason}"
        )

    @property
    def where(self):
        """The sample in words, as "sample 3 ('a/b.png')" (str)."""
        return f"sample {self.row}" + (f" ({self.name!r})" if self.name else "")


@dataclass(frozen=True)
class Unreadable:
    """Stands among the items of X in place of one that is known to be unreadable.

    Attributes
    ----------
    reason : str
        Why, and what to do.
    name : str or None
        Its path, if it has one.
    cause : Exception or None
        What was raised.
    """

    reason: str
    name: str | None = None
    cause: Exception | None = None

    def error(self, row):
        """Return the error that names the sample at a row (UnreadableSampleError)."""
        error = UnreadableSampleError(row, self.name, self.reason)
        error.__cause__ = self.cause
        return error


def explain(error):
    """Say in words what an exception says (str).

    Parameters
    ----------
    error : Exception
        Where its text alone does not tell what went wrong, its type is put first.
    """
    text = str(error)
    if text and isinstance(error, OSError | ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
