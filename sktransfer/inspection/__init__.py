"""Displays of results, and explanations of predictions."""

from sktransfer.inspection._embedding import EmbeddingDisplay
from sktransfer.inspection._error_gallery import ErrorGalleryDisplay
from sktransfer.inspection._freeze_depth import FreezeDepthDisplay
from sktransfer.inspection._gap import GapDisplay
from sktransfer.inspection._ranking import RankingDisplay
from sktransfer.inspection._stage_probes import StageProbeDisplay
from sktransfer.inspection._training_history import TrainingHistoryDisplay

__all__ = [
    "EmbeddingDisplay",
    "ErrorGalleryDisplay",
    "FreezeDepthDisplay",
    "GapDisplay",
    "RankingDisplay",
    "StageProbeDisplay",
    "TrainingHistoryDisplay",
]
