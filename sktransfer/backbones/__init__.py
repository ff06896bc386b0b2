"""A name, a path or a module becomes a network in stages."""

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._card import (
    ModelCard,
    card_of,
    describe_training,
    model_card,
    stated_license,
)
from sktransfer.backbones._catalogue import describe_backbone, list_backbones
from sktransfer.backbones._fingerprint import fingerprint
from sktransfer.backbones._load import load_backbone
from sktransfer.backbones._module import is_image_network
from sktransfer.backbones._sections import Section
from sktransfer.backbones._shared import shared_backbone
from sktransfer.backbones._stages import Stage

__all__ = [
    "Backbone",
    "ModelCard",
    "Section",
    "Stage",
    "card_of",
    "describe_backbone",
    "describe_training",
    "fingerprint",
    "is_image_network",
    "list_backbones",
    "load_backbone",
    "model_card",
    "shared_backbone",
    "stated_license",
]
