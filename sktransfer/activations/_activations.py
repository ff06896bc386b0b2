"""Activations of a set of samples, as training asks for them."""

import threading
from contextlib import closing
from weakref import WeakSet

from sktransfer.activations._pass import Pass, gather
from sktransfer.compute import in_forked_child
from sktransfer.utils import get_config

__all__ = ["Activations", "load_activations"]


_living: WeakSet["Activations"] = WeakSet()  # who share the budget of memory
_lock = threading.Lock()


def _renew():
    global _lock
    _lock = threading.Lock()


in_forked_child(_renew)


class Activations:
    """The rows of one target for some samples, in batches by index.

    All that live at a time share the budget of memory, as the views of a fit and its
    validation samples do. A row beyond it is brought again each time that it is asked
    for, from disk or through the network.

    Parameters
    ----------
    samples : Samples or VectorSamples
    a_pass : Pass
        Of one target.

    Attributes
    ----------
    nbytes : int
        Bytes that are held.
    """

    def __init__(self, samples, a_pass):
        self._rows = [None] * len(samples)
        self._samples = samples
        self._pass = a_pass
        self.nbytes = 0
        with _lock:
            _living.add(self)

    def load(self):
        """Bring all samples to the target, and hold what the budget allows."""
        with _lock:
            held = sum(activations.nbytes for activations in _living)
        free = get_config()["memory_budget"] - held
        with closing(self._pass.iterate(self._samples)) as passed:
            for indices, (rows,) in passed:
                for i, row in zip(indices, rows, strict=True):
                    if self.nbytes + row.nbytes <= free:
                        self._rows[i] = row
                        self.nbytes += row.nbytes

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, indices):
        """Return a batch.

        Parameters
        ----------
        indices : sequence of int

        Returns
        -------
        torch.Tensor of shape (n, ...)
            float32 on the CPU; model inputs where the target is the input.
        """
        indices = [int(i) for i in indices]
        away = [i for i in indices if self._rows[i] is None]
        brought = {}
        if away:
            (rows,) = gather(self._pass, self._samples.take(away))
            brought = dict(zip(away, rows, strict=True))
        held = self._rows
        return self._pass.as_input([brought.get(i, held[i]) for i in indices])

    def split(self, size):
        """Yield batches in order."""
        for first in range(0, len(self), size):
            yield self[range(first, min(first + size, len(self)))]


def load_activations(backbone, target, samples, *, store, runtime):
    """Bring samples to a boundary and hold what memory allows.

    Parameters
    ----------
    backbone : Backbone
    target : Target
    samples : Samples or VectorSamples
    store : Store or None
    runtime : Runtime

    Returns
    -------
    Activations
    report : list of dict
        See `Pass.report`.
    """
    a_pass = Pass(backbone, [target], store=store, runtime=runtime)
    activations = Activations(samples, a_pass)
    activations.load()
    return activations, a_pass.report()
