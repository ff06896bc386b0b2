"""Whether a backbone may be folded and computed in bfloat16: tried before it is."""

import logging
import warnings
from dataclasses import replace
from itertools import pairwise

import torch

from sktransfer.activations._engine import run_section
from sktransfer.activations._pooling import Pool
from sktransfer.compute import Runtime, resolve_precision

__all__ = ["choose_precision"]

_logger = logging.getLogger("sktransfer")
_TOLERANCES = {"folded": 1e-3, "bfloat16": 0.05}
_N_IMAGES, _CELLS = 4, 12
_MOST = 256
_errors: dict[tuple, float] = {}


def choose_precision(backbone, precision, device):
    """Choose what the frozen stages of a backbone are computed in.

    Parameters
    ----------
    backbone : Backbone
        As it was loaded; remembers the answer.
    precision : {"auto", "float32"}
    device : torch.device

    Returns
    -------
    {"float32", "folded", "bfloat16"}
        See :func:`sktransfer.compute.resolve_precision`. With "auto", on images made
        up for this: folded only where the activations of every stage stay within 0.1%
        of those of the network as it is (relative L2); and bfloat16 only where the
        device gains by it and their averages over places stay within 5%. Vectors,
        and networks whose samples go one at a time, are computed in float32.
    """
    if backbone.preprocessing.kind == "vector" or backbone.impurity:
        return "float32"
    resolved = resolve_precision(precision, device)
    if resolved == "float32":
        return resolved
    for tried in [resolved, "folded"]:
        error = _remembered_error(backbone, device, tried)
        if error <= _TOLERANCES[tried]:
            return tried
        _logger.info(
            "%s is not computed in precision %r, which moves its features by %.2g%%",
            backbone.name,
            tried,
            100 * error,
        )
    warnings.warn(
        f"The frozen stages of {backbone.name} are computed as they are: folding "
        f"BatchNorm into convolutions would move their activations by "
        f"{100 * error:.2g}%. Set `precision='float32'` to not try.",
        stacklevel=2,
    )
    return "float32"


def _remembered_error(backbone, device, tried):
    """Return the error of a precision, which is tried once for equal networks."""
    known = backbone.precision_errors
    if (device, tried) not in known:
        last = backbone.stage_names[-1]
        key = backbone.prefix_fingerprint(last), backbone.preprocessing.key(), device
        if (*key, tried) not in _errors:
            while len(_errors) >= _MOST:
                _errors.pop(next(iter(_errors)), None)
            _errors[*key, tried] = _try(backbone, device, tried)
        known[device, tried] = _errors[*key, tried]
    return known[device, tried]


def _try(backbone, device, precision):
    try:
        return precision_error(backbone, device, precision)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError):  # of layers that take no bfloat16
        return float("inf")


def precision_error(backbone, device, precision):
    """Return by how much a precision moves what a network computes, at the worst stage.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    precision : {"folded", "bfloat16"}

    Returns
    -------
    float
        Relative L2 norm, of activations or, in bfloat16, of their averages over
        places; infinity if something is no number.
    """
    exact = Runtime(device=device, batch_size=_N_IMAGES, precision="float32")
    fast = replace(exact, precision=precision)
    z = z_fast = _images(backbone.preprocessing.input_shape).to(device)
    errors = []
    for start, stop in pairwise(["input", *backbone.stage_names]):
        z = run_section(backbone, start, stop, z, exact)
        z_fast = run_section(backbone, start, stop, z_fast, fast)
        seen, seen_fast = z.float(), z_fast.float()
        if precision == "bfloat16":
            shape = backbone.activation_shape(stop)
            pool = Pool("avg", 1, shape, backbone.preprocessing.input_shape)
            seen, seen_fast = pool(seen), pool(seen_fast)
        scale = seen.norm().clamp_min(torch.finfo(torch.float32).tiny)
        errors.append(float((seen - seen_fast).norm() / scale))
    return max(errors) if all(e == e for e in errors) else float("inf")


def _images(shape):
    """Make images of random shapes, as smooth and as contrasted as photographs."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(_N_IMAGES, channels, _CELLS, _CELLS, generator=generator)
    return torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bicubic", align_corners=False
    )
