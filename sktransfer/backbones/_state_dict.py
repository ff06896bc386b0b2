"""Read the tensors of a checkpoint, as data and never as code."""

import os
import pickle
from collections.abc import Mapping

import torch

__all__ = ["read_state_dict", "title_of"]


def title_of(weights):
    """Return what messages call a checkpoint (str).

    Parameters
    ----------
    weights : str, os.PathLike or mapping
    """
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
    state = weights if isinstance(weights, Mapping) else _read(weights, title)
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


def _read(path, title):
    path = os.fspath(path)
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
