"""Where and how to compute: device, precision, batch size."""

from sktransfer.compute._device import resolve_batch_size, resolve_device
from sktransfer.compute._runtime import Runtime, pad_rows, synchronise

__all__ = ["Runtime", "pad_rows", "resolve_batch_size", "resolve_device", "synchronise"]
