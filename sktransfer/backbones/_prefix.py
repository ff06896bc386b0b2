"""Find a network's weights among the names of a checkpoint."""

import re
import warnings
from collections import Counter
from dataclasses import dataclass

import torch

__all__ = ["without_prefix"]

# What wrappers of single layers write into names, and nobody else.
_WRAPPED = re.compile(
    r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_USUAL = ("state_dict.", "model.", "module.", "net.", "network.", "backbone.")
# Words in the names of sets of tensors that are not the trained weights themselves.
_SECOND = {
    *("average", "averaged", "avg", "ema", "grad", "momentum", "optim", "optimizer"),
    *("optimizers", "shadow", "swa", "target", "teacher"),
}
_MOST = 0.5  # of the network's names, below which a prefix is a coincidence
_OWN = 0.8  # of the network's names share a prefix that a checkpoint may lack
_AS_WELL = 0.9  # of the best set's names, from which another fits as well


@dataclass(frozen=True)
class _Set:
    """Tensors whose names begin with one prefix, in place of the network's own."""

    prefix: str
    own: str
    n_shapes: int
    n_names: int

    @property
    def rank(self):
        return self.n_shapes, self.n_names, -len(self.own), -len(self.prefix)

    @property
    def is_second(self):
        return not _SECOND.isdisjoint(re.split(r"[._\-]", self.prefix.lower()))

    def of(self, state):
        """Return the tensors by the names that the network has (dict)."""
        return {
            self.own + key.removeprefix(self.prefix): value
            for key, value in state.items()
            if key.startswith(self.prefix)
        }


def without_prefix(state, expected, title):
    """Return the tensors of a network by the names that it has.

    Most of its names must be in the checkpoint, behind one prefix that wrappers and
    training scripts added. What has another prefix is left out.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    expected : dict of str to torch.Tensor
        State dict of the network.
    title : str
        What to call the checkpoint.

    Returns
    -------
    dict of str to torch.Tensor
        As it was if the names are others.

    Raises
    ------
    ValueError
        If several sets of different weights fit as well and no name tells them apart.

    Warns
    -----
    UserWarning
        If the weights and averages of them, or a teacher's, both fit: the former are
        taken.
    """
    state = _unwrapped(state, expected)
    sets = _sets(state, expected)
    if not sets or sets[0].n_names < _MOST * _count(expected):
        return _without_usual(state)
    chosen, *others = _several(sets, state)
    if others:
        chosen = _choose([chosen, *others], title)
    found = chosen.of(state)
    if not chosen.prefix:
        beside = tuple(other.prefix for other in others if other.prefix)
        found = {k: v for k, v in found.items() if not k.startswith(beside)}
    return found


def _count(expected):
    return sum(not name.endswith("num_batches_tracked") for name in expected)


def _unwrapped(state, expected):
    if any(_WRAPPED.search(name) for name in expected):
        return state
    names = {name: _WRAPPED.sub("", name) for name in state}
    if len({*names.values()}) < len(names):
        return state
    return {names[name]: value for name, value in state.items()}


def _without_usual(state):
    for prefix in _USUAL:
        inner = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if len(inner) > _MOST * len(state):
            return _without_usual(inner)
    return state


def _prefixes(name):
    """Beginnings of a name that end with a dot, and the empty one (list of str)."""
    return ["", *(name[: dot.end()] for dot in re.finditer(r"\.", name))]


def _sets(state, expected):
    """Return the sets of tensors that fit some names, the best first (list)."""
    shared = Counter(prefix for name in expected for prefix in _prefixes(name))
    own = [p for p, n in shared.items() if n >= _OWN * len(expected)]
    names, shapes = Counter(), Counter()
    for key, value in state.items():
        for prefix in _prefixes(key):
            for start in own:
                tensor = expected.get(start + key.removeprefix(prefix))
                if tensor is not None and not key.endswith("num_batches_tracked"):
                    names[prefix, start] += 1
                    shapes[prefix, start] += tensor.shape == value.shape
    sets = [_Set(*which, shapes[which], names[which]) for which in names]
    return sorted(sets, key=lambda found: found.rank, reverse=True)


def _several(sets, state):
    """Return the best set, and those that fit as well and hold other weights."""
    best, *others = sets
    weights = best.of(state)
    several = [best]
    for other in others:
        fits = other.n_shapes >= _AS_WELL * best.n_shapes > 0
        if fits and _differ(weights, other.of(state)):
            several.append(other)
    return several


def _differ(these, those):
    """Whether two sets have different tensors by the same name."""
    return any(
        name in these and these[name] is not tensor and not _equal(these[name], tensor)
        for name, tensor in those.items()
    )


def _equal(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _choose(several, title):
    """Return the one of several sets that is the trained weights themselves."""
    first = [found for found in several if not found.is_second]
    listed = " and ".join(repr(found.prefix) for found in several[:4])
    what = f"{title} holds several sets of weights that fit, whose names begin with "
    advice = (
        "pass its tensors as `weights`, a dict whose names do not begin so any more."
    )
    if len(first) != 1:
        raise ValueError(f"{what}{listed}. To choose one, {advice}")
    warnings.warn(
        f"{what}{listed}. Those with {first[0].prefix!r} are taken. For another set, "
        f"{advice}",
        stacklevel=2,
    )
    return first[0]
