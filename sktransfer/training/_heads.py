"""Heads: from a vector of features to scores."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import seeded

__all__ = ["HEADS", "CosineHead", "head_from_linear", "make_head"]

HEADS = ("linear", "mlp", "cosine")
# Width of the hidden layer: that of fastai's heads, for features of the usual 512 to
# 2,048 entries; https://docs.fast.ai/vision.learner.html#create_head.
_HIDDEN = 512
_SCALE = 10.0  # where Gidaris and Komodakis start theirs
# Features shorter than this count as zero, as in Chen et al.; torch's own 1e-12 would
# multiply the gradients of features that are all zero by its inverse.
_SHORTEST = 1e-5


class CosineHead(nn.Module):
    """Scores are the cosines of features and class weights, times a learned scale.

    Parameters
    ----------
    n_features, n_outputs : int

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (n_outputs, n_features)
        A direction for each output.
    log_scale : torch.nn.Parameter of shape ()
        The scale is learned by its logarithm, as in CLIP (Radford et al., 2021,
        https://arxiv.org/abs/2103.00020): it stays positive, and steps of the size that
        suits weights change it in proportion.

    References
    ----------
    S. Gidaris and N. Komodakis (2018). Dynamic Few-Shot Visual Learning without
    Forgetting. https://arxiv.org/abs/1804.09458

    W.-Y. Chen et al. (2019). A Closer Look at Few-shot Classification.
    https://arxiv.org/abs/1904.04232
    """

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_outputs, n_features))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))
        nn.init.normal_(self.weight, std=math.sqrt(2 / n_features))

    def forward(self, features):
        """Compute scores.

        Parameters
        ----------
        features : torch.Tensor of shape (n, n_features)

        Returns
        -------
        torch.Tensor of shape (n, n_outputs)
            In [-scale, scale].
        """
        features = F.normalize(features, dim=1, eps=_SHORTEST)
        weight = F.normalize(self.weight, dim=1, eps=_SHORTEST)
        return self.log_scale.exp() * F.linear(features, weight)

    def extra_repr(self):
        """Name the sizes."""
        n_outputs, n_features = self.weight.shape
        return f"{n_features}, {n_outputs}"


def make_head(head, n_features, n_outputs, *, seed, dropout=0.0):
    """Make a head with random weights, or copy one.

    Parameters
    ----------
    head : {"linear", "mlp", "cosine"} or torch.nn.Module
        One layer; one hidden layer of 512; a :class:`CosineHead`. A module is copied
        with the weights that it has; only those of its lazy layers are drawn.
    n_features, n_outputs : int
    seed : int
        No global generator is touched.
    dropout : float, default=0.0
        Share of the features that are dropped in train mode.

    Returns
    -------
    torch.nn.Module
        From features of shape (n, n_features) to scores of shape (n, n_outputs), in
        float32 and on the CPU. With dropout, an ``nn.Sequential`` of that and the head.

    Raises
    ------
    ValueError
        If the module takes or returns something else.
    """
    with seeded(seed):
        if isinstance(head, nn.Module):
            made = _copy_of(head, n_features, n_outputs)
        else:
            makers = {"linear": nn.Linear, "mlp": _mlp, "cosine": CosineHead}
            made = makers[head](n_features, n_outputs)
    return _with_dropout(made, dropout)


def head_from_linear(linear, dropout=0.0):
    """Make what ``make_head("linear", ...)`` makes around a layer that is fitted.

    Parameters
    ----------
    linear : torch.nn.Linear
        Not copied.
    dropout : float, default=0.0

    Returns
    -------
    torch.nn.Module
    """
    return _with_dropout(linear, dropout)


def _with_dropout(head, dropout):
    return nn.Sequential(nn.Dropout(dropout), head) if dropout else head


def _mlp(n_features, n_outputs):
    # The norm makes one learning rate fit features of any scale, and unlike BatchNorm
    # needs no statistics. Behind the layer, as few features have nothing left to tell
    # when they are normalised: a single one is a constant then.
    return nn.Sequential(
        nn.Linear(n_features, _HIDDEN),
        nn.LayerNorm(_HIDDEN),
        nn.GELU(),
        nn.Linear(_HIDDEN, n_outputs),
    )


def _copy_of(head, n_features, n_outputs):
    """Copy a module and try it on two rows, which makes lazy layers draw weights."""
    rule = (
        f"`head` must map features of shape (n, {n_features}) to scores of shape "
        f"(n, {n_outputs})."
    )
    try:
        head = copy.deepcopy(head)
    except ValueError as error:  # torch cannot copy the buffers of lazy layers
        raise ValueError(
            f"{rule} Got a {type(head).__name__} with a lazy layer that cannot be "
            f"copied. Give its size, as torch.nn.BatchNorm1d({n_features}) in the "
            "place of torch.nn.LazyBatchNorm1d()."
        ) from error
    head = head.to("cpu", torch.float32)
    training = head.training
    try:
        with torch.no_grad():
            scores = head.eval()(torch.zeros(2, n_features))
    except Exception as error:
        raise ValueError(
            f"{rule} Got {type(head).__name__}, which fails on features of shape "
            f"(2, {n_features}): {error}. torch.nn.LazyLinear finds the number of "
            "features by itself."
        ) from error
    got = getattr(scores, "shape", None)
    if got != (2, n_outputs):
        shape = type(scores).__name__ if got is None else f"shape {tuple(got)}"
        raise ValueError(
            f"{rule} Got {type(head).__name__}, whose output for two rows is of "
            f"{shape} instead of (2, {n_outputs})."
        )
    return head.train(training)
