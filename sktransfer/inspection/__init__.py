"""Displays of results, and explanations of predictions."""

from sktransfer.inspection._embedding import EmbeddingDisplay
from sktransfer.inspection._error_gallery import ErrorGalleryDisplay
from sktransfer.inspection._explain import Explanation, explain
from sktransfer.inspection._explanation_display import ExplanationDisplay
from sktransfer.inspection._freeze_depth import FreezeDepthDisplay
from sktransfer.inspection._gap import GapDisplay
from sktransfer.inspection._learning_curve import LearningCurveDisplay
from sktransfer.inspection._pass_counter import PassCounter
from sktransfer.inspection._ranking import RankingDisplay
from sktransfer.inspection._stage_probes import StageProbeDisplay
from sktransfer.inspection._training_history import TrainingHistoryDisplay

__all__ = [
    "EmbeddingDisplay",
    "ErrorGalleryDisplay",
    "Explanation",
    "ExplanationDisplay",
    "FreezeDepthDisplay",
    "GapDisplay",
    "LearningCurveDisplay",
    "PassCounter",
    "RankingDisplay",
    "StageProbeDisplay",
    "TrainingHistoryDisplay",
    "explain",
]
