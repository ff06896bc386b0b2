"""Where and how to compute: device, batch size and precision."""

import warnings
from dataclasses import dataclass

import torch

from sktransfer.compute._threads import one_thread_in_forks

__all__ = [
    "Runtime",
    "gains_by_bfloat16",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
    "synchronise",
]

# glibc gives tensors above this size back to the system after every use.
_CPU_TENSOR_BYTES = 32 * 2**20
_CPU_BATCHES = (4, 16)
_GPU_BATCH = 128


def resolve_device(device):
    """Choose a device.

    Parameters
    ----------
    device : "auto", str or torch.device
        "auto" is CUDA if there is one, then Apple's MPS, then the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If there is no such device, or not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"`device` must be 'auto' or a device of this machine, such as 'cpu'. Got "
            f"{device!r}: {str(error).splitlines()[0]}"
        ) from error
    return found


def resolve_batch_size(batch_size, device, sample_bytes):
    """Choose the batch size of a forward pass.

    Parameters
    ----------
    batch_size : "auto" or int
    device : torch.device
    sample_bytes : int
        Size of the largest activation of one sample, in bytes.

    Returns
    -------
    int
        With "auto" on a CPU, as many samples as keep the largest activation below
        32 MB, but from 4 to 16, as one thread computes a batch. 128 on a GPU.
    """
    if batch_size != "auto":
        return int(batch_size)
    if device.type != "cpu":
        return _GPU_BATCH
    low, high = _CPU_BATCHES
    return max(low, min(high, _CPU_TENSOR_BYTES // max(1, sample_bytes)))


def gains_by_bfloat16(device):
    """Whether a device multiplies matrices faster in bfloat16 than in float32.

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
    """Choose the precision in which frozen stages are computed.

    Parameters
    ----------
    precision : {"auto", "float32"}
    device : torch.device

    Returns
    -------
    {"float32", "folded", "bfloat16"}
        "float32" computes the network as it is. "folded" is float32 as well, with
        BatchNorm folded into the convolutions. "bfloat16" folds them, and computes
        convolutions and linear layers in bfloat16.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if gains_by_bfloat16(device) else "folded"


@dataclass(frozen=True)
class Runtime:
    """Settings of a forward pass.

    Attributes
    ----------
    device : torch.device
    batch_size : int
    precision : {"float32", "folded", "bfloat16"}
        See :func:`resolve_precision`.
    activation_dtype : {"auto", "float16", "float32"}
        Type that activations are rounded to at the end of every stage, see
        :func:`sktransfer.set_config`.
    verbose : int
        Above 0, a progress bar is shown.
    """

    device: torch.device
    batch_size: int
    precision: str = "float32"
    activation_dtype: str = "auto"
    verbose: int = 0

    def __post_init__(self):
        one_thread_in_forks()

    @property
    def key(self):
        """Everything here that can change a result, if only by rounding (str)."""
        parts = self.batch_size, self.precision, self.activation_dtype
        return ", ".join(map(str, [*parts, *_switches(self.device)]))


def _switches(device):
    """List the device and the settings of torch that decide how results are rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates names of its settings
        switches = [
            device.type,
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled,
        ]
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            switches += [torch.cuda.get_device_name(device), cudnn.version()]
            switches += [cudnn.enabled, cudnn.benchmark, cudnn.deterministic]
            switches += [cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
    return switches


def synchronise(device):
    """Wait until a device has finished its work, so that the work can be timed.

    Parameters
    ----------
    device : torch.device
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
