"""Activations of random views: a few fixed views per sample, or a new one each time."""

import ast
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sktransfer.activations._activations import gather, load_activations
from sktransfer.activations._batches import digest_samples
from sktransfer.activations._pass import Pass
from sktransfer.inputs import AugmentedSamples
from sktransfer.utils import describe, digest

_SEEDS_TRIED = 8


def draw_views(
    samples: Any, augment: Callable, name: str, seed: int, number: int
) -> AugmentedSamples:
    """Draw one view of each sample, fixed by its content, a seed and a number.

    `name` identifies the augmentation and comes from :func:`name_of`.
    """
    drawn_for = digest_samples(samples)
    drawn = [digest(d, f"view {seed}, {number}") for d in drawn_for]
    seeds = [int.from_bytes(d[:8], "big") >> 1 for d in drawn]
    digests = [digest(d, name) for d in drawn]
    return AugmentedSamples(samples, augment, seeds, digests, drawn_for)


def name_of(augment: Callable) -> str:
    """Return a name of an augmentation that covers all it consists of, code included.

    An augmentation that cannot be described gets a new name at each call, as it may
    have changed.
    """
    found = describe(augment)
    return found.digest if found.is_complete else uuid.uuid4().hex


def _name_of_views(samples, augment):
    """Name an augmentation, with a new name each time if seeds do not fix its views."""
    if AugmentedSamples(samples, augment, range(_SEEDS_TRIED)).repeats():
        return name_of(augment)
    warnings.warn(
        "`augment` returns another view when it is called again with the same seed: "
        "it draws from another generator than torch's global one, such as numpy's. "
        "Its views are not stored for other fits, and `random_state` does not fix "
        "them. Let it draw from torch, as the transforms of torchvision do.",
        stacklevel=2,
    )
    return uuid.uuid4().hex


class FixedViews:
    """A few fixed views of each sample, of which each batch takes one at random.

    They are stored as any other activations. ``views`` holds the `Activations` of all
    samples, per view; `originals`, those of the samples themselves, are one of them if
    they are given. The other views then do not depend on the seed, so that fits of
    any `random_state` share them; otherwise it fixes them, too.
    """

    def __init__(
        self,
        backbone,
        target,
        samples,
        augment,
        n_views,
        seed,
        *,
        store,
        runtime,
        originals=None,
    ):
        name = _name_of_views(samples, augment)
        self.views, drawn_by = ([], seed) if originals is None else ([originals], 0)
        for number in range(n_views):
            view = draw_views(samples, augment, name, drawn_by, number)
            loaded, _ = load_activations(
                backbone, target, view, store=store, runtime=runtime
            )
            self.views.append(loaded)
        self._rng = np.random.default_rng(seed)

    def state_dict(self) -> dict:
        """Return the state of the generator."""
        return {"rng": repr(self._rng.bit_generator.state)}

    def load_state_dict(self, state: dict) -> None:
        """Continue to draw from a state."""
        self._rng.bit_generator.state = ast.literal_eval(state["rng"])

    def __len__(self):
        return len(self.views[0])

    def __getitem__(self, indices: Any) -> Any:
        """Return a batch, with each sample in one of its views, as `Activations` do."""
        return self.share(indices, slice(None))

    def share(self, indices: Any, part: slice) -> Any:
        """Return a part of a batch, with the views that it has in the whole batch."""
        chosen = self._rng.integers(len(self.views), size=len(indices))[part]
        indices = np.asarray(indices)[part]
        rows = [None] * len(indices)
        for k in np.unique(chosen):
            (places,) = np.nonzero(chosen == k)
            found = self.views[k].rows(indices[places])
            for place, row in zip(places, found, strict=True):
                rows[place] = row
        return self.views[0].to_batch(rows)


class FreshViews:
    """A new view of a sample whenever it is indexed, computed through the whole prefix.

    Nothing is stored, as no view occurs twice. No gradient is computed.
    """

    def __init__(self, backbone, target, samples, augment, seed, *, runtime):
        quiet = replace(runtime, verbose=0)  # each batch would have a progress bar
        self._pass = Pass(backbone, [target], store=None, runtime=quiet)
        self._samples = samples
        self._augment = augment
        self._seed = seed
        self._n_drawn = 0

    def state_dict(self) -> dict:
        """Return the number of draws."""
        return {"n_drawn": self._n_drawn}

    def load_state_dict(self, state: dict) -> None:
        """Continue to draw from a state."""
        self._n_drawn = state["n_drawn"]

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, indices: Any) -> Any:
        """Return a batch of new views, as `Activations` do."""
        return self.share(indices, slice(None))

    def share(self, indices: Any, part: slice) -> Any:
        """Return a part of a batch, with the views that it has in the whole batch."""
        taken = self._samples.take([int(i) for i in indices[part]])
        views = draw_views(taken, self._augment, "", self._seed, self._n_drawn)
        self._n_drawn += 1
        (rows,) = gather(self._pass, views)
        return self._pass.as_input(rows)

    def split(self, size: int) -> Iterator:
        """Yield batches of new views, in order."""
        for first in range(0, len(self), size):
            yield self[range(first, min(first + size, len(self)))]
