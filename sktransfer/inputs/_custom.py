"""Preprocessings of users: how they are told from the package's own, and are run.

The package's own preprocessings change neither their samples nor their batches, and
what they make of a sample depends on nothing else. The code of users may do anything,
so it is run on copies.
"""

import copy
from functools import cache
from importlib import metadata
from typing import Any

import torch
from PIL import Image
from torch.utils.weak import WeakIdKeyDictionary

from sktransfer.compute import map_state
from sktransfer.inputs._modality import Preprocessing
from sktransfer.utils import describe, join_key, survey_class

version = cache(metadata.version)  # which parses a file
_RESIZING = ("pillow", "torchvision")  # libraries, which are not imported for this
_known = WeakIdKeyDictionary()  # preprocessing: survey of its class, and `is_own`


def preprocessing_key(preprocessing: Preprocessing) -> tuple[str, bool]:
    """Return a text that identifies what a preprocessing does, and its scope.

    The second value says whether the text means the same in other processes (bool). A
    preprocessing of this package states its key, which is joined with the versions of
    Pillow and torchvision, the libraries that resize. An object of any other class,
    including subclasses, is described by its code and its attributes. If that is not
    possible, the text is unique to this object.
    """
    described = describe(preprocessing)
    own = _is_of_own_class(preprocessing) and not described.has_code
    key = preprocessing.key() if own else join_key(described, preprocessing)
    libraries = ";".join(f"{name}={version(name)}" for name in _RESIZING)
    return f"{key};{libraries}", own or described.is_complete


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


def as_run(preprocessing: Any) -> Any:
    """Return the object whose `prepare` and `to_input` run a preprocessing.

    It is one of this package itself, and stands in for any other.
    """
    return preprocessing if is_own(preprocessing) else OnCopies(preprocessing)


class OnCopies:
    """Runs a preprocessing that may change what it gets in place, as Pillow does."""

    def __init__(self, preprocessing: Any):
        self._preprocessing = preprocessing

    def prepare(self, sample: Any) -> Any:
        """Return what is made of a sample, which stays as it is."""
        return self._preprocessing.prepare(_copied(sample))

    def to_input(self, batch: Any) -> Any:
        """Return the model inputs of a batch, which stays as it is."""
        return self._preprocessing.to_input(map_state(torch.clone, batch))


def _copied(sample):
    if isinstance(sample, Image.Image):
        return sample.copy()  # in a tenth of the time
    try:
        return copy.deepcopy(sample)
    except Exception:  # of a custom modality, such as an open file
        return sample
