"""Pretrained PyTorch networks inside scikit-learn."""

from sktransfer._classifier import FineTunedClassifier
from sktransfer._features import PretrainedFeatureExtractor

__all__ = ["FineTunedClassifier", "PretrainedFeatureExtractor", "__version__"]
__version__ = "0.1.0.dev0"
