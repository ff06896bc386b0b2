"""From samples through a frozen prefix to activations, each computed once."""

from sktransfer.activations._activations import Activations, load_activations
from sktransfer.activations._alone import run_alone
from sktransfer.activations._digest import digest, digest_samples
from sktransfer.activations._fold import is_plain
from sktransfer.activations._layout import Layout
from sktransfer.activations._memory_store import process_store
from sktransfer.activations._pass import Pass, Target, forward_passes, gather
from sktransfer.activations._pooling import Pool, check_pooling
from sktransfer.activations._precision import choose_precision
from sktransfer.activations._store import open_store
from sktransfer.activations._views import (
    FixedViews,
    FreshViews,
    draw_views,
    name_of,
)

__all__ = [
    "Activations",
    "FixedViews",
    "FreshViews",
    "Layout",
    "Pass",
    "Pool",
    "Target",
    "check_pooling",
    "choose_precision",
    "digest",
    "digest_samples",
    "draw_views",
    "forward_passes",
    "gather",
    "is_plain",
    "load_activations",
    "name_of",
    "open_store",
    "process_store",
    "run_alone",
]
