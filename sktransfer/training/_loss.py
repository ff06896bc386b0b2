"""Losses per sample and their registry, weighted means, penalties and objectives."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import join_states, n_samples
from sktransfer.utils import Registry, check_callable

PerSampleLoss = Callable[..., torch.Tensor]


def _check_loss(function):
    check_callable(function, "function", "function(scores, y)")


LOSSES: dict[str, Registry[PerSampleLoss]] = {
    task: Registry(
        f"losses for {task}", "`loss` must be one of {names} or a callable", _check_loss
    )
    for task in ("classification", "regression")
}


def register_loss(name: str, function: PerSampleLoss, *, task: str) -> None:
    """Register a loss by name, for the parameter `loss` of the estimators.

    Parameters
    ----------
    name : str
        The value of the parameter `loss`, an identifier. Names of the built-in losses
        for the task are taken; any other loss of the same name is replaced.
    function : callable
        ``function(scores, y)`` returns the loss of each sample, a tensor of shape (n,).
        Scores have shape (n, n_outputs). y has shape (n,) and holds classes in
        [0, n_outputs); for multilabel classification, shape (n, n_outputs) of 0 and 1;
        for regression, shape (n, n_outputs) of targets with zero mean and unit
        variance. Sample weights and mixing are applied to the returned losses.
    task : {"classification", "regression"}
        Task of the estimators that take the loss.

    Raises
    ------
    TypeError
        If the function is not callable.
    ValueError
        If there is no such task, or the name is not an identifier, or is taken.

    See Also
    --------
    list_losses : The names of all losses for a task.

    Examples
    --------
    >>> from sktransfer import register_loss
    >>> def log_cosh(scores, y):
    ...     return (y - scores).cosh().log().mean(1)
    >>> register_loss("log_cosh", log_cosh, task="regression")
    """
    _of_task(task).register(name, function)


def list_losses(task: str) -> list[str]:
    """Return the names of the registered losses for a task.

    Parameters
    ----------
    task : {"classification", "regression"}

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If there is no such task.

    See Also
    --------
    register_loss : Registers a loss by name.

    Examples
    --------
    >>> from sktransfer import list_losses
    >>> list_losses("regression")[:2]
    ['squared_error', 'absolute_error']
    """
    return list(_of_task(task))


def _of_task(task):
    if task not in LOSSES:
        raise ValueError(f"`task` must be one of {[*LOSSES]}. Got {task!r}.")
    return LOSSES[task]


def cross_entropy(
    scores: torch.Tensor,
    y: torch.Tensor,
    label_smoothing: float = 0.0,
    label_weight: np.ndarray | None = None,
) -> torch.Tensor:
    """Compute the cross-entropy (n,) of each sample, as a mean over multilabel labels.

    Scores have shape (n, k). y holds classes, of shape (n,), or 0 and 1 in float32, of
    shape (n, k). A share `label_smoothing` of the target is spread evenly over all
    classes, or over both values of a label (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567). `label_weight` multiplies the losses of the zeros
    and of the ones of each label, of shape (2, k).
    """
    if y.ndim == 1:
        return F.cross_entropy(
            scores, y, reduction="none", label_smoothing=label_smoothing
        )
    smooth = y * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(scores, smooth, reduction="none")
    if label_weight is not None:
        of_zeros, of_ones = torch.from_numpy(label_weight).to(losses)  # (k,), (k,)
        losses = losses * torch.where(y > 0, of_ones, of_zeros)
    return losses.mean(1)


def _squared_error(scores, y):
    return (0.5 * (y - scores) ** 2).mean(1)


def _absolute_error(scores, y):
    return (y - scores).abs().mean(1)


def _huber(scores, y):
    return F.huber_loss(scores, y, reduction="none").mean(1)


def pinball_loss(
    scores: torch.Tensor, y: torch.Tensor, quantile: float = 0.5
) -> torch.Tensor:
    """Compute the pinball loss (n,) of scores and targets (n, k), averaged over k."""
    residual = y - scores
    return torch.maximum(quantile * residual, (quantile - 1) * residual).mean(1)


LOSSES["classification"].add_built_in("cross_entropy", cross_entropy)
LOSSES["regression"].add_built_in("squared_error", _squared_error)
LOSSES["regression"].add_built_in("absolute_error", _absolute_error)
LOSSES["regression"].add_built_in("huber", _huber)
LOSSES["regression"].add_built_in("quantile", pinball_loss)


def find_loss(loss: str | PerSampleLoss, task: str) -> PerSampleLoss:
    """Return the loss of this name, or a callable with its results checked."""
    if isinstance(loss, type):
        raise ValueError(
            f"`loss` must be a function or an instance. Got the class {loss.__name__}; "
            f"losses of torch are passed as {loss.__name__}(reduction='none')."
        )
    return CheckedLoss(loss) if callable(loss) else LOSSES[task][loss]


class CheckedLoss:
    """A loss that raises an error unless it returns one value per sample."""

    def __init__(self, function: PerSampleLoss):
        self.function = function

    def __call__(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute the losses (n,) of scores (n, n_outputs)."""
        losses = self.function(scores, y)
        if not isinstance(losses, torch.Tensor) or losses.shape != scores.shape[:1]:
            got = getattr(losses, "shape", None)
            got = type(losses).__name__ if got is None else f"shape {tuple(got)}"
            raise ValueError(
                "`loss` must return a tensor with the loss of each sample, of shape "
                f"({len(scores)},). Got {got}; reduce over the outputs, not over the "
                "samples: losses of torch take reduction='none', and several outputs "
                "need a mean over axis 1."
            )
        return losses


