"""Load a checkpoint into a network, or say what of it does not fit."""

import difflib

import torch

from sktransfer.backbones._state_dict import (
    read_state_dict,
    title_of,
    without_prefix,
)

__all__ = ["Misfits", "check_finite", "load_checkpoint"]

_SHOWN = 3
_SEARCHED = 2_000  # names that are compared with a missing one
_POSITIONS = ("pos_emb", "position", "rel_pos", "pos_enc", "posemb")


def load_checkpoint(
    module, weights, *, classifier=list, adapt=dict, advice="", areas=(1, 1)
):
    """Load a checkpoint into a network.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, and only if everything fits.
    weights : str, os.PathLike or mapping of str to torch.Tensor
        A file, or a state dict.
    classifier : callable, default=list
        Returns the paths of the network's classifying layers (list of str). They may
        be missing from the file or have another number of classes there; they then
        keep what they have. Only called if something does not fit.
    adapt : callable, default=dict
        Makes a state dict for this network of one that does not fit, as by resampling
        position embeddings.
    advice : str, default=""
        What to add to the message if position embeddings have another shape, or layers
        are sized for images of another area.
    areas : (int, int), default=(1, 1)
        Of the images of the weights' own size, and of those that the network takes.

    Raises
    ------
    FileNotFoundError, ValueError
        See :func:`read_state_dict`; also if a tensor is missing, left over, or of
        another shape or kind, in which case the first such tensors are named, or if
        one holds NaN or infinity.
    """
    title, expected = title_of(weights), module.state_dict()
    state = without_prefix(read_state_dict(weights), expected, title)
    optional = ()
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

    Parameters
    ----------
    expected : dict of str to torch.Tensor
        State dict of the network.
    state : dict of str to torch.Tensor
        Of the checkpoint.
    layers : collection of str, default=()
        Paths of layers of which nothing needs to fit.
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
        """Whether position embeddings have another shape (bool)."""
        return any(part in k for k in self.shapes for part in _POSITIONS)

    def is_of_size(self, areas):
        """Whether all that does not fit is sized for images of another area (bool).

        The areas are those of the checkpoint's images and of the network's.
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
        """Name the first of them, and both sides where names differ."""
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
    """Whether values of a tensor can be those of another, but for rounding."""
    if found.is_floating_point() and due.is_floating_point():
        return True
    if found.dtype == due.dtype:
        return True
    if found.is_complex() or due.is_complex() or due.is_floating_point():
        return False
    return torch.equal(found.to(due.dtype).to(found.dtype), found)


def check_finite(expected, state, title):
    """Raise a ValueError if a weight is NaN or infinite where the network's is not.

    That is also if it becomes so in the network's dtype. ``expected`` is the state dict
    of the network as it is, whose masks may hold infinity.
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
