"""The search or validation of scikit-learn in which a fit takes place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import joblib
import sklearn
from sklearn.base import BaseEstimator

from sktransfer.utils._messages import is_ours

_SKLEARN, _JOBLIB = (str(Path(m.__file__).parent) for m in (sklearn, joblib))

# What was told, for what is searched, which may be deleted; in the worker processes of
# a search, which do not have it, by the line alone.
_told: WeakKeyDictionary[Any, dict] = WeakKeyDictionary()
_told_in_worker: dict[tuple, set] = {}


class Search(NamedTuple):
    """Call of scikit-learn that fits estimators of the package.

    Attributes
    ----------
    estimator : BaseEstimator or None
        What is searched, validated or fitted, as it was given to scikit-learn. None in
        the worker processes of a search.
    line : tuple of str and int
        File and line of the call; in worker processes, those that started them.
    """

    estimator: BaseEstimator | None
    line: tuple[str, int]


def told_in_search(topic: str) -> set:
    """Return the set of what the current search was told about a topic, to add to.

    It is a new one outside of searches, so that fits by hand are told each time.
    """
    search = find_search()
    if search is None:
        return set()
    told = _told_in_worker
    if search.estimator is not None:
        told = _told.setdefault(search.estimator, {})
    return told.setdefault((search.line, topic), set())


def find_search() -> Search | None:
    """Return the outermost call of scikit-learn that the package is in, or None."""
    outermost = last = None
    for last in _frames_of_search():
        if not last.f_code.co_filename.startswith(_JOBLIB):
            seen = last.f_locals
            outermost = seen.get("self", seen.get("estimator", outermost))
    if last is None or last.f_back is None:
        return None
    caller = last.f_back
    estimator = outermost if isinstance(outermost, BaseEstimator) else None
    return Search(estimator, (caller.f_code.co_filename, caller.f_lineno))


def nearest_search() -> tuple[BaseEstimator | None, bool]:
    """Return the search of parameters that fits, and whether this fit is its refit.

    The search is None outside of searches, and in their worker processes.
    """
    is_refit = True
    for frame in _frames_of_search():
        place = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place == ("sklearn.model_selection._search", "fit"):
            return frame.f_locals["self"], is_refit
        if place == ("sklearn.model_selection._validation", "_fit_and_score"):
            is_refit = False
    return None, False


def searched_parameters() -> set[str]:
    """Return the names of the parameters that the current search chooses.

    They are those of the candidate that is fitted, or of the best one in a refit.
    """
    for frame in _frames_of_search():
        place = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place == ("sklearn.model_selection._validation", "_fit_and_score"):
            return {*(frame.f_locals["parameters"] or {})}
        if place == ("sklearn.model_selection._search", "fit"):
            return {*frame.f_locals["self"].best_params_}
    return set()


def _frames_of_search() -> Iterator[FrameType]:
    """Yield the frames of scikit-learn and joblib that called the package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or not frame.f_code.co_filename.startswith(_SKLEARN):
        return
    while frame and frame.f_code.co_filename.startswith((_SKLEARN, _JOBLIB)):
        yield frame
        frame = frame.f_back
