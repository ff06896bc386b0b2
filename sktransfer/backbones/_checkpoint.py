"""Loading of checkpoints into networks, with errors that name the misfits."""

import difflib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from sktransfer.backbones._files import read_state_dict, title_of

_SHOWN = 3
_SEARCHED = 2_000  # number of names that are compared with a missing one
_POSITIONS = ("pos_emb", "position", "rel_pos", "pos_enc", "posemb")
# Parts of names that wrappers of single layers add.
_WRAPPED = re.compile(
    r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_USUAL = ("state_dict.", "model.", "module.", "net.", "network.", "backbone.")
# Prefixes with these words mark other tensors than the trained weights.
_SECOND = {
    *("average", "averaged", "avg", "ema", "grad", "momentum", "optim", "optimizer"),
    *("optimizers", "shadow", "swa", "target", "teacher"),
}
# Share of the network's names that a checkpoint must have behind one prefix; share that
# begins with a prefix of the network's own if a checkpoint may lack that prefix; share
# of what the best prefix fits that makes another prefix an alternative.
_MOST, _OWN, _AS_WELL = 0.5, 0.8, 0.9


def load_checkpoint(
    module: nn.Module,
    weights: str | os.PathLike | Mapping,
    *,
    classifier: Callable[[], list] = list,
    adapt: Callable[[dict], dict] = dict,
    advice: str = "",
    areas: tuple[int, int] = (1, 1),
) -> None:
    """Load a checkpoint into a network, which changes only if all of it fits.

    ``classifier`` returns the paths of classifying layers, which may differ and then
    keep their weights. ``adapt`` makes a state dict of this network from one that does
    not fit. ``areas`` are those of the weights' own images and of the network's, and
    ``advice`` ends the message if position embeddings or sized layers do not fit.
    Raises the errors of :func:`read_state_dict`, and a ValueError that names the first
    tensors that do not fit or are not finite.
    """
    title, expected = title_of(weights), module.state_dict()
    state = without_prefix(read_state_dict(weights), expected, title)
    optional: Collection[str] = ()
    if Misfits(expected, state, optional):
        optional = classifier()
    if misfits := Misfits(expected, state, optional):
        state = _adapted(state, adapt)
        if Misfits(expected, state, optional):
            is_of_size = misfits.of_positions or misfits.is_of_size(areas)
            advice = advice if is_of_size else ""
            name = type(module).__name__
            raise ValueError(f"{title} does not fit {name}: {misfits} {advice}".strip())
    misfits = Misfits(expected, state)
    unfit = {*misfits.shapes, *misfits.kinds}
    fitting = {k: v for k, v in state.items() if k in expected and k not in unfit}
    check_finite(expected, fitting, title)
    module.load_state_dict(fitting, strict=False)


def _adapted(state, adapt):
    try:
        return adapt(dict(state))
    except Exception:  # of another network: its own tensors are named as misfits
        return state


class Misfits:
    """Tensors that are missing, left over, or of another shape or dtype.

    ``expected`` and ``state`` are the state dicts of the network and of the checkpoint.
    Those of ``layers``, given by their paths, are ignored.
    """

    def __init__(self, expected, state, layers=()):
        inside = tuple(f"{layer}." for layer in layers)
        ignored = {k for k in {*expected, *state} if k in layers}
        ignored |= {k for k in {*expected, *state} if k.startswith(inside)}
        counters = {k for k in expected if k.endswith("num_batches_tracked")}
        self.expected, self.state = expected, state
        both = [k for k in expected if k in state and k not in ignored]
        self.shapes = [k for k in both if state[k].shape != expected[k].shape]
        self.kinds = [
            k
            for k in both
            if k not in self.shapes and not _can_cast(state[k], expected[k])
        ]
        self.missing = [
            k for k in expected if k not in state and k not in ignored | counters
        ]
        self.extra = [k for k in state if k not in expected and k not in ignored]

    def __bool__(self):
        return bool(self.shapes or self.kinds or self.missing or self.extra)

    @property
    def of_positions(self):
        """Whether position embeddings have another shape."""
        return any(part in k for k in self.shapes for part in _POSITIONS)

    def is_of_size(self, areas: tuple[int, int]) -> bool:
        """Return whether all misfits are layers sized for images of another area.

        The areas are those of the images of the checkpoint and of the network.
        """
        pairs = [
            (a, b)
            for name in self.shapes
            for a, b in zip(
                self.state[name].shape, self.expected[name].shape, strict=False
            )
            if a != b
        ]
        others = self.kinds or self.missing or self.extra
        theirs, ours = areas
        return (
            bool(pairs) and not others and all(a * ours == b * theirs for a, b in pairs)
        )

    def __str__(self):
        """Describe the first misfits; list names of both sides if some are missing."""
        problems = [
            *map(self._shape, self.shapes),
            *map(self._kind, self.kinds),
            *map(self._missing, self.missing[:_SHOWN]),
            *(f"{k!r} is missing" for k in self.missing[_SHOWN:]),
            *(f"{k!r} is not in the network" for k in self.extra),
        ]
        more = len(problems) - _SHOWN
        text = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" * (more > 0)) + "."
        if self.missing:
            text += (
                f" The network's tensors are {_some(self.expected)}; the checkpoint's "
                f"are {_some(self.state)}."
            )
        return text

    def _shape(self, name):
        found, due = (tuple(of[name].shape) for of in (self.state, self.expected))
        return f"{name!r} has shape {found}, expected {due}"

    def _kind(self, name):
        found, due = (of[name].dtype for of in (self.state, self.expected))
        return f"{name!r} has dtype {found}, expected {due}"

    def _missing(self, name):
        near = difflib.get_close_matches(name, self.extra[:_SEARCHED], n=1)
        nearest = f" (nearest in the checkpoint: {near[0]!r})" if near else ""
        return f"{name!r} is missing{nearest}"


def _some(names):
    shown = ", ".join(map(repr, [*names][:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _can_cast(found, due):
    """Return whether casting a tensor to the dtype of another keeps its values."""
    if found.is_floating_point() and due.is_floating_point():
        return True
    if found.dtype == due.dtype:
        return True
    if found.is_complex() or due.is_complex() or due.is_floating_point():
        return False
    return torch.equal(found.to(due.dtype).to(found.dtype), found)


def check_finite(expected: Mapping, state: Mapping, title: str) -> None:
    """Raise a ValueError if a weight is not finite where the network's own is.

    It is checked in the network's dtype. Masks in a network may hold infinity.
    """
    for name, tensor in state.items():
        due = expected[name]
        cast = tensor.to(due.device, due.dtype)
        wrong = ~torch.isfinite(cast) & torch.isfinite(due)
        if wrong.any():
            raise ValueError(
                f"{title} holds values that are no numbers: {name!r} has "
                f"{int(wrong.sum())} of {wrong.numel()} that are NaN or infinite in "
                f"{due.dtype}. Take a checkpoint from before the training diverged."
            )


@dataclass(frozen=True)
class _Set:
    """Tensors of a checkpoint with one prefix, in place of a prefix of the network."""

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
        """Return the tensors by the names that the network gives them."""
        return {
            self.own + key.removeprefix(self.prefix): value
            for key, value in state.items()
            if key.startswith(self.prefix)
        }


def without_prefix(
    state: dict, expected: Mapping, title: str
) -> dict[str, torch.Tensor]:
    """Return the tensors of a network by the names that the network gives them.

    Most of its names must be in the checkpoint, behind one prefix that a wrapper or a
    training script added; tensors with other prefixes are left out. Trained weights are
    preferred to averages of them or a teacher's, with a warning. Raises a ValueError if
    the names do not show which of several sets to take. If too few names fit, the state
    dict is returned without usual prefixes.
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
    """Return the beginnings of a name that end with a dot, and the empty one."""
    return ["", *(name[: dot.end()] for dot in re.finditer(r"\.", name))]


def _sets(state, expected):
    """Return the sets of tensors that fit some names, the best one first."""
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
    """Return the best set, and others that fit as well but hold other weights."""
    best, *others = sets
    weights = best.of(state)
    several = [best]
    for other in others:
        fits = other.n_shapes >= _AS_WELL * best.n_shapes > 0
        if fits and _differ(weights, other.of(state)):
            several.append(other)
    return several


def _differ(these, those):
    """Return whether two sets have different tensors under the same name."""
    both = [(these[name], those[name]) for name in these.keys() & those.keys()]
    return any(
        a is not b and not (a.dtype == b.dtype and torch.equal(a, b)) for a, b in both
    )


def _choose(several, title):
    """Return the one set of several that is no average or teacher, with a warning."""
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