class WeightedLoss(nn.Module):
    """Mean of the weighted losses of samples; the criterion of the net.

    It holds the `objective` because skorch trains the parameters of the criterion. The
    objective is not part of this loss.
    """

    def __init__(self, per_sample: PerSampleLoss, objective: nn.Module | None = None):
        super().__init__()
        self.per_sample = CheckedLoss(per_sample)
        self.objective = objective

    def forward(
        self,
        scores: torch.Tensor,
        target: tuple[torch.Tensor, torch.Tensor],
        partner: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
        rows: slice = slice(None),
    ) -> torch.Tensor:
        """Compute the loss of a batch, or of the part of it that `rows` selects.

        `scores` belong to the part; `target` is (y, sample_weight) of the whole batch.
        If samples are mixed, `partner` holds the index of each one's partner in the
        batch, and `share` the weight of its own target. The weighted losses are summed
        and divided by n, as weights with a mean of one over all samples keep the scale
        of the gradients.
        """
        y, weight = target
        losses = weight[rows] * self.per_sample(scores, y[rows])
        if partner is None or share is None:
            return losses.mean()
        partner, share = partner[rows], share[rows]
        others = weight[partner] * self.per_sample(scores, y[partner])
        return (share * losses + (1 - share) * others).mean()


class StartingPoint:
    """L2-SP penalty, which keeps the weights of the backbone near their initial values.

    It applies to trained parameters except those of the head, which has no pretrained
    weights, and weight decay instead, as in the paper.

    References
    ----------
    X. Li et al. (2018). Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks. https://arxiv.org/abs/1802.01483
    """

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]]):
        self.pairs = [
            (parameter, parameter.detach().clone())
            for name, parameter in named_parameters
            if parameter.requires_grad and not name.startswith("head.")
        ]

    def penalty(self) -> torch.Tensor:
        """Compute half the squared distance from the initial values."""
        squares = [F.mse_loss(p, start, reduction="sum") for p, start in self.pairs]
        return 0.5 * sum(squares, start=torch.zeros(()))


class DomainBatch(NamedTuple):
    """Features and scores of the samples of one domain in a batch.

    Attributes
    ----------
    features : torch.Tensor of shape (n, d)
        Input of the head.
    scores : torch.Tensor of shape (n, n_outputs)
        Output of the head.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.adaptation import DomainBatch
    >>> def mean_distance(source, target, progress):  # an objective
    ...     difference = source.features.mean(0) - target.features.mean(0)
    ...     return difference.square().sum()
    >>> source = DomainBatch(features=torch.ones(4, 8), scores=torch.zeros(4, 3))
    >>> target = DomainBatch(features=torch.zeros(4, 8), scores=torch.zeros(4, 3))
    >>> mean_distance(source, target, progress=0.5)
    tensor(8.)
    """

    features: torch.Tensor
    scores: torch.Tensor


class Objective(nn.Module):
    """Function of features and scores that is minimised along with the loss.

    Parameters
    ----------
    function : callable or torch.nn.Module
        ``function(source, target, progress)`` returns a tensor of shape (). `source` is
        the :class:`DomainBatch` of a batch; `target` is that of as many of the
        `others`, or None if there are none; `progress` is the share of the training
        that is done. The parameters of a module are trained as well.
    others : Activations or None, default=None
        Activations of samples without labels, at the same boundary.
    weight : float, default=1.0
        Factor of the function.
    seed : int, default=0
        Seeds the draws of other samples.
    span : (float, float), default=(0.0, 1.0)
        Begin and end of this training, as shares of the whole training to which
        `progress` refers.
    """

    def __init__(self, function, others=None, *, weight=1.0, seed=0, span=(0.0, 1.0)):
        super().__init__()
        self.function = function
        self.others = others
        self.weight = weight
        self.seed = seed
        self.span = span

    def draw(self, size: int, number: int) -> torch.Tensor | None:
        """Draw `size` of the other samples; None if there are none.

        If there are fewer, they are repeated. The draw depends on the `number` of the
        batch in the training, so that an interrupted training continues unchanged.
        """
        if self.others is None:
            return None
        generator = torch.Generator().manual_seed(self.seed + number)
        order = torch.randperm(len(self.others), generator=generator)
        return self.others[order[torch.arange(size) % len(order)]]

    def forward(
        self, network, z, others, progress
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the scores (n, n_outputs) of a batch and the weighted objective.

        Activations z (n, ...) and those of the other samples, if any, are augmented
        already, and pass through the network together. `progress` is that of this
        training, in [0, 1).
        """
        n, (begin, end) = n_samples(z), self.span
        progress = begin + (end - begin) * progress
        features = network.describe(z if others is None else join_states([z, others]))
        scores = network.head(features)
        source, target = DomainBatch(features[:n], scores[:n]), None
        if others is not None:
            target = DomainBatch(features[n:], scores[n:])
        return source.scores, self.weight * self.function(source, target, progress)
