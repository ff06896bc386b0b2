"""Pretrained networks as ordered sequences of stages, by name or from a module."""

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._card import (
    ModelCard,
    card_of,
    describe_backbone,
    describe_training,
    model_card,
)
from sktransfer.backbones._layout import StagedModule, use_of_backbones
from sktransfer.backbones._listing import list_backbones
from sktransfer.backbones._load import BackboneLike, load_backbone, shared_backbone
from sktransfer.backbones._purity import impurity_of
from sktransfer.backbones._registry import (
    BackboneProvider,
    list_providers,
    modality_for,
    register_provider,
    stated_license,
)
from sktransfer.backbones._sections import Section, fingerprint
from sktransfer.backbones._stages import Stage

__all__ = [
    "Backbone",
    "BackboneProvider",
    "ModelCard",
    "Stage",
    "StagedModule",
    "describe_backbone",
    "list_backbones",
    "list_providers",
    "load_backbone",
    "model_card",
    "register_provider",
]
