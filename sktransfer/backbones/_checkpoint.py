"""Read a checkpoint file into a network, as data and never as code."""

import os
import pickle

import torch

__all__ = ["load_checkpoint", "read_state_dict"]

_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")


def read_state_dict(path, expected=()):
    """Read the tensors of a checkpoint.

    Parameters
    ----------
    path : str or os.PathLike
        A ``.safetensors`` file, or any file that ``torch.load(weights_only=True)``
        reads. Code in a pickle is not run.
    expected : collection of str, default=()
        Names of the tensors that the network has.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU. Wrappers that training scripts add (``state_dict``, ``module.``, …)
        are taken off.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds something else than tensors by name, or cannot be read.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint file {path!r}.")
    try:
        state = _read(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"The checkpoint {path!r} is not plain weights, and nothing else is loaded "
            "since a pickle can run code. Save it again with "
            f"`torch.save(model.state_dict(), path)` or as safetensors. ({error})"
        ) from error
    except Exception as error:
        raise ValueError(
            f"The checkpoint {path!r} cannot be read; it may be truncated or of "
            f"another kind. ({type(error).__name__}: {error})"
        ) from error
    state = _unwrap(state)
    if not isinstance(state, dict) or not state:
        raise ValueError(f"The checkpoint {path!r} holds no weights by name.")
    strangers = [
        k
        for k, v in state.items()
        if not isinstance(k, str) or not isinstance(v, torch.Tensor)
    ]
    if strangers:
        raise ValueError(
            f"The checkpoint {path!r} holds {strangers[:3]}, which are not tensors by"
            " name."
        )
    return _without_prefix(state, expected)


def _read(path):
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(state):
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            return state[key]
    return state


def _without_prefix(state, expected):
    """Take prefixes off until some name is one that the network has."""
    if not state.keys().isdisjoint(expected):
        return state
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            inner = {key.removeprefix(prefix): value for key, value in state.items()}
            return _without_prefix(inner, expected)
    return state


def load_checkpoint(module, path, *, classifier=list, adapt=dict, advice=""):
    """Load a checkpoint into a network.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, and only if everything fits.
    path : str or os.PathLike
    classifier : callable, default=list
        Returns the paths of the network's classifying layers (list of str). They may
        be missing from the file or have another number of classes there; they then
        keep what they have. Only called if something does not fit.
    adapt : callable, default=dict
        Makes a state dict for this network of one that does not fit, as by resampling
        position embeddings.
    advice : str, default=""
        What to add to the message about what does not fit.

    Raises
    ------
    FileNotFoundError, ValueError
        See :func:`read_state_dict`; also if a tensor is missing, left over, or of
        another shape, in which case the first such tensors are named.
    """
    expected = module.state_dict()
    state = read_state_dict(path, expected)
    optional = ()
    if _misfits(expected, state, optional):
        optional = classifier()
    if problems := _misfits(expected, state, optional):
        state = _adapted(state, adapt)
        if _misfits(expected, state, optional):
            what = f"The checkpoint {os.fspath(path)!r} does not fit"
            name = type(module).__name__
            raise ValueError(f"{what} {name}: {_listed(problems)} {advice}".strip())
    fitting = {
        k: v for k, v in state.items() if k in expected and v.shape == expected[k].shape
    }
    module.load_state_dict(fitting, strict=False)


def _listed(problems):
    more = len(problems) - 3
    return "; ".join(problems[:3]) + (f"; and {more} more." if more > 0 else ".")


def _adapted(state, adapt):
    try:
        return adapt(dict(state))
    except Exception:  # of another network: its own tensors are named as misfits
        return state


def _misfits(expected, state, layers):
    """Say what does not fit, but for some layers (list of str)."""
    inside = tuple(f"{layer}." for layer in layers)
    optional = {k for k in {*expected, *state} if k in layers or k.startswith(inside)}
    counters = {k for k in expected if k.endswith("num_batches_tracked")}
    ignored = optional | counters
    missing = [
        f"{k!r} is missing" for k in expected if k not in state and k not in ignored
    ]
    extra = [
        f"{k!r} is not in the network"
        for k in state
        if k not in expected and k not in ignored
    ]
    shapes = [
        f"{k!r} has shape {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state and k not in optional and state[k].shape != v.shape
    ]
    return shapes + missing + extra
