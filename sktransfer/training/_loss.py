"""Losses: per sample, their weighted mean, and a penalty on leaving the start."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.utils import near_matches

__all__ = [
    "CLASSIFICATION_LOSSES",
    "LOSSES",
    "CheckedLoss",
    "RegressionLoss",
    "StartingPoint",
    "WeightedLoss",
    "cross_entropy",
    "find_loss",
    "register_loss",
]

PerSampleLoss = Callable[..., torch.Tensor]
CLASSIFICATION_LOSSES: dict[str, PerSampleLoss] = {}
LOSSES: dict[str, PerSampleLoss] = {}  # of regression
_TASKS = {"classification": CLASSIFICATION_LOSSES, "regression": LOSSES}


def register_loss(
    name: str, function: PerSampleLoss, *, task: str = "regression"
) -> None:
    """Register a loss, so that estimators find it by name.

    Parameters
    ----------
    name : str
        The value of the parameter `loss`.
    function : callable
        ``function(scores, y)`` returns the loss of each sample, a tensor of shape (n,).
        Scores have shape (n, n_outputs). y has shape (n,) and holds classes in
        [0, n_outputs); for multilabel classification, shape (n, n_outputs) of 0 and 1;
        for regression, shape (n, n_outputs) of targets with zero mean and unit
        variance. Sample weights and mixing are applied to what is returned.
    task : {"regression", "classification"}, default="regression"

    Raises
    ------
    ValueError
        If there is a loss of this name, or no such task.

    Examples
    --------
    >>> from sktransfer import register_loss
    >>> def log_cosh(scores, y):
    ...     return (y - scores).cosh().log().mean(1)
    >>> register_loss("log_cosh", log_cosh)
    """
    if task not in _TASKS:
        raise ValueError(f"`task` must be one of {[*_TASKS]}. Got {task!r}.")
    if name in _TASKS[task]:
        raise ValueError(f"`name` must be a new name of a loss. Got {name!r} again.")
    _TASKS[task][name] = function


def cross_entropy(scores, y, label_smoothing=0.0):
    """Compute the cross-entropy of each sample.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.
    y : torch.Tensor of shape (n,) or (n, k)
        Classes, int64; or, for multilabel classification, 0 and 1 in float32.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over all classes, or over both values
        of a label (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).

    Returns
    -------
    torch.Tensor of shape (n,)
        Mean over the labels where there are several.
    """
    if y.ndim == 1:
        return F.cross_entropy(
            scores, y, reduction="none", label_smoothing=label_smoothing
        )
    y = y * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(scores, y, reduction="none")  # (n, k)
    return losses.mean(1)


def _squared_error(scores, y):
    return (0.5 * (y - scores) ** 2).mean(1)


def _absolute_error(scores, y):
    return (y - scores).abs().mean(1)


def _huber(scores, y):
    return F.huber_loss(scores, y, reduction="none").mean(1)


def _pinball(scores, y, quantile=0.5):
    residual = y - scores
    return torch.maximum(quantile * residual, (quantile - 1) * residual).mean(1)


register_loss("cross_entropy", cross_entropy, task="classification")
register_loss("squared_error", _squared_error)
register_loss("absolute_error", _absolute_error)
register_loss("huber", _huber)
register_loss("quantile", _pinball)


class RegressionLoss:
    """Loss per sample, averaged over the targets where there are several.

    Parameters
    ----------
    kind : {"squared_error", "absolute_error", "huber", "quantile"}, another \
