"""Advice before training: backbones, strategies and the number of frozen stages."""

from sktransfer.advice._advisor import TransferAdvisor
from sktransfer.advice._probes import knn_score, lda_score, n_leep
from sktransfer.advice._ranker import BackboneRanker
from sktransfer.advice._registry import list_scores, register_score
from sktransfer.advice._scores import h_score, leep, logme
from sktransfer.advice._similarity import DomainSimilarity, domain_similarity

__all__ = [
    "BackboneRanker",
    "DomainSimilarity",
    "TransferAdvisor",
    "domain_similarity",
    "h_score",
    "knn_score",
    "lda_score",
    "leep",
    "list_scores",
    "logme",
    "n_leep",
    "register_score",
]
