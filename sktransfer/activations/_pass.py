"""Bring samples to boundaries, from wherever they have been brought before."""

import logging
import time
import uuid
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from tqdm.auto import tqdm

from sktransfer.activations._digest import digest, digest_samples
from sktransfer.activations._engine import Engine, joined
from sktransfer.activations._price import Price, choose
from sktransfer.activations._route import Route
from sktransfer.activations._rows import to_tensor
from sktransfer.activations._space import Space
from sktransfer.compute import Shards, halving
from sktransfer.inputs import (
    is_describable_preprocessing,
    iter_batches,
    preprocessing_key,
)
from sktransfer.utils import describe

__all__ = ["Pass", "Target", "forward_passes", "gather"]

_logger = logging.getLogger("sktransfer")
# A sample goes through fewer multiply-adds than these in the time of a look-up.
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
        starts anew.
    """
    return _counts


@dataclass(frozen=True)
class Target:
    """An activation that is wanted.

    Attributes
    ----------
    boundary : str
        Where.
    tap : torch.nn.Module
        From the activation there to what is wanted of it, such as a `Pool`.
    """

    boundary: str
    tap: nn.Module = field(default_factory=nn.Identity)


class Pass:
    """Brings samples to targets.

    A sample that is stored at all targets is taken from there. One that is stored at
    the end of a stage before them goes on from the last such; any other is read and
    starts at the input. What appears on the way is kept where that pays.

    What is kept, by whom and where decides what a pass costs, and never what it gives:
    every pass stops at the end of every stage (:class:`Route`), rounds what it finds
    there to what would be stored, and goes on from that.

    Parameters
    ----------
    backbone : Backbone
    targets : list of Target
    store : Store or None
        None computes everything anew and keeps nothing.
    runtime : Runtime
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out samples that cannot be read.

    Attributes
    ----------
    prices : list of Price
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
        wanted = self.route.wanted
        cheap = backbone.multiply_adds("input", wanted[-1]) < _TRIVIAL
        is_vector = backbone.preprocessing.kind == "vector"
        is_worth_it = backbone.impurity is None and not (is_vector and cheap)
        self.store = store if is_worth_it else None
        self.prices = []
        self.unreadable = None if on_error == "raise" else {}
        self._kept_from = {}
        self._spaces = {}
        self._forgotten = []
        self._is_halved = False
        self._key = runtime.key
        self._own_key = uuid.uuid4().hex  # of what cannot be described: it may change
        self.n_stored = self.n_computed = 0

    def iterate(self, samples):
        """Bring samples to the targets.

        Parameters
        ----------
        samples : Samples or VectorSamples

        Yields
        ------
        indices : list of int
            Every index comes once, in any order, but those in ``unreadable``.
        rows : list of list of ndarray
            For each target, the row of each of these samples.
        """
        if self.store is None:
            yield from self._compute(samples, range(len(samples)), None, None)
            return
        digests = digest_samples(samples, self.unreadable)
        missing = yield from self._take_stored(digests)
        for start, indices in self._group_by_start(digests, missing):
            yield from self._compute(samples, indices, digests, start)

    def as_input(self, rows):
        """Join rows of the first target to what the stages after it take.

        Parameters
        ----------
        rows : list of ndarray

        Returns
        -------
        torch.Tensor of shape (n, ...)
            float32, on the CPU.
        """
        batch = to_tensor(rows)
        if self.targets[0].boundary == "input":
            return self.backbone.preprocessing.to_input(batch)
        return batch

    def report(self):
        """Return what the pass did and decided (list of dict, one a boundary)."""
        counts = {"n_stored": self.n_stored, "n_computed": self.n_computed}
        return [{**vars(price), **counts} for price in self.prices] or [
            {"boundary": name, **counts} for name in self.route.wanted
        ]

    def _take_stored(self, digests):
        """Yield what is stored at all targets; return the indices of the others."""
        spaces = [self._space(t.boundary, t.tap) for t in self.targets]
        missing = []
        readable = [i for i, of_sample in enumerate(digests) if of_sample is not None]
        for first in range(0, len(readable), _LOOKUP):
            chunk = readable[first : first + _LOOKUP]
            wanted = [digests[i] for i in chunk]
            found = [space.get(self.store, wanted) for space in spaces]
            whole = [i for i in chunk if all(digests[i] in rows for rows in found)]
            if whole:
                self.n_stored += len(whole)
                yield whole, [[rows[digests[i]] for i in whole] for rows in found]
            missing += sorted({*chunk} - {*whole})
        return missing

    def _group_by_start(self, digests, missing):
        """Yield (boundary, indices): the last boundary where samples are stored.

        The boundary is None for samples that have to be read.
        """
        for boundary in self.route.starts if missing else ():
            space = self._space(boundary)
            here = space.contains(self.store, [digests[i] for i in missing])
            found = [i for i in missing if digests[i] in here]
            missing = [i for i in missing if digests[i] not in here]
            if found:
                yield boundary, found
        if missing:
            yield None, missing

    def _space(self, boundary, tap=None):
        """Return what the rows at a boundary are known by, beside the sample."""
        if (boundary, tap) not in self._spaces:
            made = self._make_space(boundary, nn.Identity() if tap is None else tap)
            self._spaces[boundary, tap] = made
        return self._spaces[boundary, tap]

    def _make_space(self, boundary, tap):
        backbone, is_input = self.backbone, boundary == "input"
        key, on_disk = self._describe(boundary, tap)
        if is_input:
            shape = _prepared_shape(backbone.preprocessing)
        else:
            shape = backbone.activation_shape(boundary)
        shape = tuple(tap(torch.zeros(1, *shape)).shape[1:])
        return Space(key, shape, is_input, on_disk)

    def _describe(self, boundary, tap):
        """Return the key of a space, and whether it holds in other processes."""
        backbone, of_tap = self.backbone, describe(tap)
        preprocessing = backbone.preprocessing
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
        return key, is_known

    def _compute(self, samples, indices, digests, start, *, alone=False):
        """Send samples on from a boundary and keep what pays; yields as `iterate`.

        Equal samples go through the network once; with `alone`, each by itself.
        """
        twins = _twins(indices, None if alone else digests)
        engines = self._engines(start, len(twins))
        kept = self._kept_from.get(start)
        # Whatever stops this, the threads that read and compute are gone then.
        under_way = closing(self._batches(samples, twins, digests, start, len(engines)))
        bar = _bar(len(twins), self.runtime.verbose)
        left = []
        with Shards(engines) as shards, bar as bar, under_way as ready:
            for groups, keys, batch, seconds in ready:
                undecided = digests is not None and kept is None
                passing = None if undecided else self._passing(kept, start)
                done = self._forward(shards, engines, batch, passing)
                self._count(start, len(batch))
                if digests is not None:
                    groups = _without_twins(groups, keys, left)
                yield _expand(groups, done.wanted)
                if undecided:
                    kept = self._decide(done, seconds, len(batch), len(twins))
                    self._kept_from[start] = kept
                if kept and not self._is_halved:  # which would have another key
                    self._keep(keys, done, kept, start)
                if bar is not None:
                    bar.update(len(batch))
        left += self._forgotten
        self._forgotten = []
        if left:
            yield from self._compute(samples, left, digests, None, alone=True)

    def _engines(self, start, n_samples):
        """Return what computes batches, for as many threads as there are to use."""
        runtime, start = self.runtime, "input" if start is None else start
        taps = [(target.boundary, target.tap) for target in self.targets]
        steps = self.route.steps(start)
        engine = Engine(self.backbone, start, steps, taps, runtime)
        if runtime.device.type != "cpu" or self.backbone.impurity:
            return [engine]
        n_batches = -(-n_samples // runtime.batch_size)
        n_threads = min(torch.get_num_threads(), _MOST_THREADS, n_batches)
        return [engine, *(engine.replica() for _ in range(n_threads - 1))]

    def _count(self, start, n):
        """Count samples that went through the network."""
        self.n_computed += n
        for step in self.route.steps("input" if start is None else start):
            _counts[self.backbone.name, *step] += n

    def _batches(self, samples, twins, digests, start, n_threads):
        """Yield groups of twins, their keys, their batch, and the seconds it took.

        The key of a sample that is no longer what was hashed is None.
        """
        size, clock = n_threads * self.runtime.batch_size, time.perf_counter()
        if start is None:
            batches = self._read(samples, twins, digests, size)
        else:
            batches = self._recall(twins, digests, start, size)
        with closing(batches):
            for groups, keys, batch in batches:
                yield groups, keys, batch, time.perf_counter() - clock
                clock = time.perf_counter()

    def _recall(self, twins, digests, start, size):
        """Yield groups of twins, their keys, and their batch, from the store."""
        space = self._space(start)
        for first in range(0, len(twins), size):
            groups = twins[first : first + size]
            found = space.get(self.store, [digests[group[0]] for group in groups])
            gone = [group for group in groups if digests[group[0]] not in found]
            groups = [group for group in groups if digests[group[0]] in found]
            if gone:  # forgotten since it was looked up
                self._forgotten += [i for group in gone for i in group]
            keys = [digests[group[0]] for group in groups]
            if groups:
                yield groups, keys, to_tensor([found[key] for key in keys])

    def _read(self, samples, twins, digests, size):
        """Yield groups of twins, their keys, and their batch, as far as they can be."""
        failed, changed = None if self.unreadable is None else {}, set()
        expected = digests and [digests[group[0]] for group in twins]
        batches = iter_batches(
            samples.take([group[0] for group in twins]),
            self.backbone.preprocessing,
            size,
            pin_memory=self.runtime.device.type == "cuda",
            failed=failed,
            expected=expected,
            changed=changed,
        )
        with closing(batches):
            for number, batch in enumerate(batches):
                groups, keys = [], []
                for k, group in enumerate(twins[number * size :][:size], number * size):
                    if k in (failed or ()):
                        self.unreadable |= dict.fromkeys(group, failed[k])
                        continue
                    is_known = expected and k not in changed
                    groups.append(group)
                    keys.append(expected[k] if is_known else None)
                if groups:
                    yield groups, keys, batch

    def _forward(self, shards, engines, batch, passing):
        """Compute a batch (Computed).

        Where the memory of the device is too small for a batch, it goes in halves, and
        so do those after it.
        """

        def compute(size):
            self.runtime = replace(self.runtime, batch_size=size)
            for engine in engines:
                engine.size, engine.kept = size, passing
            return shards.map(batch.split(size))

        runtime = self.runtime
        parts, size = halving(compute, runtime.batch_size, runtime.device)
        if size < runtime.batch_size:
            self._is_halved = True
        return joined(parts)

    def _decide(self, done, seconds, size, n_samples):
        """Choose what is kept, by what the first batch took (set of boundaries)."""
        asked = set(self.route.wanted)
        rows = {**done.passing}
        for target, of_target in zip(self.targets, done.wanted, strict=True):
            rows[target.boundary] = of_target
        measured = [
            Price(
                boundary=boundary,
                asked=boundary in asked,
                bytes_per_sample=rows[boundary][0].nbytes,
                compute_seconds=(seconds + reached) / size,
                keep_seconds=done.keep_seconds[boundary] / size,
            )
            for boundary, reached in done.compute_seconds.items()
        ]
        self.prices = choose(measured, n_samples, self.store.budget)
        for price in self.prices:
            _logger.info(
                "%s at %r: %s (%d bytes a sample, %.2g s to compute, %.2g s to keep)",
                self.backbone.name,
                price.boundary,
                price.reason,
                price.bytes_per_sample,
                price.compute_seconds,
                price.keep_seconds,
            )
        return {price.boundary for price in self.prices if price.kept}

    def _keep(self, digests, done, kept, start):
        """Put a batch into the store."""
        new = {True: {}, False: {}}
        for target, rows in zip(self.targets, done.wanted, strict=True):
            if target.boundary in kept:
                space = self._space(target.boundary, target.tap)
                new[space.on_disk] |= space.with_keys(digests, rows)
        for boundary in self._passing(kept, start):
            space, rows = self._space(boundary), done.passing[boundary]
            new[space.on_disk] |= space.with_keys(digests, rows)
        for on_disk, rows in new.items():
            self.store.put(rows, on_disk=on_disk)

    def _passing(self, kept, start):
        """Return the boundaries on the way that are kept (set of str)."""
        return (kept or set()) - {*self.route.wanted} - {start}


def _bar(n, verbose):
    # tqdm starts a thread even for bars that it does not show.
    return tqdm(total=n, unit="sample") if verbose else nullcontext()


def _prepared_shape(preprocessing):
    """Shape of one sample in front of `to_input` (tuple)."""
    shape = preprocessing.input_shape
    return shape if preprocessing.kind == "vector" else (*shape[1:], shape[0])


def gather(a_pass, samples):
    """Run a pass and put its rows in order.

    Parameters
    ----------
    a_pass : Pass
    samples : Samples or VectorSamples

    Returns
    -------
    list of list of ndarray
        For each target, one row a sample.
    """
    results = [[None] * len(samples) for _ in a_pass.targets]
    with closing(a_pass.iterate(samples)) as passed:
        for indices, rows in passed:
            for result, of_target in zip(results, rows, strict=True):
                for i, row in zip(indices, of_target, strict=True):
                    result[i] = row
    return results


def _twins(indices, digests):
    """Group indices of samples that are alike; without digests each is alone."""
    if digests is None:
        return [[i] for i in indices]
    groups = {}
    for i in indices:
        groups.setdefault(digests[i], []).append(i)
    return list(groups.values())


def _without_twins(groups, keys, left):
    """Leave out, of samples that have changed, those that were like them before."""
    for group, key in zip(groups, keys, strict=True):
        left += group[1:] if key is None else []
    return [
        group[:1] if key is None else group
        for group, key in zip(groups, keys, strict=True)
    ]


def _expand(groups, rows):
    """Give each sample of a group the row of its first one."""
    indices = [i for group in groups for i in group]
    sizes = [len(group) for group in groups]
    return indices, [
        [row for row, n in zip(of_target, sizes, strict=True) for _ in range(n)]
        for of_target in rows
    ]
