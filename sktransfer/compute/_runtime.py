"""Where and how a pass is computed, in one object."""

from dataclasses import dataclass

import torch

from sktransfer.compute._fork import one_thread_in_forks

__all__ = ["Runtime", "pad_rows", "synchronise"]


@dataclass(frozen=True)
class Runtime:
    """Where and how samples go through a network.

    Attributes
    ----------
    device : torch.device
    batch_size : int
        Samples at a time.
    precision : {"float32", "folded", "bfloat16"}
        See :func:`resolve_precision`.
    activation_dtype : {"auto", "float16", "float32"}
        What activations are rounded to where a stage ends, see
        :func:`sktransfer.set_config`.
    verbose : int
        Whether to show a progress bar.
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
        """Text of all that changes a result, be it by rounding alone (str)."""
        parts = (
            _kind(self.device),
            self.batch_size,
            self.precision,
            self.activation_dtype,
            torch.get_float32_matmul_precision(),
            *(getattr(torch.backends, name).enabled for name in ("mkldnn", "cudnn")),
        )
        return ", ".join(map(str, parts))


def _kind(device):
    """Say what kind of device it is (str): GPUs of another kind round otherwise."""
    if device.type != "cuda":
        return device.type
    cudnn = torch.backends.cudnn
    switches = cudnn.version(), cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    matmul = torch.backends.cuda.matmul.allow_tf32
    return f"{torch.cuda.get_device_name(device)} {switches} {matmul}"


def synchronise(device):
    """Wait until a device has done what it was asked for, so that it can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pad_rows(z, n):
    """Append rows of zeros to a batch until it has n rows.

    Batches of other sizes are computed by other routines, which round differently. In
    batches of one size, what a row becomes does not depend on its company.

    Parameters
    ----------
    z : torch.Tensor of shape (m, ...)
    n : int

    Returns
    -------
    torch.Tensor of shape (max(m, n), ...)
    """
    if len(z) >= n:
        return z
    return torch.cat([z, z.new_zeros(n - len(z), *z.shape[1:])])
