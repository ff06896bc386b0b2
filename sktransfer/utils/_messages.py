"""Warnings, suggestions for misspelt names, and errors about missing packages."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType

import sklearn

_PACKAGE = str(Path(__file__).parents[1])
_DECORATORS = {
    contextlib.__file__,
    functools.__file__,
    str(Path(sklearn.__file__).parent / "utils" / "_set_output.py"),
}


class TransferWarning(UserWarning):
    """Warning of `fit` about what is wrong with a training, or has no effect on it.

    ``warnings.simplefilter("ignore", TransferWarning)`` silences all of them.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier, TransferWarning
    >>> digits = load_digits(n_class=2)
    >>> X, y = digits.images[:20] / 16, digits.target[:20]
    >>> model = FineTunedClassifier(freeze="all", lr=0.1, image_size=32)
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always", TransferWarning)
    ...     _ = model.fit(X, y)
    >>> print(found[0].message)
    `lr` has no effect: a linear head is all that is trained, and it is solved without
    epochs. Freeze fewer stages, or leave out what has no effect.
    """


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the file and line of the code that called the package."""
    frame, level = sys._getframe(1), 3
    while frame.f_back is not None and is_ours(frame.f_back.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def is_ours(path: str) -> bool:
    """Whether a frame of this file belongs to the package or only passes calls on."""
    return path.startswith(_PACKAGE) or path in _DECORATORS


def near_matches(word: str, candidates: Iterable[str], n: int = 3) -> str:
    """Return a sentence that suggests at most n names similar to a misspelt one.

    It begins with a space, to be appended to an error message, and is empty if no
    candidate is similar.

    Examples
    --------
    >>> from sktransfer.utils import near_matches
    >>> near_matches("layr3", ["stem", "layer3", "head"])
    " Did you mean 'layer3'?"
    """
    by_lowercase = {candidate.lower(): candidate for candidate in candidates}
    near = get_close_matches(word.lower(), by_lowercase, n=n)
    if not near:
        return ""
    *others, last = (repr(by_lowercase[name]) for name in near)
    listed = f"{', '.join(others)} or {last}" if others else last
    return f" Did you mean {listed}?"


def import_optional(module: str, *, feature: str, extra: str) -> ModuleType:
    """Import a module that is not a core dependency.

    If its package is not installed, an ImportError says that `feature`, the subject of
    the sentence, needs it, and which extra of sktransfer installs it. Errors inside an
    installed package are left as they are.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f"{feature} needs {package}. "
            f"Install it with: pip install 'sktransfer[{extra}]'"
        ) from error