registered name or callable
        "squared_error" is halved, as in scikit-learn. "huber" is squared up to one
        standard deviation of the targets and absolute beyond (Huber, 1964). "quantile"
        is the pinball loss (Koenker and Bassett, 1978). A callable is used as it is.
    quantile : float, default=0.5
        The quantile that "quantile" estimates.
    """

    def __init__(self, kind, quantile=0.5):
        self.kind = kind
        self.quantile = quantile

    def __call__(self, scores, y):
        """Compute the losses.

        Parameters
        ----------
        scores, y : torch.Tensor of shape (n, k)

        Returns
        -------
        torch.Tensor of shape (n,)
        """
        if self.kind == "quantile":
            return _pinball(scores, y, self.quantile)
        return (self.kind if callable(self.kind) else LOSSES[self.kind])(scores, y)


def find_loss(loss: str | PerSampleLoss, known: Mapping[str, PerSampleLoss]):
    """Return the loss of a registered name, or a checked callable.

    Parameters
    ----------
    loss : str or callable
    known : dict of str to callable
        The registered losses of the task.

    Raises
    ------
    ValueError
        If there is no such loss.
    """
    if callable(loss):
        return CheckedLoss(loss)
    if loss not in known:
        raise ValueError(
            f"`loss` must be one of {[*known]} or a callable. Got {loss!r}."
            f"{near_matches(loss, known)}"
        )
    return known[loss]


class CheckedLoss:
    """Loss of the user's, checked to give one number per sample.

    Parameters
    ----------
    function : callable
        From scores of shape (n, k) and targets to losses of shape (n,).
    """

    def __init__(self, function):
        self.function = function

    def __call__(self, scores, y):
        """Compute the losses.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, k)
        y : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of shape (n,)

        Raises
        ------
        ValueError
            If the function returns something else.
        """
        losses = self.function(scores, y)
        if not isinstance(losses, torch.Tensor) or losses.shape != scores.shape[:1]:
            got = getattr(losses, "shape", None)
            got = type(losses).__name__ if got is None else f"shape {tuple(got)}"
            raise ValueError(
                "`loss` must return a tensor with the loss of each sample, of shape "
                f"({len(scores)},). Got {got}; reduce over the outputs, not over the "
                "samples, as with `reduction='none'`."
            )
        return losses


class WeightedLoss(nn.Module):
    """Mean of the losses of samples that have weights.

    Parameters
    ----------
    per_sample : callable
        From scores and targets to losses of shape (n,); see :func:`register_loss`.
    objective : Objective or None, default=None
        What is minimised besides. It plays no part in this loss, but belongs to what
        skorch calls the criterion, so its parameters are trained.
    """

    def __init__(self, per_sample, objective=None):
        super().__init__()
        self.per_sample = per_sample
        self.objective = objective

    def forward(self, scores, target, partner=None, share=None, rows=slice(None)):
        """Compute the loss of a batch or of a part of it.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_outputs)
            Of the part.
        target : (y, sample_weight), torch.Tensors of shape (n, ...) and (n,)
            Of the batch.
        partner : torch.Tensor of shape (n,), default=None
            Sample that each sample of the batch is mixed with.
        share : torch.Tensor of shape (n,), default=None
            Weight of each sample's own target.
        rows : slice, default=slice(None)
            Which part of the batch the scores are of; by default all.

        Returns
        -------
        torch.Tensor of shape ()
            Sum of the weighted losses over n: weights with a mean of one over all
            samples keep the scale of the gradients.
        """
        y, weight = target
        losses = weight[rows] * self._losses(scores, y[rows])
        if partner is None:
            return losses.mean()
        partner, share = partner[rows], share[rows]
        others = weight[partner] * self._losses(scores, y[partner])
        return (share * losses + (1 - share) * others).mean()

    def _losses(self, scores, y):
        losses = self.per_sample(scores, y)
        got = getattr(losses, "shape", None)
        if got != (len(scores),):
            shape = type(losses).__name__ if got is None else f"shape {tuple(got)}"
            raise ValueError(
                "`loss` must return one loss per sample, a tensor of shape "
                f"({len(scores)},) for this batch. Got {shape}; losses of torch take "
                "reduction='none', and several outputs need a mean over axis 1."
            )
        return losses


class StartingPoint:
    """The L2-SP penalty: the trained weights of the backbone stay near their start.

    The head has no pretrained weights to stay near; it has weight decay, as in the
    paper.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
        Of a module at the start. Those that are frozen or whose names start with
        ``head.`` are left out.

    References
    ----------
    X. Li et al. (2018). Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks. https://arxiv.org/abs/1802.01483

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> start = StartingPoint(layer.named_parameters())
    >>> with torch.no_grad():
    ...     layer.weight += 0.5
    >>> start.penalty().item()
    0.75
    """

    def __init__(self, named_parameters):
        self.pairs = [
            (parameter, parameter.detach().clone())
            for name, parameter in named_parameters
            if parameter.requires_grad and not name.startswith("head.")
        ]

    def penalty(self):
        """Compute half the squared distance from the start.

        Returns
        -------
        torch.Tensor of shape ()
            Its gradient is the distance of each weight from its start.
        """
        squares = [F.mse_loss(p, start, reduction="sum") for p, start in self.pairs]
        return 0.5 * sum(squares, start=torch.zeros(()))
