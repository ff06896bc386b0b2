"""The part of a network that is trained: suffix, pooling and head."""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import (
    channels_last,
    fixed_threads,
    halving,
    map_state,
    seeded,
    split_state,
)
from sktransfer.utils import near_matches

__all__ = [
    "HEADS",
    "CosineHead",
    "Network",
    "Probabilities",
    "head_from_linear",
    "make_head",
    "register_head",
]

HEADS: dict[str, Callable[[int, int], nn.Module]] = {}
# Width of the hidden layer: that of fastai's heads, for features of the usual 512 to
# 2,048 entries; https://docs.fast.ai/vision.learner.html#create_head.
_HIDDEN = 512
_SCALE = 10.0  # the initial scale of Gidaris and Komodakis
# Features shorter than this count as zero, as in Chen et al.; torch's own 1e-12 would
# multiply the gradients of features that are all zero by its inverse.
_SHORTEST = 1e-5


class Network(nn.Module):
    """Map activations at the boundary to scores.

    Parameters
    ----------
    suffix : torch.nn.Module
        The stages above the boundary; an identity if there are none.
    pool : torch.nn.Module
        To one vector per sample.
    head : torch.nn.Module or None, default=None
        From vectors to scores.
    augment : torch.nn.Module or None, default=None
        Augments activations, in train mode only.
    """

    def __init__(self, suffix, pool, head=None, augment=None):
        super().__init__()
        self.augment = nn.Identity() if augment is None else augment
        self.suffix = suffix
        self.pool = pool
        self.head = head

    def forward(self, z):
        """Compute scores.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
            Activations at the boundary.

        Returns
        -------
        torch.Tensor of shape (n, n_outputs)
        """
        return self.scores(self.augment(z))

    def scores(self, z):
        """Compute the scores of activations that are augmented already."""
        return self.head(self.describe(z))

    def describe(self, z):
        """Compute the features that the head takes.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor

        Returns
        -------
        torch.Tensor of shape (n, d)
        """
        return self.pool(self.suffix(map_state(channels_last, z)))

    def features(self, activations, batch_size):
        """Compute the features that the head takes, in eval mode, without gradients.

        Parameters
        ----------
        activations : Activations, torch.Tensor of shape (n_samples, ...) or dict
            On the CPU.
        batch_size : int

        Returns
        -------
        torch.Tensor of shape (n_samples, d)
            On the CPU.
        """
        was_training = self.suffix.training
        self.suffix.eval()
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        size, parts = batch_size, []

        def compute(z, size):
            moved = (
                map_state(lambda t: t.to(device), part) for part in split_state(z, size)
            )
            return [self.describe(part).cpu() for part in moved]

        for z in split_state(activations, batch_size):
            with torch.no_grad(), fixed_threads():
                described, size = halving(partial(compute, z), size, device)
            parts += described
        self.suffix.train(was_training)
        return torch.cat(parts)


class Probabilities:
    """Turn scores into probabilities, and these into predictions.

    Parameters
    ----------
    multilabel : bool, default=False
        Whether each output is a label of its own. Otherwise the classes exclude each
        other.
    """

    def __init__(self, multilabel=False):
        self.multilabel = multilabel

    def __call__(self, scores):
        """Return probabilities.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_outputs)

        Returns
        -------
        torch.Tensor of the same shape
        """
        return torch.sigmoid(scores) if self.multilabel else torch.softmax(scores, 1)

    def decide(self, probabilities):
        """Return predictions.

        Parameters
        ----------
        probabilities : ndarray of shape (n, n_outputs)

        Returns
        -------
        ndarray of int of shape (n,) or (n, n_outputs)
            The most probable class; for labels, whether they are more probable than
            not.
        """
        if self.multilabel:
            return (probabilities > 0.5).astype(int)
        return probabilities.argmax(axis=1)


def register_head(name: str, factory: Callable[[int, int], nn.Module]) -> None:
    """Register a head, so that estimators find it by name.

    Parameters
    ----------
    name : str
        The value of the parameter `head`.
    factory : callable
        ``factory(n_features, n_outputs)`` returns a :class:`torch.nn.Module` that maps
        features of shape (n, n_features) to scores of shape (n, n_outputs). Its weights
        may be random: the factory is called with seeded generators.

    Raises
    ------
    ValueError
        If there is a head of this name.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.training import make_head, register_head
    >>> def bottleneck(n_features, n_outputs):
    ...     return nn.Sequential(nn.Linear(n_features, 2), nn.Linear(2, n_outputs))
    >>> register_head("bottleneck", bottleneck)
    >>> len(make_head("bottleneck", 5, 3, seed=0))
    2
    """
    if name in HEADS:
        raise ValueError(f"`name` must be a new name of a head. Got {name!r} again.")
    HEADS[name] = factory


