"""Where and how to compute: device, precision, batch size."""

from sktransfer.compute._device import resolve_batch_size, resolve_device
from sktransfer.compute._draws import (
    Draws,
    drawn_since,
    generator_states,
    seeded,
    seeded_everywhere,
)
from sktransfer.compute._fork import held_at_forks, in_forked_child
from sktransfer.compute._halving import halving
from sktransfer.compute._layout import (
    channels_last,
    channels_second,
    use_channels_last,
)
from sktransfer.compute._precision import gains_by_bfloat16, resolve_precision
from sktransfer.compute._put_back import state_put_back
from sktransfer.compute._runtime import Runtime, pad_rows, synchronise
from sktransfer.compute._shards import Shards
from sktransfer.compute._threads import fixed_threads, one_blas_thread
from sktransfer.compute._torch_state import own_torch_state

__all__ = [
    "Draws",
    "Runtime",
    "Shards",
    "channels_last",
    "channels_second",
    "drawn_since",
    "fixed_threads",
    "gains_by_bfloat16",
    "generator_states",
    "halving",
    "held_at_forks",
    "in_forked_child",
    "one_blas_thread",
    "own_torch_state",
    "pad_rows",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
    "seeded",
    "seeded_everywhere",
    "state_put_back",
    "synchronise",
    "use_channels_last",
]
