"""Bring samples to boundaries, from wherever they have been brought before."""

import logging
import time
import uuid
from collections import Counter, defaultdict
from contextlib import closing, nullcontext
from functools import partial

import torch
from torch import nn
from tqdm.auto import tqdm

from sktransfer.activations._batches import (
    n_bytes,
    read_batches,
    recall_batches,
    shape_after,
    shape_of,
    to_tensor,
)
from sktransfer.activations._engine import Engine, joined
from sktransfer.activations._store import Cost, Space, choose
from sktransfer.activations._targets import Route
from sktransfer.compute import Shards, halving, split_state
from sktransfer.inputs import (
    UnreadableSampleError,
    is_describable_preprocessing,
    preprocessing_key,
)
from sktransfer.utils import describe, digest

__all__ = ["Pass", "digest_samples", "forward_passes"]

_logger = logging.getLogger("sktransfer")
# Below this number of multiply-adds, a sample is computed faster than it is looked up.
_TRIVIAL = 100_000
_LOOKUP = 256  # samples fetched from the store at a time
_MOST_THREADS = 16  # each holds the activations of a batch
# Part of every key: another number where a pass begins to give other values.
_VERSION = "pass-2"
_counts: Counter[tuple[str, str, str]] = Counter()


def forward_passes():
    """Count the samples that went through each part of a backbone in this process.

    Returns
    -------
    collections.Counter
        Of ``(name of the backbone, start, stop)``. It is the live object: ``clear()``
        resets it.
    """
    return _counts


