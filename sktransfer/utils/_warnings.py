"""Warnings of the package: their category, and whose line they name."""

import contextlib
import functools
import sys
import warnings
from pathlib import Path

__all__ = ["TransferWarning", "warn_caller"]

_PACKAGE = str(Path(__file__).parents[1])
_DECORATORS = {contextlib.__file__, functools.__file__}


class TransferWarning(UserWarning):
    """A fit overfits, undoes its features, or freezes too much.

    ``warnings.simplefilter("ignore", TransferWarning)`` silences all of them.
    """


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn in the name of the line that called the package.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    frame, level = sys._getframe(1), 3
    while frame.f_back is not None and _is_ours(frame.f_back.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(path):
    return path.startswith(_PACKAGE) or path in _DECORATORS
