"""From activations to a trained suffix and head."""

from sktransfer.training._freeze import resolve_freeze
from sktransfer.training._net import SuffixNet, restore_net, train
from sktransfer.training._network import Network, random_head
from sktransfer.training._probe import fit_probe

__all__ = [
    "Network",
    "SuffixNet",
    "fit_probe",
    "random_head",
    "resolve_freeze",
    "restore_net",
    "train",
]
