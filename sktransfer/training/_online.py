"""A linear head that is solved incrementally, for `partial_fit`.

The sum of the losses of all samples is bounded by a quadratic function of the weights,
which has a fixed size. For each new part of the samples, the convex problem is solved
with this function in place of the samples before; then the part is added to it. So the
order of the parts matters little, even where each holds a single class, and for the
squared error, where the bound is exact, it does not matter at all. This is the scheme
of [1]_ with the bound of [2]_, or of [3]_ with a full matrix. The stochastic gradients
of scikit-learn's ``partial_fit`` would depend on the order.

References
----------
.. [1] Mairal, 2013, "Stochastic majorization-minimization algorithms for large-scale
   optimization", https://arxiv.org/abs/1306.4650
.. [2] Böhning, 1992, "Multinomial logistic regression algorithm",
   https://doi.org/10.1007/BF00048682
.. [3] Chapelle and Li, 2011, "An empirical evaluation of Thompson sampling",
   Algorithm 3
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, softmax

from sktransfer.compute import one_blas_thread

__all__ = ["Online", "assume_online", "begin_online", "go_on_online", "is_narrow"]

_MOST_FEATURES = 4096  # beyond, the function takes more than 130 MB
_KNOWN = 0.5  # weight of the second moments of another part
_ROWS = 1024  # that are solved at a time
_MAX_ITER = 10  # a part with a single class is far from the optimum of all
_TOL = 1e-4  # on the change of a score
_LEAST = 1e-9  # penalty, relative to the mean squared norm


class _Link(NamedTuple):
    """Derivatives of a loss.

    Attributes
    ----------
    mean : callable
        From scores of shape (n, k) to predictions of the same shape. The gradient of a
        sample's loss by its scores is the prediction minus the target.
    curvature : float
        Upper bound of the second derivatives.
    """

    mean: Callable
    curvature: float


def _same(scores):
    return scores


def _shares(scores):
    return softmax(scores, axis=1)


_LINKS = {
    "multiclass": _Link(_shares, 0.5),
    "multilabel": _Link(expit, 0.25),
    "regression": _Link(_same, 1.0),
}


class Online(NamedTuple):
    """The bound of the losses so far: ``trace(W' gram W) / 2 - trace(pull' W)``.

    Attributes
    ----------
    gram : ndarray of shape (d + 1, d + 1)
        The last row and column belong to the intercepts.
    pull : ndarray of shape (d + 1, k)
    """

    gram: np.ndarray
    pull: np.ndarray


def is_narrow(linear):
    """Return whether a layer has few enough features for this scheme (bool)."""
    return linear.in_features <= _MOST_FEATURES


@one_blas_thread()
def begin_online(linear, features, targets, weight, kind):
    """Bound the losses of the samples that a linear head was solved on.

    Parameters
    ----------
    linear : torch.nn.Linear
        From d to k scores.
    features : torch.Tensor of shape (n_samples, d)
    targets : ndarray of shape (n_samples,) or (n_samples, k)
        Labels in [0, k), or one column per score.
    weight : ndarray of shape (n_samples,)
    kind : {"multiclass", "multilabel", "regression"}
        The loss: cross-entropy, binary cross-entropies or half the squared error.

    Returns
    -------
    Online
    """
    link, W = _LINKS[kind], _weights(linear)
    X, Y = _with_ones(features), _columns(targets, W.shape[1])
    gram = link.curvature * (X.T * weight) @ X
    slopes = X.T @ (weight[:, None] * (link.mean(X @ W) - Y))
    return Online(gram, gram @ W - slopes)


@one_blas_thread()
def assume_online(linear, features, n_before, penalty, kind):
    """Bound the losses of samples that are no longer available, from other samples.

    Parameters
    ----------
    linear, features, kind
        As for :func:`begin_online`, of other samples.
    n_before : float
        Number of the samples that the head was solved on.
    penalty : float
        As for :func:`go_on_online`.

    Returns
    -------
    Online
        Its minimum is at the present weights of the head.
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
def go_on_online(state, linear, features, targets, weight, penalty, kind):
    """Update the head with more samples, taking those before into account.

    Parameters
    ----------
    state : Online
        Not changed.
    linear : torch.nn.Linear
        Its weights are replaced.
    features, targets, weight, kind
        As for :func:`begin_online`.
    penalty : float
        Half of it times the sum of the squared weights is added to the losses.

    Returns
    -------
    state : Online
    n_iter : int
    """
    W, n_iter = _weights(linear), 0
    Y = _columns(targets, W.shape[1])
    for first in range(0, len(features), _ROWS):
        rows = slice(first, first + _ROWS)
        part = _with_ones(features[rows]), Y[rows], weight[rows]
        state, W, n = _go_on(state, *part, penalty, W, _LINKS[kind])
        n_iter += n
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(W[:-1].T))
        linear.bias.copy_(torch.from_numpy(W[-1]))
    return state, n_iter


def _go_on(state, X, targets, weight, penalty, W, link):
    there = weight > 0
    X, targets, root = X[there], targets[there], np.sqrt(weight[there])[:, None]
    if not len(X):
        return state, W, 0
    c, X, targets = link.curvature, root * X, root * targets
    gram = state.gram + c * X.T @ X
    factor = cho_factor(_penalised(gram, penalty))
    spread = cho_solve(factor, X.T)  # (d + 1, n)
    before, kernel = spread.T @ state.pull, X @ spread  # (n, k), (n, n)
    scores, change, n_iter = X @ W, np.inf, 0
    # Each bound touches the loss at the minimum of the bound before it.
    while change >= _TOL and n_iter < _MAX_ITER:
        pull = c * scores - (root * link.mean(scores / root) - targets)  # (n, k)
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


def _with_ones(features):
    X = features.double().numpy()
    return np.column_stack([X, np.ones(len(X))])


def _columns(targets, k):
    """Return one-hot labels, or targets of several columns, in float64."""
    return np.eye(k)[targets] if targets.ndim == 1 else targets.astype(np.float64)


def _weights(linear):
    """Return weights and, in the last row, intercepts (d + 1, k), float64."""
    with torch.no_grad():
        parts = linear.weight.T, linear.bias[None]
        return torch.cat(parts).cpu().double().numpy()