class Pass:
    """Brings samples to targets.

    A sample that is stored at all targets is taken from there. One that is stored at
    the end of a stage before them goes on from the last such stage; any other is read
    and starts at the input. Activations on the way are kept where that pays.

    What is kept, by whom and where decides what a pass costs, and never its result:
    every pass stops at the end of every stage (:class:`Route`), rounds the activations
    there to the values that would be stored, and goes on from these.

    Parameters
    ----------
    backbone : Backbone
    targets : list of Target
    store : Store or None
        None computes everything, and keeps nothing.
    runtime : Runtime
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out samples that cannot be read.

    Attributes
    ----------
    costs : list of Cost
        What the last computation measured and decided.
    unreadable : dict of int to str or None
        Which samples were left out, and why; None with "raise".
    n_stored, n_computed : int
        Samples found at all targets, and samples sent through the network.
    """

    def __init__(self, backbone, targets, *, store, runtime, on_error="raise"):
        self.backbone = backbone
        self.targets = targets
        self.runtime = runtime
        self.route = Route(backbone, [t.boundary for t in targets])
        self.store = store if _pays_to_store(backbone, self.route.wanted[-1]) else None
        self.costs = []
        self.unreadable = None if on_error == "raise" else {}
        self.n_stored = self.n_computed = 0
        self._size = runtime.batch_size  # halved where memory is short
        self._kept_from = {}
        self._spaces = {}
        self._key = runtime.key
        self._own_key = uuid.uuid4().hex  # of code that cannot be described

    def iterate(self, samples):
        """Bring samples to the targets.

        Parameters
        ----------
        samples : Samples or VectorSamples

        Yields
        ------
        indices : list of int
            Every index comes once, in any order, except those in ``unreadable``.
        rows : list of list of (ndarray or dict of str to ndarray)
            For each target, the rows of these samples, which are of one shape.
        """
        if self.store is None:
            groups = [(None, [i]) for i in range(len(samples))]
            yield from self._compute(samples, groups, None)
            return
        digests = digest_samples(samples, self.unreadable)
        missing = yield from self._take_stored(digests)
        for start, groups in self._group_by_start(missing):
            yield from self._compute(samples, groups, start)

    def as_input(self, rows):
        """Join rows of the first target to what the stages after it take.

        Parameters
        ----------
        rows : list of ndarray or list of dict of str to ndarray
            Zeros fill up those that are shorter than others.

        Returns
        -------
        torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
            On the CPU; floating point numbers are in float32.
        """
        batch = to_tensor(rows)
        if self.targets[0].boundary == "input":
            return self.backbone.preprocessing.to_input(batch)
        return batch

    def report(self):
        """Describe what the pass did and decided (list of dict, one per boundary)."""
        counts = {"n_stored": self.n_stored, "n_computed": self.n_computed}
        return [{**vars(cost), **counts} for cost in self.costs] or [
            {"boundary": name, **counts} for name in self.route.wanted
        ]

    def _take_stored(self, digests):
        """Yield what is stored at all targets; return the others by digest (dict)."""
        spaces = [self._space(t.boundary, t.tap) for t in self.targets]
        missing = defaultdict(list)
        readable = [i for i, of_sample in enumerate(digests) if of_sample is not None]
        for first in range(0, len(readable), _LOOKUP):
            chunk = readable[first : first + _LOOKUP]
            found = [s.get(self.store, [digests[i] for i in chunk]) for s in spaces]
            whole = defaultdict(list)  # by shape
            for i in chunk:
                if all(digests[i] in rows for rows in found):
                    shapes = tuple(shape_of(rows[digests[i]]) for rows in found)
                    whole[shapes].append(i)
                else:
                    missing[digests[i]].append(i)
            for indices in whole.values():
                self.n_stored += len(indices)
                yield indices, [[rows[digests[i]] for i in indices] for rows in found]
        return missing

    def _group_by_start(self, missing):
        """Yield (boundary, groups): the last boundary where equal samples are stored.

        The boundary is None for samples that have to be read.
        """
        for boundary in self.route.starts if missing else ():
            here = self._space(boundary).contains(self.store, missing)
            if here:
                found = [key for key in missing if key in here]
                yield boundary, [(key, missing.pop(key)) for key in found]
        if missing:
            yield None, [*missing.items()]

    def _compute(self, samples, groups, start):
        """Send samples on from a boundary, and keep what pays; yields as `iterate`.

        Groups are pairs of a digest and the indices of the samples that have it, of
        which one is computed.
        """
        engines = self._engines(start, len(groups))
        bar = tqdm(total=len(groups), unit="sample") if self.runtime.verbose else None
        left = []  # groups of one sample, which have to be read after all
        batches = self._batches(samples, groups, start, len(engines), left)
        # Whatever stops this, the threads that read and compute end with it.
        with Shards(engines) as shards, bar or nullcontext(), closing(batches):
            for (batch, state), seconds in _timed(batches):
                is_decided = self.store is None or start in self._kept_from
                kept = self._passing(start) if is_decided else None
                done = self._forward(shards, state, kept)
                self._count(start, len(batch))
                yield _expand(batch, done.wanted)
                if not is_decided:
                    self._kept_from[start] = self._decide(done, seconds, len(groups))
                self._keep([key for key, _ in batch], done, start)
                if bar is not None:
                    bar.update(len(batch))
        if left:
            yield from self._compute(samples, left, None)

    def _engines(self, start, n_samples):
        """Return what computes batches, one for each thread to use."""
        runtime, start = self.runtime, "input" if start is None else start
        taps = [(target.boundary, target.tap) for target in self.targets]
        steps = self.route.steps(start)
        engine = Engine(self.backbone, start, steps, taps, runtime)
        if runtime.device.type != "cpu" or self.backbone.impurity:
            return [engine]
        n_batches = -(-n_samples // self._size)
        n_threads = min(torch.get_num_threads(), _MOST_THREADS, n_batches)
        return [engine, *(engine.replica() for _ in range(n_threads - 1))]

    def _batches(self, samples, groups, start, n_threads, left):
        """Yield batches from the store, or of samples read if the start is None."""
        size = n_threads * self._size
        if start is not None:
            fetch = partial(self._space(start).get, self.store)
            yield from recall_batches(fetch, groups, size, left)
            return
        failed = None if self.unreadable is None else {}
        is_pinned = self.runtime.device.type == "cuda"
        how = {"failed": failed, "pin_memory": is_pinned}
        prepare = self.backbone.preprocessing
        yield from read_batches(samples, prepare, groups, size, left, **how)
        for k, reason in (failed or {}).items():
            self.unreadable |= dict.fromkeys(groups[k][1], reason)

    def _forward(self, shards, state, kept):
        """Compute a batch (Computed), and make rows at boundaries that are kept.

        Where the memory of the device is too small for a batch, it is halved, and so
        are those after it.
        """

        def compute(size):
            return shards.map([(part, size, kept) for part in split_state(state, size)])

        parts, self._size = halving(compute, self._size, self.runtime.device)
        return joined(parts)

    def _count(self, start, n):
        """Count samples that went through the network."""
        self.n_computed += n
        for step in self.route.steps("input" if start is None else start):
            _counts[self.backbone.name, *step] += n

    def _decide(self, done, seconds, n_samples):
        """Choose what is kept, by what the first batch took (set of boundaries)."""
        rows = {**done.passing}
        for target, of_target in zip(self.targets, done.wanted, strict=True):
            rows[target.boundary] = of_target
        size = len(done.wanted[0])
        measured = [
            Cost(
                boundary=boundary,
                asked=boundary in self.route.wanted,
                bytes_per_sample=sum(map(n_bytes, rows[boundary])) // size,
                compute_seconds=(seconds + reached) / size,
                keep_seconds=done.keep_seconds[boundary] / size,
            )
            for boundary, reached in done.compute_seconds.items()
        ]
        self.costs = choose(measured, n_samples, self.store.budget)
        for cost in self.costs:
            _logger.info(
                "%s at %r: %s (%d bytes per sample, %.2g s to compute, %.2g s to keep)",
                self.backbone.name,
                cost.boundary,
                cost.reason,
                cost.bytes_per_sample,
                cost.compute_seconds,
                cost.keep_seconds,
            )
        return {cost.boundary for cost in self.costs if cost.kept}

    def _keep(self, keys, done, start):
        """Put a batch into the store."""
        kept = self._kept_from.get(start)
        if not kept or self._size < self.runtime.batch_size:  # which has another key
            return
        found = [
            (self._space(target.boundary, target.tap), rows)
            for target, rows in zip(self.targets, done.wanted, strict=True)
            if target.boundary in kept
        ]
        found += [(self._space(b), done.passing[b]) for b in self._passing(start)]
        for on_disk in (True, False):
            new = {}
            for space, rows in found:
                new |= space.with_keys(keys, rows) if space.on_disk == on_disk else {}
            self.store.put(new, on_disk=on_disk)

    def _passing(self, start):
        """Return the boundaries on the way that are kept (set of str)."""
        return self._kept_from.get(start, set()) - {*self.route.wanted} - {start}

    def _space(self, boundary, tap=None):
        """Return the space of a target, by default of the activations themselves."""
        if (boundary, tap) not in self._spaces:
            self._spaces[boundary, tap] = self._make_space(boundary, tap)
        return self._spaces[boundary, tap]

    def _make_space(self, boundary, tap):
        backbone, preprocessing = self.backbone, self.backbone.preprocessing
        is_input = boundary == "input"
        of_tap = describe(nn.Identity() if tap is None else tap)
        is_known = (
            of_tap.is_complete
            and backbone.describe_prefix(boundary).is_complete
            and is_describable_preprocessing(preprocessing)
        )
        key = digest(
            _VERSION,
            preprocessing_key(preprocessing),
            backbone.prefix_fingerprint(boundary),
            of_tap.digest,
            self._key,
            "" if is_known else self._own_key,
        )
        if is_input:
            shape = preprocessing.prepared_shape
        else:
            shape = backbone.activation_shape(boundary)
        if tap is not None:
            shape = shape_after(tap, shape)
        return Space(key, shape, is_input, on_disk=is_known)


def _pays_to_store(backbone, boundary):
    """Whether looking up activations can be faster than computing them (bool)."""
    is_costly_to_read = backbone.preprocessing.is_costly_to_read
    is_trivial = backbone.multiply_adds("input", boundary) < _TRIVIAL
    return backbone.impurity is None and (is_costly_to_read or not is_trivial)


def _timed(batches):
    """Yield batches, and the seconds that each took to come."""
    began = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - began
        began = time.perf_counter()


def _expand(groups, rows):
    """Repeat, for each target, the row of a group for all samples of the group."""
    indices = [i for _, of_group in groups for i in of_group]
    sizes = [len(of_group) for _, of_group in groups]
    return indices, [
        [row for row, n in zip(of_target, sizes, strict=True) for _ in range(n)]
        for of_target in rows
    ]


def digest_samples(samples, failed=None):
    """Hash every sample by its content.

    Parameters
    ----------
    samples : Samples or VectorSamples
    failed : dict or None, default=None
        It gets the reasons why samples cannot be read, by their position, and their
        digests are None. By default such samples are errors.

    Returns
    -------
    list of bytes
        16 each; see :meth:`sktransfer.inputs.Samples.digest`.
    """
    if samples.digests is not None:
        return samples.digests
    digests = []
    for i in range(len(samples)):
        try:
            digests.append(samples.digest(i))
        except UnreadableSampleError as error:
            if failed is None:
                raise
            failed[i] = error.reason
            digests.append(None)
    return digests
