"""Preprocessings of users: how they are told from the package's own, and are run.

The package's own preprocessings change neither their samples nor their batches, and
what they make of a sample depends on nothing else. The code of users may do anything,
so it is tried, and run on copies.
"""

from contextlib import suppress
from functools import cache
from importlib import metadata
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from sktransfer.compute import (
    join_states,
    map_state,
    seeded_everywhere,
    split_state,
)
from sktransfer.inputs._preprocessing import Preprocessing
from sktransfer.inputs._trial import Findings, copied, try_out
from sktransfer.utils import describe, join_key, survey_class

version = cache(metadata.version)  # which parses a file
_RESIZING = ("pillow", "torchvision")  # libraries, which are not imported for this
_SEED = 0  # for each sample, if a preprocessing draws random numbers
_known = WeakIdKeyDictionary()  # preprocessing: survey of its class, and `is_own`
_findings = WeakIdKeyDictionary()  # preprocessing: its description, and `Findings`


def preprocessing_key(preprocessing: Preprocessing) -> tuple[str, bool]:
    """Return a text that identifies what a preprocessing does, and its scope.

    The second value says whether the text means the same in other processes (bool). A
    preprocessing of this package states its key, which is joined with the versions of
    Pillow and torchvision, the libraries that resize. An object of any other class,
    including subclasses, is described by its code, its attributes, and what it makes of
    made-up samples. If that is not possible, the text is unique to this object. It does
    not hold in other processes, nor for another pass, if the preprocessing is impure.
    """
    described = describe(preprocessing)
    libraries = ";".join(f"{name}={version(name)}" for name in _RESIZING)
    if _is_of_own_class(preprocessing) and not described.has_code:
        return f"{preprocessing.key()};{libraries}", True
    found = _tried(preprocessing, described)
    is_known = described.is_complete and found.impurity is None
    key = join_key(described, preprocessing)
    return f"{key};{found.digest};{libraries}", is_known


def is_own(preprocessing: Any) -> bool:
    """Return whether all code of a preprocessing is of this package, and unchanged.

    What an object consists of is looked at once, and its class each time.
    """
    if not _is_of_own_class(preprocessing):
        return False
    survey = survey_class(type(preprocessing))
    known = _known.get(preprocessing)
    if known is None or known[0] is not survey:
        known = survey, not describe(preprocessing).has_code
        _known[preprocessing] = known
    return known[1]


def _is_of_own_class(preprocessing):
    """Return whether an object is of a class of this package, with no other members."""
    kind = type(preprocessing)
    if not kind.__module__.startswith(f"{__package__}."):
        return False
    return {*vars(preprocessing)} <= {*kind.__dataclass_fields__}


def try_preprocessing(preprocessing: Any) -> Findings:
    """Try a preprocessing; the findings of one of this package are empty.

    An object is tried again only if its code or an attribute has changed.
    """
    if is_own(preprocessing):
        return Findings(None, "")
    return _tried(preprocessing, describe(preprocessing))


def _tried(preprocessing, described):
    known = _findings.get(preprocessing)
    if known is None or known[0] != described:
        known = described, try_out(preprocessing)
        with suppress(TypeError):  # it cannot be weakly referenced
            _findings[preprocessing] = known
    return known[1]


def as_run(preprocessing: Any) -> Any:
    """Return the object whose `prepare` and `to_input` run a preprocessing.

    It is one of this package itself, and stands in for any other.
    """
    if is_own(preprocessing):
        return preprocessing
    impurity = try_preprocessing(preprocessing).impurity
    return (OneByOne if impurity else OnCopies)(preprocessing)


class OnCopies:
    """Runs a preprocessing that may change what it gets in place, as Pillow does."""

    def __init__(self, preprocessing: Any):
        self._preprocessing = preprocessing

    def prepare(self, sample: Any) -> Any:
        """Return what is made of a sample, which stays as it is."""
        return self._preprocessing.prepare(copied(sample))

    def to_input(self, batch: Any) -> Any:
        """Return the model inputs of a batch, which stays as it is."""
        return self._preprocessing.to_input(map_state(torch.clone, batch))


class OneByOne:
    """Runs an impure preprocessing on each sample as if it were the first.

    One seed fixes the draws from the global generators for every sample, and each gets
    a copy of the preprocessing.
    """

    def __init__(self, preprocessing: Any):
        self._preprocessing = preprocessing

    def prepare(self, sample: Any) -> Any:
        """Return what is made of a sample, which stays as it is."""
        with seeded_everywhere(_SEED):
            return copied(self._preprocessing).prepare(copied(sample))

    def to_input(self, batch: Any) -> Any:
        """Return the model inputs of a batch, which stays as it is."""
        return join_states([*map(self._to_one_input, split_state(batch, 1))])

    def _to_one_input(self, row):
        with seeded_everywhere(_SEED, _device_of(row)):
            return copied(self._preprocessing).to_input(map_state(torch.clone, row))


def _device_of(state):
    first = next(iter(state.values())) if isinstance(state, dict) else state
    return first.device