def make_head(head, n_features, n_outputs, *, seed, dropout=0.0):
    """Make a head with random weights, or copy one.

    Parameters
    ----------
    head : {"linear", "mlp", "cosine"}, another registered name or torch.nn.Module
        One layer; one hidden layer of 512; a :class:`CosineHead`. A module is copied
        together with its weights; only the weights of lazy layers are random.
    n_features, n_outputs : int
    seed : int
        For random weights. No global generator is changed.
    dropout : float, default=0.0
        Share of the features that are dropped in train mode.

    Returns
    -------
    torch.nn.Module
        From features of shape (n, n_features) to scores of shape (n, n_outputs), in
        float32 and on the CPU. With dropout, an ``nn.Sequential`` of dropout and head.

    Raises
    ------
    ValueError
        If there is no head of this name, or the module has inputs or outputs of other
        shapes.
    """
    if isinstance(head, str) and head not in HEADS:
        near = near_matches(head, HEADS)
        raise ValueError(f"`head` must be one of {[*HEADS]}. Got {head!r}.{near}")
    rule = (
        f"`head` must map features of shape (n, {n_features}) to scores of shape "
        f"(n, {n_outputs})."
    )
    with seeded(seed):
        if isinstance(head, nn.Module):
            made = _copy(head, n_features, rule)
        else:
            made = HEADS[head](n_features, n_outputs)
        made = _tried(made.to("cpu", torch.float32), n_features, n_outputs, rule)
    return head_from_linear(made, dropout)


def head_from_linear(linear, dropout=0.0):
    """Return the head that ``make_head("linear", ...)`` makes, with a fitted layer.

    Parameters
    ----------
    linear : torch.nn.Module
        Not copied.
    dropout : float, default=0.0

    Returns
    -------
    torch.nn.Module
    """
    return nn.Sequential(nn.Dropout(dropout), linear) if dropout else linear


class CosineHead(nn.Module):
    """Scores are the cosines of features and class weights, times a learned scale.

    Parameters
    ----------
    n_features, n_outputs : int

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (n_outputs, n_features)
        One direction per output.
    log_scale : torch.nn.Parameter of shape ()
        The logarithm of the scale, as in CLIP (Radford et al., 2021,
        https://arxiv.org/abs/2103.00020): the scale stays positive, and steps of the
        size that suits weights change it in proportion.

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
        """Return the sizes."""
        n_outputs, n_features = self.weight.shape
        return f"{n_features}, {n_outputs}"


def _mlp(n_features, n_outputs):
    # The norm makes one learning rate fit features of any scale, and unlike BatchNorm
    # it needs no statistics. It follows the layer, as normalising few features leaves
    # no information: a single feature would become a constant.
    return nn.Sequential(
        nn.Linear(n_features, _HIDDEN),
        nn.LayerNorm(_HIDDEN),
        nn.GELU(),
        nn.Linear(_HIDDEN, n_outputs),
    )


register_head("linear", nn.Linear)
register_head("mlp", _mlp)
register_head("cosine", CosineHead)


def _copy(head, n_features, rule):
    try:
        return copy.deepcopy(head)
    except ValueError as error:  # torch cannot copy the buffers of lazy layers
        raise ValueError(
            f"{rule} Got a {type(head).__name__} with a lazy layer that cannot be "
            f"copied. Give its size, as torch.nn.BatchNorm1d({n_features}) in the "
            "place of torch.nn.LazyBatchNorm1d()."
        ) from error


def _tried(head, n_features, n_outputs, rule):
    """Try a head on two rows, which draws the weights of lazy layers, and return it."""
    was_training, kind = head.training, type(head).__name__
    try:
        with torch.no_grad():
            scores = head.eval()(torch.zeros(2, n_features))
    except Exception as error:
        raise ValueError(
            f"{rule} Got {kind}, which fails on features of shape (2, {n_features}): "
            f"{error}. torch.nn.LazyLinear finds the number of features by itself."
        ) from error
    got = getattr(scores, "shape", None)
    if got != (2, n_outputs):
        shape = type(scores).__name__ if got is None else f"shape {tuple(got)}"
        raise ValueError(
            f"{rule} Got {kind}, whose output for two rows is of {shape} instead of "
            f"(2, {n_outputs})."
        )
    return head.train(was_training)
