"""Linear heads on features, solved as the convex problems that they are."""

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn

from sktransfer.compute import fixed_threads
from sktransfer.training._blas import one_blas_thread
from sktransfer.training._probe_search import (
    as_targets,
    search_alpha,
    search_C,
    search_multilabel_C,
    solve_logistic,
)

__all__ = ["fit_multilabel_probe", "fit_probe", "fit_ridge"]

_NEVER = -1e4


def fit_probe(features, y, n_classes, *, C=1.0, sample_weight=None):
    """Fit a multinomial logistic regression and return it as a linear layer.

    It is the model of :class:`sklearn.linear_model.LogisticRegression`. scikit-learn's
    solver stops at a gradient in the units of the features, so that probabilities
    depend on their scale; here they are those of the optimum, up to rounding. A class
    that has no sample gets a bias so low that it is never predicted.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    y : ndarray of shape (n_samples,)
        Labels in [0, n_classes), of two classes at least.
    n_classes : int
    C : float or "auto", default=1.0
        Inverse strength of the L2 penalty on the weights, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" takes that of
        :func:`search_C`.
    sample_weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    head : torch.nn.Linear
        From d to n_classes; with two classes the two rows are opposite.
    n_iter : int
        Iterations of the solver.
    loss : float
        Mean cross-entropy on the samples, weighted as they are.
    """
    if C == "auto":
        C = search_C(features, y, sample_weight=sample_weight)
    there, weight = _present(sample_weight, len(y))
    classes, codes = np.unique(y[there], return_inverse=True)
    problem = features[there], as_targets(codes), weight, C
    coef, intercept, n_iter = solve_logistic(*problem)
    head = _class_head(coef, intercept, classes, n_classes)
    return head, n_iter, _cross_entropy(head, features, y, sample_weight)


def fit_multilabel_probe(features, Y, *, C=1.0, sample_weight=None):
    """Fit a binary logistic regression an output; return them as one linear layer.

    An output that has one value only gets weights of zero and a bias so high or low
    that this value is always predicted.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    Y : ndarray of shape (n_samples, n_outputs)
        Of 0 and 1.
    C : float or "auto", default=1.0
        Inverse strength of the L2 penalty on the weights of each output, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" takes that of
        :func:`search_multilabel_C`.
    sample_weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    head : torch.nn.Linear
        From d to n_outputs.
    n_iter : int
        Iterations of the solver, which fits all outputs at once.
    loss : float
        Mean binary cross-entropy of samples, weighted as they are, and outputs.
    """
    if C == "auto":
        C = search_multilabel_C(features, Y, sample_weight=sample_weight)
    there, weight = _present(sample_weight, len(Y))
    least, most = Y[there].min(axis=0), Y[there].max(axis=0)
    varied = least < most  # (n_outputs,)
    coef = np.zeros((Y.shape[1], features.shape[1]))
    bias, n_iter = np.where(most > 0, -_NEVER, _NEVER), 0
    if varied.any():
        problem = features[there], Y[np.ix_(there, varied)], weight, C
        coef[varied], bias[varied], n_iter = solve_logistic(*problem)
    head = _linear(torch.from_numpy(coef), torch.from_numpy(bias))
    with torch.no_grad(), fixed_threads():
        losses = nn.functional.binary_cross_entropy_with_logits(
            head(features), torch.from_numpy(Y).float(), reduction="none"
        )
    return head, n_iter, _mean(losses.mean(dim=1), sample_weight)


@one_blas_thread()
def fit_ridge(features, targets, *, alpha="auto", sample_weight=None):
    """Fit least squares with an L2 penalty and return it as a linear layer.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    targets : ndarray of shape (n_samples, n_outputs)
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty on the weights, as in
        :class:`sklearn.linear_model.Ridge`; "auto" takes that of :func:`search_alpha`.
    sample_weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    head : torch.nn.Linear
        From d to n_outputs.
    alpha : float
        The strength taken.
    loss : float
        Half the mean squared error of samples, weighted as they are, and outputs.
    """
    if alpha == "auto":
        alpha = search_alpha(features, targets, sample_weight=sample_weight)
    X, n_outputs = features.double().numpy(), targets.shape[1]
    model = Ridge(alpha=alpha).fit(X, targets, sample_weight=sample_weight)
    # Without reshaping, one output has no axis in some versions of scikit-learn.
    coef = torch.from_numpy(np.reshape(model.coef_, (n_outputs, -1)))
    bias = torch.from_numpy(np.reshape(model.intercept_, n_outputs))
    head = _linear(coef, bias)
    with torch.no_grad(), fixed_threads():
        errors = head(features).double() - torch.from_numpy(targets)
    return head, float(alpha), _mean(errors.square().mean(dim=1) / 2, sample_weight)


def _present(sample_weight, n_samples):
    """Return the positions of samples that have weight, and their weights."""
    weight = np.ones(n_samples) if sample_weight is None else sample_weight
    there = np.flatnonzero(weight)
    return there, weight[there]


def _class_head(coef, intercept, classes, n_classes):
    """Return the layer that holds a row for each class, known or not."""
    coef = torch.from_numpy(coef).float()  # (k, d)
    bias = torch.from_numpy(intercept).float()  # (k,)
    if len(coef) == 1:
        coef, bias = torch.cat([-coef, coef]) / 2, torch.cat([-bias, bias]) / 2
    known = torch.from_numpy(classes)
    all_coef = torch.zeros(n_classes, coef.shape[1])
    all_bias = torch.full((n_classes,), _NEVER)
    all_coef[known], all_bias[known] = coef, bias
    return _linear(all_coef, all_bias)


def _cross_entropy(head, features, y, sample_weight):
    with torch.no_grad(), fixed_threads():
        losses = nn.functional.cross_entropy(
            head(features), torch.from_numpy(y), reduction="none"
        )
    return _mean(losses, sample_weight)


def _linear(weight, bias):
    """Return the layer of some weights (n_outputs, d) and biases (n_outputs,)."""
    # Drawing weights that are overwritten would advance torch's global generator.
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _mean(losses, sample_weight):
    if sample_weight is None:
        return float(losses.mean())
    weight = torch.from_numpy(sample_weight)
    return float((losses * weight).sum() / weight.sum())
