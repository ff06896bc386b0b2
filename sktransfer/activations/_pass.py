"""Bring samples to boundaries, from wherever they have been brought before."""

import logging
import time
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from tqdm.auto import tqdm

from sktransfer.activations._digest import digest, digest_samples
from sktransfer.activations._engine import lay_out, run_section
from sktransfer.activations._price import Price, choose
from sktransfer.activations._route import Route
from sktransfer.activations._rows import as_stored, to_rows, to_tensor
from sktransfer.activations._space import Space
from sktransfer.compute import halving, pad_rows, synchronise
from sktransfer.inputs import iter_batches

__all__ = ["Pass", "Target", "forward_passes", "gather"]

_logger = logging.getLogger("sktransfer")
# A sample goes through fewer multiply-adds than these in the time of a look-up.
_TRIVIAL = 100_000
_LOOKUP = 256  # samples fetched from the store at a time
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
        self.store = None if is_vector and cheap else store
        self.prices = []
        self.unreadable = None if on_error == "raise" else {}
        self._kept_from = {}
        self._spaces = {}
        self._measuring = False
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
        for boundary in self.route.starts:
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
        key = digest(
            _VERSION,
            backbone.preprocessing.key(),
            backbone.prefix_fingerprint(boundary),
            repr(tap),
            self.runtime.key,
        )
        if is_input:
            shape = _prepared_shape(backbone.preprocessing)
        else:
            shape = backbone.activation_shape(boundary)
        return Space(key, tuple(tap(torch.zeros(1, *shape)).shape[1:]), is_input)

    def _compute(self, samples, indices, digests, start):
        """Send samples on from a boundary and keep what pays; yields as `iterate`."""
        twins = _twins(indices, digests)
        steps = self.route.steps("input" if start is None else start)
        kept = self._kept_from.get(start)
        self._measuring = digests is not None and kept is None
        # Whatever stops this, the threads that read are gone then.
        under_way = closing(self._batches(samples, twins, digests, start))
        with _bar(len(twins), self.runtime.verbose) as bar, under_way as ready:
            for groups, batch, seconds in ready:
                states, taps, clock = self._forward(batch, start or "input", steps)
                rows = [self._to_rows(t.boundary, z) for t, z in self._tapped(taps)]
                yield _expand(groups, rows)
                if digests is not None:
                    if kept is None:
                        clock = {b: seconds + t for b, t in clock.items()}
                        kept = self._decide(states, clock, rows, len(twins))
                        self._kept_from[start], self._measuring = kept, False
                    keys = [digests[group[0]] for group in groups]
                    self._keep(keys, states, rows, kept, start)
                self.n_computed += len(batch)
                if bar is not None:
                    bar.update(len(batch))

    def _tapped(self, taps):
        return zip(self.targets, taps, strict=True)

    def _to_rows(self, boundary, z):
        """Cut a batch into rows; model inputs are kept as they are."""
        is_input = boundary == "input"
        return to_rows(z, "float32" if is_input else self.runtime.activation_dtype)

    def _batches(self, samples, twins, digests, start):
        """Yield groups of twins, their batch at the start, and the seconds it took."""
        size, clock = self.runtime.batch_size, time.perf_counter()
        if start is None:
            with closing(self._read(samples, twins, size)) as read:
                for groups, batch in read:
                    yield groups, batch, time.perf_counter() - clock
                    clock = time.perf_counter()
            return
        space = self._space(start)
        for first in range(0, len(twins), size):
            groups = twins[first : first + size]
            chunk = [group[0] for group in groups]
            found = space.get(self.store, [digests[i] for i in chunk])
            rows = [found.get(digests[i]) for i in chunk]
            gone = [i for i, row in zip(chunk, rows, strict=True) if row is None]
            if gone:  # forgotten since it was looked up
                again = iter(self._read_again(samples.take(gone), start))
                rows = [next(again) if row is None else row for row in rows]
            yield groups, to_tensor(rows), time.perf_counter() - clock
            clock = time.perf_counter()

    def _read(self, samples, twins, size):
        """Yield groups of twins and their batch, without those that cannot be read."""
        failed = None if self.unreadable is None else {}
        batches = iter_batches(
            samples.take([group[0] for group in twins]),
            self.backbone.preprocessing,
            size,
            pin_memory=self.runtime.device.type == "cuda",
            failed=failed,
        )
        with closing(batches):
            for number, batch in enumerate(batches):
                groups = []
                for k, group in enumerate(twins[number * size :][:size], number * size):
                    if k in (failed or ()):
                        self.unreadable |= dict.fromkeys(group, failed[k])
                    else:
                        groups.append(group)
                if groups:
                    yield groups, batch

    def _read_again(self, samples, boundary):
        fresh = Pass(
            self.backbone, [Target(boundary)], store=None, runtime=self.runtime
        )
        return gather(fresh, samples)[0]

    def _forward(self, batch, start, steps):
        """Return activations, what the targets are of them, and the seconds it took.

        Where the memory of the device is too small for a batch, it goes in halves, and
        so do those after it.
        """

        def compute(size):
            # Of the runtime, as batches are filled up to its size.
            self.runtime = replace(self.runtime, batch_size=size)
            return [self._run(z, start, steps) for z in batch.split(size)]

        runtime = self.runtime
        parts, _ = halving(compute, runtime.batch_size, runtime.device)
        if len(parts) == 1:
            return parts[0]
        states, taps, clocks = zip(*parts, strict=True)
        return (
            {b: torch.cat([part[b] for part in states]) for b in states[0]},
            [torch.cat(of_target) for of_target in zip(*taps, strict=True)],
            {b: sum(part[b] for part in clocks) for b in clocks[0]},
        )

    def _run(self, batch, start, steps):
        """Compute the steps from a batch at a boundary, rounded where each ends."""
        runtime, n = self.runtime, len(batch)
        z = pad_rows(batch.to(runtime.device, non_blocking=True), runtime.batch_size)
        z = z if start == "input" else lay_out(z, runtime.precision)
        states, clock = {start: z}, {start: 0.0}
        began = time.perf_counter()
        for first, last in steps:
            z = states[first]
            if first == "input":
                z = self.backbone.preprocessing.to_input(z)
            z = run_section(self.backbone, first, last, z, runtime)
            z = as_stored(z, runtime.activation_dtype)
            states[last] = lay_out(z, runtime.precision)
            _counts[self.backbone.name, first, last] += n
            if self._measuring:
                synchronise(runtime.device)
            clock[last] = time.perf_counter() - began
        taps = [target.tap(states[target.boundary])[:n] for target in self.targets]
        return {name: z[:n] for name, z in states.items()}, taps, clock

    def _decide(self, states, clock, rows, n_samples):
        """Measure what keeping costs, and choose what is kept (set of boundaries)."""
        measured = []
        asked = set(self.route.wanted)
        for boundary, z in states.items():
            began = time.perf_counter()
            kept_rows = self._to_rows(boundary, z)
            seconds = time.perf_counter() - began
            if boundary in asked:
                at = [t.boundary for t in self.targets].index(boundary)
                kept_rows = rows[at]
            measured.append(
                Price(
                    boundary=boundary,
                    asked=boundary in asked,
                    bytes_per_sample=kept_rows[0].nbytes,
                    compute_seconds=clock[boundary] / len(z),
                    keep_seconds=seconds / len(z),
                )
            )
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

    def _keep(self, digests, states, rows, kept, start):
        """Put a batch into the store."""
        new = {}
        for target, target_rows in zip(self.targets, rows, strict=True):
            if target.boundary in kept:
                space = self._space(target.boundary, target.tap)
                new |= space.with_keys(digests, target_rows)
        for boundary in kept - {*self.route.wanted} - {start}:
            passing = self._to_rows(boundary, states[boundary])
            new |= self._space(boundary).with_keys(digests, passing)
        self.store.put(new)


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


def _expand(groups, rows):
    """Give each sample of a group the row of its first one."""
    indices = [i for group in groups for i in group]
    sizes = [len(group) for group in groups]
    return indices, [
        [row for row, n in zip(of_target, sizes, strict=True) for _ in range(n)]
        for of_target in rows
    ]
