"""Fingerprint of a section's code, configuration and weights."""

import hashlib
from functools import reduce

from torch import fx

from sktransfer.utils import describe, join_key, update_with_tensor

__all__ = ["describe_section", "fingerprint", "fingerprint_tensors"]


def fingerprint(section):
    """Hash what a section computes: its graph, its layers, their code and weights.

    Parameters
    ----------
    section : Section

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same in every process; where a layer cannot be
        described, the same for this section alone.
    """
    return join_key(describe_section(section, section), section)


def describe_section(section, root, *, tensors=None):
    """Describe what a section computes in eval mode.

    Parameters
    ----------
    section : Section
    root : torch.nn.Module
        Holds the layers and tensors of the section under their names.
    tensors : TensorDigests, default=None
        Hashes of tensors that are known.

    Returns
    -------
    Description
        The names of layers don't count.
    """
    numbers, steps = {}, []
    for node in section.graph.nodes:
        numbers[node] = len(numbers)
        target = node.target
        if node.op in ("call_module", "get_attr"):
            target = reduce(getattr, target.split("."), root)
        elif node.op in ("placeholder", "output"):
            target = None
        arguments = _plain([*node.args], numbers), _plain({**node.kwargs}, numbers)
        steps.append((node.op, target, *arguments))
    return describe(steps, tensors=tensors)


def _plain(value, numbers):
    """Put the numbers of nodes in their place, in containers of torch.fx as well."""
    if isinstance(value, fx.Node):
        return "node", numbers[value]
    if type(value) is tuple:
        return tuple(_plain(item, numbers) for item in value)
    if isinstance(value, list):
        return [_plain(item, numbers) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, numbers) for key, item in value.items()}
    if isinstance(value, slice):
        parts = value.start, value.stop, value.step
        return slice(*(_plain(part, numbers) for part in parts))
    return value


def fingerprint_tensors(tensors):
    """Hash tensors and their names, whatever computes with them.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        A state dict.

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same in every process, on any device and with any
        versions of the libraries.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\n".encode())
        update_with_tensor(digest, tensor)
    return digest.hexdigest()[:32]
