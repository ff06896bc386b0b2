"""Read the tensors of a checkpoint as data, and find those of a network among them."""

import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

__all__ = ["read_mapping", "read_state_dict", "title_of", "without_prefix"]

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


def title_of(weights):
    """Return what messages call a checkpoint: a file or a mapping (str)."""
    if isinstance(weights, Mapping):
        return "The state dict in `weights`"
    return f"The checkpoint {os.fspath(weights)!r}"


def read_state_dict(weights):
    """Read the tensors of a checkpoint.

    Parameters
    ----------
    weights : str, os.PathLike or mapping of str to torch.Tensor
        A ``.safetensors`` file, or any file that ``torch.load(weights_only=True)``
        reads: code in a pickle is not run. Or what such a file holds.

    Returns
    -------
    dict of str to torch.Tensor
        Those of a file are on the CPU. Where training scripts put weights beside other
        things, as in ``{"state_dict": {...}, "epoch": 3}``, the names of all tensors
        begin with those of the mappings that they are in: ``"state_dict.fc.bias"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds something else than plain tensors by name, or cannot be read.
    """
    title = title_of(weights)
    state = weights if isinstance(weights, Mapping) else read_mapping(weights)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{title} holds no weights by name.")
    if any(isinstance(value, Mapping) for value in state.values()):
        state = dict(_nested(state))
        if not state:
            raise ValueError(f"{title} holds no weights by name.")
    _check_tensors(state, title)
    return dict(state)


def _check_tensors(state, title):
    strangers = [
        k
        for k, v in state.items()
        if not isinstance(k, str) or not isinstance(v, torch.Tensor)
    ]
    if strangers:
        raise ValueError(
            f"{title} holds {strangers[:3]}, which are not tensors by name."
        )
    special = [
        k
        for k, v in state.items()
        if v.is_meta or v.is_quantized or v.layout != torch.strided
    ]
    if special:
        raise ValueError(
            f"{title} holds {special[:3]}, which are quantised, sparse or without "
            "values (on the meta device). Its tensors must be plain ones."
        )


def read_mapping(path):
    """Read what a file holds, see :func:`read_state_dict`; code in it is not run."""
    path, title = os.fspath(path), title_of(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint file {path!r}.")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{title} is not plain weights, and nothing else is loaded "
            "since a pickle can run code. Save it again with "
            f"`torch.save(model.state_dict(), path)` or as safetensors. ({error})"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{title} cannot be read; it may be truncated or of "
            f"another kind. ({type(error).__name__}: {error})"
        ) from error


def _nested(state, prefix=""):
    """Yield the names and tensors of mappings in mappings, and nothing else."""
    for key, value in state.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Mapping):
            yield from _nested(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            yield prefix + key, value


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
    training scripts added; what has another prefix is left out. If the names are
    others, the state dict is returned as it was. Of trained weights and averages of
    them, or a teacher's, the former are taken, with a warning; if no name separates
    several sets that fit as well, a ValueError is raised.
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
