"""Where and how a pass is computed, in one object."""

import warnings
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
        parts = self.batch_size, self.precision, self.activation_dtype
        return ", ".join(map(str, [*parts, *_switches(self.device)]))


def _switches(device):
    """List what of a device, and of torch's settings for it, decides how it rounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of the old names of its settings
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
