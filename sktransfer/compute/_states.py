"""States of a batch: one tensor, or a dict of tensors by name.

The first dimension of every tensor is that of the samples. An example of a dict are the
hidden states of sequences, and the mask that says which of them are real.
"""

import torch
from torch.nn import functional as F


def map_state(function, state):
    """Apply a function to a tensor, or to each tensor of a dict."""
    if isinstance(state, dict):
        return {name: function(part) for name, part in state.items()}
    return function(state)


def n_samples(state):
    """Return the number of samples of a batch (int)."""
    return len(next(iter(state.values())) if isinstance(state, dict) else state)


def take_rows(state, rows):
    """Return some samples of a batch, which a slice or an index tensor selects."""
    return map_state(lambda z: z[rows], state)


def split_state(state, size):
    """Divide a batch into batches of `size` samples, the last of which may be smaller.

    Anything that has a method ``split``, such as `Activations`, may take the place of a
    tensor.
    """
    if not isinstance(state, dict):
        return state.split(size)
    parts = [part.split(size) for part in state.values()]
    return [dict(zip(state, each, strict=True)) for each in zip(*parts, strict=True)]


def join_states(states):
    """Join batches to one; zeros fill up samples that are shorter than others.

    Of a mask that is zero at padding, zeros mark what they fill up as padding.
    """
    if isinstance(states[0], dict):
        return {name: join_states([s[name] for s in states]) for name in states[0]}
    shapes = [z.shape[1:] for z in states]
    if len({*shapes}) > 1:
        longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
        states = [_padded(z, longest) for z in states]
    return torch.cat(states)


def _padded(z, shape):
    missing = [n - own for n, own in zip(shape, z.shape[1:], strict=True)]
    return F.pad(z, [n for own in reversed(missing) for n in (0, own)])
