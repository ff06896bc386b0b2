"""What is minimised: losses of single samples, and their weighted mean."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "LOSSES",
    "CheckedLoss",
    "RegressionLoss",
    "WeightedLoss",
    "cross_entropy",
]

LOSSES = ("squared_error", "absolute_error", "huber", "quantile")


def cross_entropy(scores, y, label_smoothing=0.0):
    """Compute the cross-entropy of each sample.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.
    y : torch.Tensor of shape (n,) or (n, k)
        Classes, int64; or, for k independent labels, 0 and 1 in float32.
    label_smoothing : float, default=0.0
        Share of the target that all classes have in equal parts (Szegedy et al., 2016,
        https://arxiv.org/abs/1512.00567). Of independent labels, both values.

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


class RegressionLoss:
    """Loss of each sample, mean over the targets where there are several.

    Parameters
    ----------
    kind : {"squared_error", "absolute_error", "huber", "quantile"}
        "squared_error" is halved, as in scikit-learn. "huber" is squared up to one
        standard deviation of the targets and absolute beyond (Huber, 1964).
        "quantile" is the pinball loss (Koenker and Bassett, 1978).
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
        return getattr(self, "_" + self.kind)(y - scores).mean(1)

    @staticmethod
    def _squared_error(residual):
        return 0.5 * residual**2

    @staticmethod
    def _absolute_error(residual):
        return residual.abs()

    @staticmethod
    def _huber(residual):
        return F.huber_loss(residual, torch.zeros_like(residual), reduction="none")

    def _quantile(self, residual):
        return torch.maximum(self.quantile * residual, (self.quantile - 1) * residual)


class CheckedLoss:
    """A loss of the user's, checked to give one number per sample.

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
    """Mean of the losses of single samples that have weights.

    Parameters
    ----------
    per_sample : callable
        From scores and targets to losses of shape (n,).
    objective : Objective or None, default=None
        What is minimised besides. It plays no part in this loss, but belongs to what
        skorch calls the criterion, so its parameters are trained.
    """

    def __init__(self, per_sample, objective=None):
        super().__init__()
        self.per_sample = per_sample
        self.objective = objective

    def forward(self, scores, target, partner=None, share=None, rows=slice(None)):
        """Compute the loss.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_outputs)
            Of these rows alone.
        target : (y, sample_weight), torch.Tensors of shape (n, ...) and (n,)
        partner : torch.Tensor of shape (n,), default=None
            Sample that each is mixed with.
        share : torch.Tensor of shape (n,), default=None
            What of each is its own.
        rows : slice, default=slice(None)
            Which part of the batch the loss is of; by default all.

        Returns
        -------
        torch.Tensor of shape ()
            Sum of the weighted losses over n: weights of mean one over all samples
            keep the scale of the gradients.
        """
        y, weight = target
        losses = weight[rows] * self.per_sample(scores, y[rows])
        if partner is None:
            return losses.mean()
        partner, share = partner[rows], share[rows]
        others = weight[partner] * self.per_sample(scores, y[partner])
        return (share * losses + (1 - share) * others).mean()
