"""Let each example of the gallery start afresh, though they share a process."""

import sklearn

import sktransfer
from sktransfer.activations import forward_passes, process_store

_SETTINGS = sktransfer.get_config(), sklearn.get_config()


def start_afresh(gallery_conf, fname):
    """Forget what an example before this one has stored, counted and set."""
    process_store().clear()
    forward_passes().clear()
    of_sktransfer, of_sklearn = _SETTINGS
    sktransfer.set_config(**of_sktransfer)
    sklearn.set_config(**of_sklearn)
