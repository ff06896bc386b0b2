"""Where and how to compute: device, precision, batch size."""

from sktransfer.compute._device import (
    check_precision,
    resolve_batch_size,
    resolve_device,
)

__all__ = ["check_precision", "resolve_batch_size", "resolve_device"]
