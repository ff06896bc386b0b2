"""Activations of a set of samples, as training asks for them."""

from contextlib import closing

from sktransfer.activations._pass import Pass, gather
from sktransfer.utils import get_config

__all__ = ["Activations", "load_activations"]


class Activations:
    """The rows of one target for some samples, in batches by index.

    Parameters
    ----------
    rows : list of ndarray or None
        None where a row did not fit the budget of memory: it is brought again each
        time that it is asked for, from disk or through the network.
    samples : Samples or VectorSamples
    a_pass : Pass
        Of one target.
    """

    def __init__(self, rows, samples, a_pass):
        self._rows = rows
        self._samples = samples
        self._pass = a_pass

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


def load_activations(backbone, target, samples, *, store, runtime, budget=None):
    """Bring samples to a boundary and hold what memory allows.

    Parameters
    ----------
    backbone : Backbone
    target : Target
    samples : Samples or VectorSamples
    store : Store or None
    runtime : Runtime
    budget : int, default=None
        Bytes that may be held. By default those of ``memory_budget``, see
        :func:`sktransfer.set_config`.

    Returns
    -------
    Activations
    report : list of dict
        See `Pass.report`.
    """
    a_pass = Pass(backbone, [target], store=store, runtime=runtime)
    kept = [None] * len(samples)
    free = get_config()["memory_budget"] if budget is None else budget
    with closing(a_pass.iterate(samples)) as passed:
        for indices, (rows,) in passed:
            for i, row in zip(indices, rows, strict=True):
                free -= row.nbytes
                if free >= 0:
                    kept[i] = row
    report = a_pass.report()
    return Activations(kept, samples, a_pass), report
