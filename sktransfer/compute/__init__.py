"""Where and how to compute: device, precision, batch size."""

from sktransfer.compute._device import resolve_batch_size, resolve_device
from sktransfer.compute._layout import use_channels_last
from sktransfer.compute._precision import gains_by_bfloat16, resolve_precision
from sktransfer.compute._runtime import Runtime, pad_rows, synchronise

__all__ = [
    "Runtime",
    "gains_by_bfloat16",
    "pad_rows",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
    "synchronise",
    "use_channels_last",
]
