"""Where and how a pass is computed, in one object."""

from dataclasses import dataclass

import torch

__all__ = ["Runtime", "synchronise"]


@dataclass(frozen=True)
class Runtime:
    """Where and how samples go through a network.

    Attributes
    ----------
    device : torch.device
    batch_size : int
        Samples at a time.
    precision : {"auto", "float32"}
    verbose : int
        Whether to show a progress bar.
    """

    device: torch.device
    batch_size: int
    precision: str = "auto"
    verbose: int = 0

    @property
    def key(self):
        """Text of what changes a result by more than rounding (str)."""
        return self.precision


def synchronise(device):
    """Wait until a device has done what it was asked for, so that it can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
