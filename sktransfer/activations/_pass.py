"""A pass: from samples to the rows of their activations at some targets."""

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Generator
from contextlib import closing, nullcontext
from functools import cached_property, partial
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from sktransfer.activations._batches import (
    digest_samples,
    n_bytes,
    read_batches,
    recall_batches,
    shape_of,
    to_tensor,
)
from sktransfer.activations._counts import add_computed, add_found
from sktransfer.activations._engine import Engine, joined
from sktransfer.activations._store import Cost, choose, make_namespace
from sktransfer.activations._targets import Route
from sktransfer.compute import (
    Shards,
    halving,
    sample_bar,
    split_state,
)
from sktransfer.inputs import as_run, preprocessing_key
from sktransfer.utils import describe

_logger = logging.getLogger("sktransfer")
# Below this number of multiply-adds, computing a sample is faster than a look-up.
_TRIVIAL = 100_000
_LOOKUP = 256  # samples fetched from the store at a time
_MOST_THREADS = 16  # each holds the activations of a batch


class Pass:
    """Computes, or reads from a store, the activations of samples at targets.

    A sample that is stored at all targets is read from there. One that is stored at the
    end of an earlier stage continues from the last such stage; any other is read and
    starts at the input. Activations on the way are stored where that saves time.

    What is stored decides the cost of a pass, and never its result: every pass stops at
    the end of every stage (:class:`Route`), rounds the activations there to the values
    that would be stored, and continues from these.

    Without a store everything is computed and nothing is kept. With ``on_error="warn"``
    samples that cannot be read are left out, and ``unreadable`` holds the reasons by
    their indices. ``costs`` describes what the last computation measured and decided,
    ``n_stored`` counts the samples found at all targets, and ``n_computed`` those that
    went through the network.
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
        self._namespaces, self._described = {}, {}
        self._key = runtime.key
        self._own_key = uuid.uuid4().hex  # for code that cannot be described
        self._input = as_run(backbone.preprocessing)

    @cached_property
    def _prepared(self):
        """What `preprocessing_key` returns, for all namespaces of the pass."""
        return preprocessing_key(self.backbone.preprocessing)

    def iterate(self, samples: Any) -> Generator[tuple[list[int], list], None, None]:
        """Yield indices of samples, and for each target the rows of these samples.

        Every index comes once, in any order, except those in ``unreadable``. The rows
        of a yield are of one shape.
        """
        if self.store is None:
            groups = [(None, [i]) for i in range(len(samples))]
            yield from self._compute(samples, groups, None, None, {})
            return
        digests = digest_samples(samples, self.unreadable)
        readable = [i for i, of_sample in enumerate(digests) if of_sample is not None]
        elsewhere: dict = {}  # indices by digest, of samples that others compute
        with self._claims() as claims:
            missing = yield from self._take_stored(digests, readable)
            while missing or elsewhere:
                for start, groups in self._group_by_start(missing):
                    yield from self._compute(samples, groups, start, claims, elsewhere)
                missing = {}
                if elsewhere:
                    claims.wait(len(elsewhere))
                    left = [i for indices in elsewhere.values() for i in indices]
                    found = yield from self._take_stored(digests, left)
                    missing = {key: found.pop(key) for key in claims.take(found)}
                    elsewhere.clear()
                    elsewhere |= found

    def as_input(self, rows: list) -> Any:
        """Join rows of the first target to the batch that the stages after it take.

        It is a tensor of shape (n, ...) or a dict of such, on the CPU; floating point
        numbers are float32. Rows that are shorter than others are padded with zeros.
        """
        batch = to_tensor(rows)
        if self.targets[0].boundary == "input":
            return self._input.to_input(batch)
        return batch

    def keys(self) -> list[bytes]:
        """Return, for each target, a hash of what its rows depend on but the sample."""
        return [self._namespace(t.boundary, t.tap).key for t in self.targets]

    def report(self) -> list[dict]:
        """Describe what the pass found, computed and decided, per boundary."""
        counts = {"n_stored": self.n_stored, "n_computed": self.n_computed}
        return [{**vars(cost), **counts} for cost in self.costs] or [
            {"boundary": name, **counts} for name in self.route.wanted
        ]

    def _claims(self):
        """Return claims on the computation of samples, whatever the targets are."""
        first = [*self.route.chain[1:], self.route.wanted[-1]][0]
        return self.store.claims(self._namespace(first).key)

    def _take_stored(self, digests, indices):
        """Yield what is stored at all targets; return the others by their digests.

        `indices` are those of the samples to look for.
        """
        namespaces = [self._namespace(t.boundary, t.tap) for t in self.targets]
        missing = defaultdict(list)
        for first in range(0, len(indices), _LOOKUP):
            chunk = indices[first : first + _LOOKUP]
            found = [s.get(self.store, [digests[i] for i in chunk]) for s in namespaces]
            whole = defaultdict(list)  # by shape
            for i in chunk:
                if all(digests[i] in rows for rows in found):
                    shapes = tuple(shape_of(rows[digests[i]]) for rows in found)
                    whole[shapes].append(i)
                else:
                    missing[digests[i]].append(i)
            for alike in whole.values():
                self.n_stored += len(alike)
                add_found(self.backbone, self.route.wanted[-1], len(alike))
                yield alike, [[rows[digests[i]] for i in alike] for rows in found]
        return missing

    def _group_by_start(self, missing):
        """Yield pairs of a boundary and the samples, by digest, that start there.

        It is the last boundary where they are stored; None for samples that must be
        read.
        """
        for boundary in self.route.starts if missing else ():
            here = self._namespace(boundary).contains(self.store, missing)
            if here:
                found = [key for key in missing if key in here]
                yield boundary, [(key, missing.pop(key)) for key in found]
        if missing:
            yield None, [*missing.items()]

    def _compute(self, samples, groups, start, claims, elsewhere):
        """Compute samples from a boundary on, store rows, and yield as `iterate`.

        Groups are pairs of a digest and the indices of the samples that share it, of
        which only the first is computed. Those that others compute go to `elsewhere`.
        """
        engines = self._engines(start, len(groups))
        way = f"{self.backbone.name}, {start or 'input'} to {self.route.wanted[-1]}"
        bar = sample_bar(way, len(groups), self.runtime.verbose)
        left = []  # groups of one sample, which have to be read after all
        is_image = self.backbone.preprocessing.tolerates_low_precision
        is_lone = len(groups) == 1 and is_image
        admit = partial(self._admit, start, claims, elsewhere)
        batches = self._batches(samples, groups, start, len(engines), left, admit)
        # If this is stopped, the threads that read and compute are, too.
        with Shards(engines) as shards, bar or nullcontext(), closing(batches):
            for (batch, state), seconds in _timed(batches):
                is_decided = self.store is None or start in self._kept_from
                kept = self._passing(start) if is_decided else None
                done = self._forward(shards, state, kept, is_lone=is_lone)
                self._count(start, len(batch))
                yield _expand(batch, done.wanted)
                if not is_decided:
                    self._kept_from[start] = self._decide(done, seconds, len(groups))
                self._keep([key for key, _ in batch], done, start, claims)
                if bar is not None:
                    bar.update(len(batch))
        if left:
            yield from self._compute(samples, left, None, claims, elsewhere)

    def _engines(self, start, n_samples):
        """Return the engines that compute batches, one per thread."""
        runtime, start = self.runtime, "input" if start is None else start
        taps = [(target.boundary, target.tap) for target in self.targets]
        steps = self.route.steps(start)
        engine = Engine(self.backbone, start, steps, taps, runtime)
        if runtime.device.type != "cpu" or self.backbone.impurity:
            return [engine]
        n_batches = -(-n_samples // self._size)
        n_threads = min(torch.get_num_threads(), _MOST_THREADS, n_batches)
        return [engine, *(engine.replica() for _ in range(n_threads - 1))]

    def _admit(self, start, claims, elsewhere, groups):
        """Claim groups; return those that are to be computed here, from a boundary on.

        The others are being computed, or stored by now, and go to `elsewhere`.
        """
        if self.store is None or not self._keeps_from(start):
            return groups
        mine = claims.take(key for key, _ in groups)
        stored = self._stored_beyond(start, mine)
        claims.release(stored)
        mine -= stored
        for key, indices in groups:
            if key not in mine:
                elsewhere[key] = elsewhere.get(key, []) + indices
        return [group for group in groups if group[0] in mine]

    def _stored_beyond(self, start, digests):
        """Return the digests that are stored nearer to the targets than a boundary."""
        nearer = takewhile(lambda boundary: boundary != start, self.route.starts)
        found = [self._namespace(b).contains(self.store, digests) for b in nearer]
        wanted = [self._namespace(t.boundary, t.tap) for t in self.targets]
        at_targets = [n.contains(self.store, digests) for n in wanted]
        return set.union(set.intersection(*at_targets), *found)

    def _keeps_from(self, start):
        """Return whether what is computed from a boundary on may be stored."""
        is_usual = self._size == self.runtime.batch_size  # or not halved
        return is_usual and self._kept_from.get(start) != set()

    def _batches(self, samples, groups, start, n_threads, left, admit):
        """Yield batches of stored activations; of samples read if the start is None."""
        size = n_threads * self._size
        if start is not None:
            fetch = partial(self._namespace(start).get, self.store)
            yield from recall_batches(fetch, groups, size, left, admit)
            return
        failed = None if self.unreadable is None else {}
        is_pinned = self.runtime.device.type == "cuda"
        how = {"failed": failed, "pin_memory": is_pinned, "admit": admit}
        prepare = self.backbone.preprocessing
        yield from read_batches(samples, prepare, groups, size, left, **how)
        for k, reason in (failed or {}).items():
            self.unreadable |= dict.fromkeys(groups[k][1], reason)

    def _forward(self, shards, state, kept, *, is_lone):
        """Compute a batch, with rows at the boundaries in `kept`.

        `is_lone` says whether it is the only sample of the pass.

        If the memory of the device is too small for a batch, that batch and all later
        ones are halved.
        """

        def compute(size):
            size = self.runtime.size_for(state, size)
            parts = split_state(state, size)
            return shards.map([(part, size, is_lone, kept) for part in parts])

        parts, self._size = halving(compute, self._size, self.runtime.device)
        return joined(parts)

    def _count(self, start, n):
        """Count samples that went through the network."""
        self.n_computed += n
        if start is not None:
            add_found(self.backbone, start, n)
        for step in self.route.steps("input" if start is None else start):
            add_computed(self.backbone, *step, n)

    def _decide(self, done, seconds, n_samples):
        """Choose the boundaries to store, by the cost of the first batch."""
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
            _logger.info("%s: %s", self.backbone.name, cost)
        return {cost.boundary for cost in self.costs if cost.kept}

    def _keep(self, keys, done, start, claims):
        """Put the rows of a batch into the store, and release the claims on them."""
        if self.store is None:
            return
        if self._keeps_from(start):
            self._put(keys, done, start)
        claims.release(keys)

    def _put(self, keys, done, start):
        kept = self._kept_from[start]
        found = [
            (self._namespace(target.boundary, target.tap), rows)
            for target, rows in zip(self.targets, done.wanted, strict=True)
            if target.boundary in kept
        ]
        found += [(self._namespace(b), done.passing[b]) for b in self._passing(start)]
        for on_disk in (True, False):
            new = {}
            for namespace, rows in found:
                if namespace.on_disk == on_disk:
                    new |= namespace.with_keys(keys, rows)
            self.store.put(new, on_disk=on_disk)

    def _passing(self, start):
        """Return the boundaries on the way that are stored (set of str)."""
        return self._kept_from.get(start, set()) - {*self.route.wanted} - {start}

    def _namespace(self, boundary, tap=None):
        """Return the namespace of a target; without a tap, of the activations."""
        if (boundary, tap) not in self._namespaces:
            if tap not in self._described:
                self._described[tap] = describe(nn.Identity() if tap is None else tap)
            how = self._described[tap], self._prepared, self._key, self._own_key
            made = make_namespace(self.backbone, boundary, tap, *how)
            self._namespaces[boundary, tap] = made
        return self._namespaces[boundary, tap]


def _pays_to_store(backbone, boundary):
    """Return whether reading activations can be faster than computing them."""
    is_costly_to_read = backbone.preprocessing.is_costly_to_read
    is_trivial = backbone.multiply_adds("input", boundary) < _TRIVIAL
    return backbone.impurity is None and (is_costly_to_read or not is_trivial)


def _timed(batches):
    """Yield batches, and the seconds that each took to arrive."""
    began = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - began
        began = time.perf_counter()


def _expand(groups, rows):
    """Repeat the row of each group, per target, for all samples of the group."""
    indices = [i for _, of_group in groups for i in of_group]
    sizes = [len(of_group) for _, of_group in groups]
    return indices, [
        [row for row, n in zip(of_target, sizes, strict=True) for _ in range(n)]
        for of_target in rows
    ]
