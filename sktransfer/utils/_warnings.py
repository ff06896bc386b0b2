"""What a fit warns of that could be done better."""

__all__ = ["TransferWarning"]


class TransferWarning(UserWarning):
    """A figure shows that a fit overfits, undoes its features or freezes too much.

    ``warnings.simplefilter("ignore", TransferWarning)`` silences all of them.
    """
