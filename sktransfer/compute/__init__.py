"""Where and how to compute: device, precision, batch size."""

from sktransfer.compute._device import resolve_batch_size, resolve_device
from sktransfer.compute._layout import channels_last, use_channels_last
from sktransfer.compute._memory import keep_freed_memory
from sktransfer.compute._precision import gains_by_bfloat16, resolve_precision
from sktransfer.compute._runtime import Runtime, pad_rows, synchronise

__all__ = [
    "Runtime",
    "channels_last",
    "gains_by_bfloat16",
    "keep_freed_memory",
    "pad_rows",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
    "synchronise",
    "use_channels_last",
]
