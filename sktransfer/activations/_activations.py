"""The rows of a pass: held in memory within a budget, indexed in batches."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from weakref import WeakSet

from sktransfer.activations._batches import n_bytes
from sktransfer.activations._pass import Pass
from sktransfer.activations._store import Store
from sktransfer.activations._targets import Target
from sktransfer.backbones import Backbone
from sktransfer.compute import Runtime, fork_lock
from sktransfer.utils import get_config

_living: WeakSet["Activations"] = WeakSet()  # these share the memory budget
_lock = fork_lock(globals(), "_lock")


class Activations:
    """The rows of one target for some samples, indexed in batches.

    All instances alive, such as those of the views and the validation samples of a fit,
    share the memory budget. Rows beyond it are not held, but loaded or computed again
    whenever they are indexed. ``nbytes`` counts the bytes that are held.
    """

    def __init__(self, samples, a_pass):
        self._rows = [None] * len(samples)
        self._samples = samples
        self._pass = a_pass
        self.nbytes = 0
        with _lock:
            _living.add(self)

    def load(self) -> None:
        """Compute or read the rows of all samples; hold those that fit the budget."""
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

    def __getitem__(self, indices: Any) -> Any:
        """Return a batch by its indices; see :meth:`Pass.as_input`."""
        return self.to_batch(self.rows(indices))

    def rows(self, indices: Any) -> list:
        """Return the rows of some samples, which :meth:`to_batch` joins."""
        indices = [int(i) for i in indices]
        missing = [i for i in indices if self._rows[i] is None]
        found = {}
        if missing:
            (rows,) = gather(self._pass, self._samples.take(missing))
            found = dict(zip(missing, rows, strict=True))
        return [found[i] if i in found else self._rows[i] for i in indices]

    def to_batch(self, rows: list) -> Any:
        """Join rows to a batch; see :meth:`Pass.as_input`."""
        return self._pass.as_input(rows)

    def split(self, size: int) -> Iterator:
        """Yield all samples in batches, in order."""
        for first in range(0, len(self), size):
            yield self[range(first, min(first + size, len(self)))]


def gather(a_pass: Pass, samples: Any) -> list[list]:
    """Run a pass; return, for each target, one row per sample in order."""
    results = [[None] * len(samples) for _ in a_pass.targets]
    with closing(a_pass.iterate(samples)) as passed:
        for indices, rows in passed:
            for result, of_target in zip(results, rows, strict=True):
                for i, row in zip(indices, of_target, strict=True):
                    result[i] = row
    return results


def load_activations(
    backbone: Backbone,
    target: Target,
    samples: Any,
    *,
    store: Store | None,
    runtime: Runtime,
) -> tuple[Activations, list[dict]]:
    """Bring samples to a target; return their activations and the pass's report."""
    a_pass = Pass(backbone, [target], store=store, runtime=runtime)
    activations = Activations(samples, a_pass)
    activations.load()
    return activations, a_pass.report()
