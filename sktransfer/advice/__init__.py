"""Advice before training: which backbone, how deep to freeze, which strategy."""

from sktransfer.advice._probes import knn_score, lda_score, n_leep
from sktransfer.advice._scores import h_score, leep, logme

__all__ = ["h_score", "knn_score", "lda_score", "leep", "logme", "n_leep"]
