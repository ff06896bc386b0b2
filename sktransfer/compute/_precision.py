"""What to compute frozen stages in."""

import torch

__all__ = ["gains_by_bfloat16", "resolve_precision"]


def gains_by_bfloat16(device):
    """Say whether a device multiplies matrices in bfloat16 faster than in float32.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    bool
        True on NVIDIA GPUs since Ampere, and on CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, flag, bool)() for flag in flags)


def resolve_precision(precision, device):
    """Choose what frozen stages are computed in.

    Parameters
    ----------
    precision : {"auto", "float32"}
    device : torch.device

    Returns
    -------
    {"float32", "folded", "bfloat16"}
        "float32" is the network as it is. "folded" is float32, too, with BatchNorm
        folded into the convolutions; "bfloat16" computes these and linear layers in
        bfloat16 besides.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if gains_by_bfloat16(device) else "folded"
