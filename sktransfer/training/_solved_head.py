"""A linear head as a convex problem, which is solved at once or incrementally.

For `partial_fit`, the sum of the losses of earlier samples is bounded by a quadratic
function of the weights, whose size is fixed. For each new part of the samples, the
convex problem is solved with this bound in place of the earlier samples, and then the
part is added to the bound. So the order of the parts matters little, even if each holds
a single class. For the squared error, the bound is exact, and the order does not matter
at all. This is the scheme of [1]_ with the bound of [2]_, or of [3]_ with a full
matrix. With stochastic gradients, as in scikit-learn's ``partial_fit``, the result
would depend on the order.

References
----------
.. [1] Mairal, 2013, "Stochastic majorization-minimization algorithms for large-scale
   optimization", https://arxiv.org/abs/1306.4650
.. [2] Böhning, 1992, "Multinomial logistic regression algorithm",
   https://doi.org/10.1007/BF00048682
.. [3] Chapelle and Li, 2011, "An empirical evaluation of Thompson sampling",
   Algorithm 3
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, softmax
from torch import nn

from sktransfer.compute import fixed_threads, one_blas_thread
from sktransfer.training._class_weight import weights_of_values
from sktransfer.training._data import HeadData
from sktransfer.training._network import Network

_MOST_FEATURES = 4096  # with more features, the bound takes more than 130 MB
_KNOWN = 0.5  # weight of the second moments of the new part
_ROWS = 1024  # samples that are solved at a time
_MAX_ITER = 10  # as a part with a single class is far from the optimum
_TOL = 1e-4  # of the change of a score
_LEAST = 1e-9  # smallest penalty, relative to the mean squared norm


class _Link(NamedTuple):
    """Map from scores to predictions, and an upper bound of the loss's curvature.

    The gradient of a sample's loss by its scores is the prediction minus the target.
    """

    mean: Callable
    curvature: float


def _identity(scores):
    return scores


def _softmax(scores):
    return softmax(scores, axis=1)


_LINKS = {
    "multiclass": _Link(_softmax, 0.5),
    "multilabel": _Link(expit, 0.25),
    "regression": _Link(_identity, 1.0),
}


class Online(NamedTuple):
    """Bound of the losses of earlier samples, a quadratic function of the weights W.

    It is ``trace(W' gram W) / 2 - trace(pull' W)``, where `gram` has shape (d + 1, d +
    1), with the intercepts last, and `pull` (d + 1, k).
    """

    gram: np.ndarray
    pull: np.ndarray


def is_narrow(linear: nn.Linear) -> bool:
    """Whether a layer has few enough features to be solved incrementally."""
    return linear.in_features <= _MOST_FEATURES


@one_blas_thread()
def begin_online(
    linear: nn.Linear,
    features: torch.Tensor,
    targets: np.ndarray,
    weight: np.ndarray,
    kind: str,
) -> Online:
    """Bound the losses of the samples that a linear head was solved on.

    Targets are labels in [0, k), or have one column per score. The `kind` determines
    the loss: the cross-entropy ("multiclass"), the sum of binary cross-entropies
    ("multilabel") or half the squared error ("regression"). The weights have the shape
    (n,), or (n, k) if they differ between the scores. The largest of a sample are those
    of `gram`, so that the bound holds for all scores.
    """
    link, W = _LINKS[kind], _weights(linear)
    X, Y = _with_ones(features), _columns(targets, W.shape[1])
    weight = _of_scores(weight)  # (n, 1) or (n, k)
    gram = link.curvature * (X.T * weight.max(axis=1)) @ X
    slopes = X.T @ (weight * (link.mean(X @ W) - Y))
    return Online(gram, gram @ W - slopes)


@one_blas_thread()
def approximate_online(
    linear: nn.Linear,
    features: torch.Tensor,
    n_before: float,
    penalty: float,
    kind: str,
) -> Online:
    """Bound the losses of samples that are gone, by the features of other samples.

    The head was solved on `n_before` samples, and its weights are the minimum of the
    bound.
    """
    X, W = _with_ones(features), _weights(linear)
    moments = X.T @ X / len(X)
    power = np.trace(moments[:-1, :-1]) / linear.in_features
    gram = _KNOWN * moments
    gram[np.diag_indices(len(W))] += (1 - _KNOWN) * np.append(
        np.full(linear.in_features, power), 1.0
    )
    gram *= _LINKS[kind].curvature * n_before
    return Online(gram, _penalised(gram, penalty) @ W)


@one_blas_thread()
def update_online(
    state: Online,
    linear: nn.Linear,
    features: torch.Tensor,
    targets: np.ndarray,
    weight: np.ndarray,
    penalty: float,
    kind: str,
) -> tuple[Online, int]:
    """Solve a head in place on more samples, with the bound of the earlier ones.

    Half of `penalty` times the sum of the squared weights is added to the losses.
    Returns the bound of all losses so far, and the number of iterations.
    """
    W, n_iter = _weights(linear), 0
    Y = _columns(targets, W.shape[1])
    for first in range(0, len(features), _ROWS):
        rows = slice(first, first + _ROWS)
        part = _with_ones(features[rows]), Y[rows], weight[rows]
        state, W, n = _update(state, *part, penalty, W, _LINKS[kind])
        n_iter += n
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(W[:-1].T))
        linear.bias.copy_(torch.from_numpy(W[-1]))
    return state, n_iter


def _update(state, X, targets, weight, penalty, W, link):
    weight = _of_scores(weight)  # (n, 1) or (n, k)
    largest = weight.max(axis=1, keepdims=True)
    there = largest[:, 0] > 0
    X, targets, root = X[there], targets[there], np.sqrt(largest[there])
    if not len(X):
        return state, W, 0
    share = weight[there] / largest[there]
    c, X, targets = link.curvature, root * X, root * targets
    gram = state.gram + c * X.T @ X
    factor = cho_factor(_penalised(gram, penalty))
    spread = cho_solve(factor, X.T)  # (d + 1, n)
    before, kernel = spread.T @ state.pull, X @ spread  # (n, k), (n, n)
    scores, change, n_iter = X @ W, np.inf, 0
    # Each bound touches the loss at the minimum of the previous bound.
    while change >= _TOL and n_iter < _MAX_ITER:
        slopes = share * (root * link.mean(scores / root) - targets)
        pull = c * scores - slopes  # (n, k)
        moved = before + kernel @ pull
        change, scores, n_iter = np.abs(moved - scores).max(), moved, n_iter + 1
    pull = state.pull + X.T @ pull
    return Online(gram, pull), cho_solve(factor, pull), n_iter


def _penalised(gram, penalty):
    d = len(gram) - 1
    least = _LEAST * np.trace(gram[:d, :d]) + np.finfo(float).tiny
    added = np.full(len(gram), max(penalty, least))
    added[d] = least  # intercepts are not penalised
    return gram + np.diag(added)


def _of_scores(weight):
    return weight[:, None] if weight.ndim == 1 else weight


def _with_ones(features):
    X = features.double().numpy()
    return np.column_stack([X, np.ones(len(X))])


def _columns(targets, k):
    """Return one-hot labels, or the columns of targets, in float64."""
    return np.eye(k)[targets] if targets.ndim == 1 else targets.astype(np.float64)


def _weights(linear):
    """Return weights and, in the last row, intercepts (d + 1, k), float64."""
    with torch.no_grad():
        parts = linear.weight.T, linear.bias[None]
        return torch.cat(parts).cpu().double().numpy()


class Solution(NamedTuple):
    """A linear head that was solved as a convex problem.

    `strength` is the value of the estimator's parameter for the penalty, C or alpha,
    and `row` is the entry of the history.
    """

    head: nn.Linear
    strength: float
    row: dict


@dataclass(frozen=True)
class Probe:
    """Convex problem of a linear head, for one `kind` of targets.

    ``solve(features, y, sample_weight, groups, is_partial)`` returns a `Solution`.
    `penalty` maps the strength to the factor of half the sum of the squared weights,
    and `loss` maps scores and targets to the loss of each sample. `is_final` says
    whether this is also the loss of the training, in which case a linear head alone
    needs no epochs. `label_weight` has the weights of the zeros and of the ones of each
    label, of shape (2, k), if they are weighted; `solve` and `loss` know them already.
    """

    solve: Callable
    penalty: Callable
    loss: Callable
    kind: str
    is_final: bool
    label_weight: np.ndarray | None = None

    def begin_online(self, solution: Solution, data: HeadData) -> tuple | None:
        """Return the bound of the losses of a solution's samples, for later parts.

        It is None if there are too many features.
        """
        if not is_narrow(solution.head):
            return None
        return (*begin_online(solution.head, *self._weighted(data), self.kind),)

    def solve_on(
        self,
        linear: nn.Linear,
        data: HeadData,
        *,
        strength: float,
        online: tuple | None,
        n_before: int,
    ) -> tuple[tuple, int]:
        """Solve a head in place on more samples, with the bound of the earlier ones.

        `online` is the bound, or None after `fit`, which keeps none for its `n_before`
        samples; `strength` is that of the first solution. Returns the new bound and the
        number of iterations.
        """
        penalty, kind = self.penalty(strength), self.kind
        if online is None:
            online = approximate_online(linear, data.features, n_before, penalty, kind)
        online, n_iter = update_online(
            Online(*online), linear, *self._weighted(data), penalty, kind
        )
        return (*online,), n_iter

    def _weighted(self, data: HeadData) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Return features, targets and weights (n,), or (n, k) of each label."""
        features, y, weight, _ = data
        if self.label_weight is not None:
            weight = weight[:, None] * weights_of_values(self.label_weight, y)
        return features, y, weight

    def mean_loss(self, network: Network, data: HeadData) -> float:
        """Compute the mean loss of the head of a network."""
        head = network.head
        device = next((p.device for p in head.parameters()), data.features.device)
        with torch.inference_mode(), fixed_threads():
            scores = head.eval()(data.features.to(device)).cpu()
            losses = self.loss(scores, torch.from_numpy(data.y))
        return float(np.average(losses.numpy(), weights=data.weight))


def last_layer(network: Network) -> nn.Linear:
    """Return the layer that computes the scores."""
    return list(network.head.modules())[-1]
