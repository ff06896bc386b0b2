"""Backbones that are loaded and traced once a process."""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._fingerprint import fingerprint_tensors
from sktransfer.backbones._load import load_backbone
from sktransfer.backbones._state_dict import read_state_dict
from sktransfer.compute import in_forked_child
from sktransfer.utils import content_stamp

__all__ = ["shared_backbone"]

_MOST = 4
_lock = threading.RLock()
_loaded: OrderedDict[tuple, Backbone] = OrderedDict()


def _renew():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew)


def shared_backbone(spec, *, weights, image_size, seed):
    """Return a backbone that others in this process may use, too.

    Parameters
    ----------
    spec : str
    weights : str, os.PathLike, mapping or None
    image_size : int, (int, int) or None
    seed : int
        Of random weights.

    Returns
    -------
    Backbone
        Its weights must not be changed: :meth:`Backbone.fork` gives ones that may be.
    """
    size = tuple(image_size) if isinstance(image_size, list | tuple) else image_size
    with _lock:
        identity = _identity(weights)
        key = (spec, identity, size, seed if weights is None else None)
        if key in _loaded and _loaded[key].is_outdated():
            del _loaded[key]
        if key not in _loaded:
            backbone = load_backbone(
                spec, weights=weights, image_size=image_size, random_state=seed
            )
            backbone.module.requires_grad_(False)
            backbone.stages  # noqa: B018  # traced before other threads see it
            backbone.is_outdated()  # remembers what it is
            if _identity(weights) != identity:  # written while it was read
                return backbone
            _loaded[key] = backbone
        _loaded.move_to_end(key)
        if len(_loaded) > _MOST:
            _loaded.popitem(last=False)
        return _loaded[key]


def _identity(weights):
    """Tell weights apart by content, whatever the path of a file and its times."""
    if isinstance(weights, Mapping):
        return fingerprint_tensors(read_state_dict(weights))
    if not isinstance(weights, str | os.PathLike):
        return None if weights is None else repr(weights)
    if not os.path.isfile(weights):
        return weights
    return os.path.realpath(weights), content_stamp(weights)
