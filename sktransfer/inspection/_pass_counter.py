"""What a search or any other work computed, found in the store, and trained."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from sktransfer.activations import PassCounts, count_passes


class PassCounter:
    """Count what is computed in a `with` block, found in the store, and trained.

    It counts the passes through frozen stages and the trainings above them, of all
    estimators of this package in this process, so also those of a search, unless it
    runs in other processes (``n_jobs``). The multiply-adds are those of the passes.

    The multiply-adds of a section are those of the example that the backbone was traced
    with. For images, these are exact, if all have the size of the example; for texts
    and recordings, they are nominal, as their work depends on their lengths.

    Attributes
    ----------
    computed : pandas.DataFrame
        ``backbone``, ``start`` and ``stop`` of each section, and the number of
        ``samples`` that went through it.
    found : pandas.DataFrame
        ``backbone`` and ``boundary``, and the number of ``samples`` whose activations
        were found there. Without the store, they would have been computed.
    trained : pandas.DataFrame
        ``backbone`` and ``boundary`` above which stages and a head were trained, the
        number of ``trainings`` (each phase of gradual unfreezing is one), and of the
        ``samples`` in all of their epochs. A head that is solved, be it as the start of
        a training, is one above the last stage, and takes each sample once.
    multiply_adds : int
        Multiply-adds that were computed.
    multiply_adds_without_store : int
        Multiply-adds that would have been computed without the store.

    See Also
    --------
    FreezeDepthDisplay : Draws the results of a search.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.inspection import PassCounter
    >>> images = load_digits().images[:4] / 16
    >>> extractor = PretrainedFeatureExtractor(stage="blocks.1", image_size=40)
    >>> with PassCounter() as counter:
    ...     for _ in range(3):
    ...         _ = extractor.fit_transform(images)
    >>> int(counter.found["samples"].sum())
    8
    >>> counter.multiply_adds_without_store / counter.multiply_adds
    3.0
    """

    def __init__(self) -> None:
        self._counts = PassCounts()

    def __enter__(self) -> Self:
        self._counting = count_passes()
        self._counts = self._counting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counting.__exit__(*error)

    @property
    def computed(self) -> pd.DataFrame:
        """Samples that went through each section."""
        return _table(self._counts.computed, ["backbone", "start", "stop"])

    @property
    def found(self) -> pd.DataFrame:
        """Samples whose activations were found at each boundary."""
        return _table(self._counts.found, ["backbone", "boundary"])

    @property
    def trained(self) -> pd.DataFrame:
        """Trainings above each boundary, and samples in their epochs."""
        table = _table(self._counts.trained, ["backbone", "boundary"])
        table.insert(2, "trainings", [*self._counts.trainings.values()])
        return table

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that were computed."""
        return self._counts.multiply_adds["computed"]

    @property
    def multiply_adds_without_store(self) -> int:
        """Multiply-adds that would have been computed without the store."""
        return sum(self._counts.multiply_adds.values())

    def __str__(self) -> str:
        """Return the counts in words."""
        done, without = self.multiply_adds, self.multiply_adds_without_store
        read = self.computed.query("start == 'input'").groupby("backbone")["samples"]
        rows = [
            f"{n:,} samples read and computed by {name}"
            for name, n in read.max().items()
        ]
        rows += [
            f"{row.samples:,} samples found at {row.boundary} of {row.backbone}"
            for row in self.found.itertuples()
        ]
        rows += [
            f"{row.trainings:,} trainings above {row.boundary} of {row.backbone}, of "
            f"{row.samples:,} samples in all epochs"
            for row in self.trained.itertuples()
        ]
        times = f", {without / done:.3g} times as many" if done else ""
        rows.append(
            f"{done / 1e9:,.3g} billion multiply-adds, and without the store "
            f"{without / 1e9:,.3g} billion{times}"
        )
        return "\n".join(rows)


def _table(counts, columns):
    """Return counts by tuples as a table, with their names as columns."""
    rows = [(*names, n) for names, n in counts.items()]
    return pd.DataFrame(rows, columns=[*columns, "samples"])
