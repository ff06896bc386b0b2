"""Activations of a set of samples, as training asks for them."""

import threading
from contextlib import closing
from weakref import WeakSet

from sktransfer.activations._batches import n_bytes
from sktransfer.activations._pass import Pass
from sktransfer.compute import in_forked_child
from sktransfer.utils import get_config

__all__ = ["Activations", "gather", "load_activations"]


_living: WeakSet["Activations"] = WeakSet()  # which share the memory budget
_lock = threading.Lock()


def _renew():
    global _lock
    _lock = threading.Lock()


in_forked_child(_renew)


class Activations:
    """The rows of one target for some samples, in batches by index.

    All that live at the same time, such as the views of a fit and its validation
    samples, share the memory budget. A row beyond it is brought again each time that it
    is asked for, from disk or through the network.

    Parameters
    ----------
    samples : Samples or VectorSamples
    a_pass : Pass
        With one target.

    Attributes
    ----------
    nbytes : int
        Number of bytes that are held.
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
                    size = n_bytes(row)
                    if self.nbytes + size <= free:
                        self._rows[i] = row
                        self.nbytes += size

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, indices):
        """Return a batch.

        Parameters
        ----------
        indices : sequence of int

        Returns
        -------
        torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
            float32 on the CPU; model inputs where the target is the input. Zeros fill
            up samples that are shorter than the longest, in their mask as well.
        """
        return self.to_batch(self.rows(indices))

    def rows(self, indices):
        """Return the rows of some samples (list), which :meth:`to_batch` joins."""
        indices = [int(i) for i in indices]
        away = [i for i in indices if self._rows[i] is None]
        brought = {}
        if away:
            (rows,) = gather(self._pass, self._samples.take(away))
            brought = dict(zip(away, rows, strict=True))
        return [brought[i] if i in brought else self._rows[i] for i in indices]

    def to_batch(self, rows):
        """Join rows to a batch; see :meth:`Pass.as_input`."""
        return self._pass.as_input(rows)

    def split(self, size):
        """Yield batches in order."""
        for first in range(0, len(self), size):
            yield self[range(first, min(first + size, len(self)))]


def gather(a_pass, samples):
    """Run a pass and put its rows in order.

    Parameters
    ----------
    a_pass : Pass
    samples : Samples or VectorSamples

    Returns
    -------
    list of list of (ndarray or dict of str to ndarray)
        For each target, one row per sample.
    """
    results = [[None] * len(samples) for _ in a_pass.targets]
    with closing(a_pass.iterate(samples)) as passed:
        for indices, rows in passed:
            for result, of_target in zip(results, rows, strict=True):
                for i, row in zip(indices, of_target, strict=True):
                    result[i] = row
    return results


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
