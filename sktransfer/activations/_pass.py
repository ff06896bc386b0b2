"""Bring samples to boundaries, from wherever they have been brought before."""

import logging
import time
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import nn
from tqdm.auto import tqdm

from sktransfer.activations._digest import digest, digest_samples
from sktransfer.activations._engine import run_section
from sktransfer.activations._price import Price, choose
from sktransfer.activations._rows import to_rows, to_tensor
from sktransfer.compute import halving, synchronise
from sktransfer.inputs import iter_batches
from sktransfer.utils import get_config

__all__ = ["Pass", "Target", "forward_passes", "gather"]

_logger = logging.getLogger("sktransfer")
# A sample goes through fewer multiply-adds than these in the time of a look-up.
_TRIVIAL = 100_000
_LOOKUP = 256  # samples fetched from the store at a time
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
    a boundary before them goes on from the last such; any other is read and starts at
    the input. What appears on the way is kept where that pays.

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
        self.order = backbone.in_order(t.boundary for t in targets)
        cheap = backbone.multiply_adds("input", self.order[-1]) < _TRIVIAL
        is_vector = backbone.preprocessing.kind == "vector"
        self.store = None if is_vector and cheap else store
        self.prices = []
        self.unreadable = None if on_error == "raise" else {}
        self._kept_from = {}
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
            {"boundary": name, **counts} for name in self.order
        ]

    def _take_stored(self, digests):
        """Yield what is stored at all targets; return the indices of the others."""
        spaces = [self._space(t.boundary, t.tap) for t in self.targets]
        missing = []
        readable = [i for i, of_sample in enumerate(digests) if of_sample is not None]
        for first in range(0, len(readable), _LOOKUP):
            chunk = readable[first : first + _LOOKUP]
            found = self.store.get([s + digests[i] for s in spaces for i in chunk])
            whole = [i for i in chunk if all(s + digests[i] in found for s in spaces)]
            if whole:
                self.n_stored += len(whole)
                yield whole, [[found[s + digests[i]] for i in whole] for s in spaces]
            missing += sorted({*chunk} - {*whole})
        return missing

    def _group_by_start(self, digests, missing):
        """Yield (boundary, indices): the last boundary where samples are stored.

        The boundary is None for samples that have to be read.
        """
        for boundary in reversed(self._way(None, self.order[0])):
            space = self._space(boundary)
            here = self.store.contains([space + digests[i] for i in missing])
            found = [i for i in missing if space + digests[i] in here]
            missing = [i for i in missing if space + digests[i] not in here]
            if found:
                yield boundary, found
        if missing:
            yield None, missing

    def _way(self, start, stop):
        """Boundaries from one to another, both included: stages and targets."""
        backbone = self.backbone
        stages = backbone.stage_names[: backbone.n_stages_before(stop)]
        before = self.order[: self.order.index(stop) + 1]
        names = backbone.in_order(["input", *stages, *before])
        return names[0 if start is None else names.index(start) :]

    def _space(self, boundary, tap=None):
        """Key of everything but the sample."""
        backbone = self.backbone
        return digest(
            backbone.preprocessing.key(),
            backbone.prefix_fingerprint(boundary),
            repr(tap or nn.Identity()),
            get_config()["activation_dtype"],
            self.runtime.key,
        )

    def _compute(self, samples, indices, digests, start):
        """Send samples on from a boundary and keep what pays; yields as `iterate`."""
        twins = _twins(indices, digests)
        way = self._way(start, self.order[-1])
        kept = self._kept_from.get(start)
        stops = self._stops(way, kept)
        self._measuring = digests is not None and kept is None
        n = len(twins)
        # Whatever stops this, the threads that read are gone then.
        under_way = closing(self._batches(samples, twins, digests, start))
        with _bar(n, self.runtime.verbose) as bar, under_way as ready:
            for groups, batch, seconds in ready:
                states, clock = self._forward(batch, stops)
                rows = [to_rows(_tap(t, states)) for t in self.targets]
                yield _expand(groups, rows)
                if digests is not None:
                    if kept is None:
                        clock = {b: seconds + t for b, t in clock.items()}
                        kept = self._decide(states, clock, rows, n)
                        self._kept_from[start], self._measuring = kept, False
                        stops = self._stops(way, kept)
                    keys = [digests[group[0]] for group in groups]
                    self._keep(keys, states, rows, kept, start)
                self.n_computed += len(batch)
                if bar is not None:
                    bar.update(len(batch))

    def _stops(self, way, kept):
        """Boundaries to stop at: all until it is decided which are kept."""
        if self.store is None:
            kept = set()
        if kept is None:
            return way
        return [way[0], *(b for b in way[1:] if b in kept or b in self.order)]

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
            found = self.store.get([space + digests[i] for i in chunk])
            rows = [found.get(space + digests[i]) for i in chunk]
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

    def _forward(self, batch, stops):
        """Return the activations at some boundaries and the seconds to get there.

        Where the memory of the device is too small for a batch, it goes in halves, and
        so do those after it.
        """

        def compute(size):
            # Of the runtime, as batches are filled up to its size.
            self.runtime = replace(self.runtime, batch_size=size)
            return [self._run(z, stops) for z in batch.split(size)]

        runtime = self.runtime
        parts, _ = halving(compute, runtime.batch_size, runtime.device)
        if len(parts) == 1:
            return parts[0]
        states, clocks = zip(*parts, strict=True)
        return (
            {b: torch.cat([part[b] for part in states]) for b in stops},
            {b: sum(part[b] for part in clocks) for b in stops},
        )

    def _run(self, batch, stops):
        device = self.runtime.device
        z = batch.to(device, non_blocking=True)
        states, clock = {stops[0]: z}, {stops[0]: 0.0}
        began = time.perf_counter()
        for start, stop in pairwise(stops):
            if start == "input":
                z = self.backbone.preprocessing.to_input(z)
            z = run_section(self.backbone, start, stop, z, self.runtime)
            _counts[self.backbone.name, start, stop] += len(z)
            if self._measuring:
                synchronise(device)
            states[stop] = z
            clock[stop] = time.perf_counter() - began
        return states, clock

    def _decide(self, states, clock, rows, n_samples):
        """Measure what keeping costs, and choose what is kept (set of boundaries)."""
        measured = []
        asked = set(self.order)
        for boundary, z in states.items():
            began = time.perf_counter()
            kept_rows = to_rows(z)
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
                new |= {space + d: r for d, r in zip(digests, target_rows, strict=True)}
        for boundary in kept - {*self.order} - {start}:
            space = self._space(boundary)
            passing = to_rows(states[boundary])
            new |= {space + d: r for d, r in zip(digests, passing, strict=True)}
        self.store.put(new)


def _bar(n, verbose):
    # tqdm starts a thread even for bars that it does not show.
    return tqdm(total=n, unit="sample") if verbose else nullcontext()


def _tap(target, states):
    z = states[target.boundary]
    return target.tap(z if z.dtype == torch.uint8 else z.float())


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
