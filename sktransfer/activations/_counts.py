"""Counts of the samples that passes compute and find stored, in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sktransfer.backbones import Backbone
from sktransfer.compute import fork_lock

_passes: Counter[tuple[str, str, str]] = Counter()
_listening: list[PassCounts] = []
_lock = fork_lock(globals(), "_lock")  # threads would lose counts to each other


class PassCounts:
    """Samples that went through sections of a backbone, and that were found instead.

    Attributes
    ----------
    computed : Counter
        Samples by (name of the backbone, start, stop).
    found : Counter
        Samples by (name of the backbone, boundary), which would have been computed from
        the input.
    multiply_adds : Counter
        Multiply-adds that were "computed", and those that were "found" instead.
    trainings : Counter
        Trainings by (name of the backbone, boundary above which they were).
    trained : Counter
        Samples in all epochs of these trainings.
    """

    def __init__(self) -> None:
        self.computed: Counter[tuple[str, str, str]] = Counter()
        self.found: Counter[tuple[str, str]] = Counter()
        self.multiply_adds: Counter[str] = Counter(computed=0, found=0)
        self.trainings: Counter[tuple[str, str]] = Counter()
        self.trained: Counter[tuple[str, str]] = Counter()


def forward_passes() -> Counter[tuple[str, str, str]]:
    """Count the samples that went through each section of a backbone in this process.

    The keys are (name of the backbone, start, stop). The result is the live counter:
    its ``clear()`` resets the counts.
    """
    return _passes


@contextmanager
def count_passes() -> Iterator[PassCounts]:
    """Count what all passes of this process compute and find in a `with` block."""
    counts = PassCounts()
    _listening.append(counts)
    try:
        yield counts
    finally:
        _listening.remove(counts)


def add_computed(backbone: Backbone, start: str, stop: str, n: int) -> None:
    """Count samples that went through a section."""
    key = backbone.name, start, stop
    with _lock:
        _passes[key] += n
        for counts in _listening:
            counts.computed[key] += n
            work = n * backbone.multiply_adds(start, stop)
            counts.multiply_adds["computed"] += work


def add_found(backbone: Backbone, boundary: str, n: int) -> None:
    """Count samples whose activations at a boundary were stored."""
    with _lock:
        for counts in _listening:
            counts.found[backbone.name, boundary] += n
            saved = n * backbone.multiply_adds("input", boundary)
            counts.multiply_adds["found"] += saved


def add_trained(backbone: Backbone, boundary: str, n: int) -> None:
    """Count a training above a boundary, by the samples in all of its epochs."""
    with _lock:
        for counts in _listening:
            counts.trainings[backbone.name, boundary] += 1
            counts.trained[backbone.name, boundary] += n
