"""Whether a backbone may be computed in bfloat16: tried before it is."""

import logging
from dataclasses import replace
from itertools import pairwise

import torch

from sktransfer.activations._engine import run_section
from sktransfer.activations._pooling import Pool
from sktransfer.compute import Runtime, resolve_precision

__all__ = ["choose_precision"]

_logger = logging.getLogger("sktransfer")
_TOLERANCE = 0.05
_N_IMAGES, _CELLS = 4, 12


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
        See :func:`sktransfer.compute.resolve_precision`. With "auto", bfloat16 only
        where the device gains by it and the pooled features of every stage stay within
        5% of those of float32 (relative L2), on images made up for this. Vectors are
        computed in float32.
    """
    if backbone.preprocessing.kind == "vector":
        return "float32"
    resolved = resolve_precision(precision, device)
    if resolved != "bfloat16":
        return resolved
    if device not in backbone.bfloat16_errors:
        backbone.bfloat16_errors[device] = bfloat16_error(backbone, device)
    error = backbone.bfloat16_errors[device]
    if error <= _TOLERANCE:
        return "bfloat16"
    _logger.info(
        "%s stays in float32: bfloat16 moves its features by %.1f%%",
        backbone.name,
        100 * error,
    )
    return "folded"


def bfloat16_error(backbone, device):
    """Return by how much bfloat16 moves pooled features, at the worst stage.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device

    Returns
    -------
    float
        Relative L2 norm; infinity if something is no number.
    """
    exact = Runtime(device=device, batch_size=_N_IMAGES, precision="folded")
    fast = replace(exact, precision="bfloat16")
    z = z_fast = _images(backbone.preprocessing.input_shape).to(device)
    errors = []
    for start, stop in pairwise(["input", *backbone.stage_names]):
        z = run_section(backbone, start, stop, z, exact)
        z_fast = run_section(backbone, start, stop, z_fast, fast)
        shape = backbone.activation_shape(stop)
        pool = Pool("avg", 1, shape, backbone.preprocessing.input_shape)
        features, features_fast = pool(z.float()), pool(z_fast.float())
        scale = features.norm().clamp_min(torch.finfo(torch.float32).tiny)
        errors.append(float((features - features_fast).norm() / scale))
    return max(errors) if all(e == e for e in errors) else float("inf")


def _images(shape):
    """Make images of random shapes, as smooth and as contrasted as photographs."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(_N_IMAGES, channels, _CELLS, _CELLS, generator=generator)
    return torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bicubic", align_corners=False
    )
