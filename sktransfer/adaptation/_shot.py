"""SHOT: the trained stages move to the target, under a head that stays."""

from functools import partial

import torch
from skorch.callbacks import Callback

from sktransfer.adaptation._methods import information
from sktransfer.adaptation._self_training import centroid_labels
from sktransfer.compute import fixed_threads
from sktransfer.training import Objective, cross_entropy

__all__ = ["CentroidLabels", "shot_objective", "weighted_cross_entropy"]

_SHARE = 0.3  # of the pseudo labels beside the information, in the paper


def weighted_cross_entropy(weight):
    """Return the loss of pseudo labels (callable)."""
    return partial(_scaled, factor=_SHARE * weight)


def _scaled(scores, y, factor):
    return factor * cross_entropy(scores, y)


def shot_objective(weight):
    """Return what is minimised besides (Objective)."""
    return Objective(information, weight=weight)


class CentroidLabels(Callback):
    """Label the samples anew before each epoch.

    Parameters
    ----------
    activations : Activations
        Of all samples.
    labels : torch.Tensor of shape (n_samples,), int64
        Written to.
    batch_size : int

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546
    """

    def __init__(self, activations, labels, batch_size):
        self.activations = activations
        self.labels = labels
        self.batch_size = batch_size

    def __sklearn_clone__(self):
        return self  # it writes to the labels that are trained on

    def on_epoch_begin(self, net, **kwargs):
        """Label."""
        network = net.module_.eval()
        features = network.features(self.activations, self.batch_size)
        with torch.no_grad(), fixed_threads():
            device = next(network.parameters()).device
            scores = network.head(features.to(device)).cpu()
        self.labels.copy_(centroid_labels(features, scores))

    def on_train_end(self, net, **kwargs):
        """Let go of the activations: the net lives on, and would hold them."""
        self.activations = None
