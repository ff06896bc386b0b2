"""Pretrained PyTorch networks inside scikit-learn."""

from importlib import import_module
from types import ModuleType

from sktransfer._classifier import FineTunedClassifier
from sktransfer._classifier_cv import FineTunedClassifierCV
from sktransfer._features import PretrainedFeatureExtractor
from sktransfer._regressor import FineTunedRegressor
from sktransfer._regressor_cv import FineTunedRegressorCV
from sktransfer.compute import show_versions
from sktransfer.training import (
    Augmentation,
    EarlyStopping,
    LoRA,
    Pooling,
    TrainingRecipe,
    list_heads,
    list_losses,
    register_head,
    register_loss,
)
from sktransfer.utils import TransferWarning, config_context, get_config, set_config

__all__ = [
    "Augmentation",
    "EarlyStopping",
    "FineTunedClassifier",
    "FineTunedClassifierCV",
    "FineTunedRegressor",
    "FineTunedRegressorCV",
    "LoRA",
    "Pooling",
    "PretrainedFeatureExtractor",
    "TrainingRecipe",
    "TransferWarning",
    "__version__",
    "config_context",
    "get_config",
    "list_heads",
    "list_losses",
    "register_head",
    "register_loss",
    "set_config",
    "show_versions",
]
__version__ = "0.1.0.dev0"
_LAZY = ("adaptation", "advice", "inspection")


def __getattr__(name: str) -> ModuleType:
    """Import a package when it is first used, as `sktransfer.advice`."""
    if name in _LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
