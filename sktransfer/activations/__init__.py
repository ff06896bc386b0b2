"""From samples through a frozen prefix to activations."""

from sktransfer.activations._extraction import compute_activations
from sktransfer.activations._pooling import Pool, check_pooling

__all__ = ["Pool", "check_pooling", "compute_activations"]
