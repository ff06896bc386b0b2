"""From samples through a frozen prefix to activations, each computed once."""

from sktransfer.activations._activations import Activations, gather, load_activations
from sktransfer.activations._batches import digest_samples
from sktransfer.activations._counts import (
    PassCounts,
    add_trained,
    count_passes,
    forward_passes,
)
from sktransfer.activations._engine import choose_precision, run_alone
from sktransfer.activations._filled import run_filled
from sktransfer.activations._fold import is_plain
from sktransfer.activations._pass import Pass
from sktransfer.activations._sizes import forward_sizes
from sktransfer.activations._store import open_store, process_store
from sktransfer.activations._targets import (
    MASK,
    POOLINGS,
    ActivationLayout,
    Pool,
    Target,
    check_pooling,
)
from sktransfer.activations._views import (
    FixedViews,
    FreshViews,
    draw_views,
    name_of,
)
from sktransfer.utils import digest

__all__ = [
    "MASK",
    "POOLINGS",
    "ActivationLayout",
    "Activations",
    "FixedViews",
    "FreshViews",
    "Pass",
    "PassCounts",
    "Pool",
    "Target",
    "add_trained",
    "check_pooling",
    "choose_precision",
    "count_passes",
    "digest",
    "digest_samples",
    "draw_views",
    "forward_passes",
    "forward_sizes",
    "gather",
    "is_plain",
    "load_activations",
    "name_of",
    "open_store",
    "process_store",
    "run_alone",
    "run_filled",
]
