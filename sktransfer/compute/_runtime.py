"""Where and how a pass is computed, in one object."""

from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sktransfer.compute._fork import one_thread_in_forks

__all__ = ["Runtime", "one_thread", "pad_rows", "synchronise"]


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
    verbose : int
        Whether to show a progress bar.
    """

    device: torch.device
    batch_size: int
    precision: str = "float32"
    verbose: int = 0

    def __post_init__(self):
        one_thread_in_forks()

    @property
    def key(self):
        """Text of what changes a result by more than rounding (str)."""
        return self.precision


@contextmanager
def one_thread():
    """Let torch compute in one thread, as sums of several are rounded differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
