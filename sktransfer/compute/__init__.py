"""Where and how to compute: device, precision, batches, threads, random streams."""

from sktransfer.compute._draws import (
    Draws,
    drawn_since,
    generator_states,
    seeded,
    seeded_everywhere,
)
from sktransfer.compute._runtime import (
    Runtime,
    channels_last,
    channels_second,
    gains_by_bfloat16,
    halving,
    pad_rows,
    resolve_batch_size,
    resolve_device,
    resolve_precision,
    synchronise,
    use_channels_last,
)
from sktransfer.compute._states import (
    join_states,
    map_state,
    n_samples,
    split_state,
    take_rows,
)
from sktransfer.compute._threads import (
    Shards,
    fixed_threads,
    held_at_forks,
    in_forked_child,
    one_blas_thread,
)
from sktransfer.compute._torch_state import own_torch_state, state_put_back

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
    "join_states",
    "map_state",
    "n_samples",
    "one_blas_thread",
    "own_torch_state",
    "pad_rows",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
    "seeded",
    "seeded_everywhere",
    "split_state",
    "state_put_back",
    "synchronise",
    "take_rows",
    "use_channels_last",
]
