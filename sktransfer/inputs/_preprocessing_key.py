"""A text of all that a preprocessing does to a sample."""

import PIL

from sktransfer.inputs._image import ImagePreprocessing
from sktransfer.inputs._vector import VectorPreprocessing
from sktransfer.utils import describe, join_key

__all__ = ["is_describable_preprocessing", "preprocessing_key"]

_OWN = (ImagePreprocessing, VectorPreprocessing)


def preprocessing_key(preprocessing):
    """Return a text that changes with anything that a preprocessing does.

    Parameters
    ----------
    preprocessing : object
        With ``prepare`` and ``to_input``, as :class:`ImagePreprocessing`.

    Returns
    -------
    str
        Of the preprocessings of this package the key that they state, and the version
        of Pillow, which resizes. An object of any other class, a subclass of these as
        well, is described by its code and its attributes. Where that is not possible,
        a text that no other object has, in this process or another.
    """
    if type(preprocessing) in _OWN and not _is_changed(preprocessing):
        key = preprocessing.key()
    else:
        key = join_key(describe(preprocessing), preprocessing)
    return f"{key};pillow={PIL.__version__}"


def is_describable_preprocessing(preprocessing):
    """Say whether a preprocessing can be told from others in another process (bool).

    Parameters
    ----------
    preprocessing : object
    """
    is_own = type(preprocessing) in _OWN and not _is_changed(preprocessing)
    return is_own or describe(preprocessing).is_complete


def _is_changed(preprocessing):
    """Say whether an object or its class does something else than it came with."""
    fields = {*type(preprocessing).__dataclass_fields__}
    return not {*vars(preprocessing)} <= fields or describe(preprocessing).has_code
