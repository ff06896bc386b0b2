"""Linear classification heads, solved by scikit-learn's logistic regression.

Features are centred and scaled to a mean squared norm of one, so that one grid of
penalties and one tolerance fit all networks. On this scale, C is the variance that the
penalty, read as a prior, gives to a score.
"""

import hashlib
import warnings
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from sktransfer.compute import fixed_threads, one_blas_thread
from sktransfer.training._class_weight import weights_of_values
from sktransfer.training._loss import cross_entropy

_ABSENT = -1e4  # bias of a class that is never predicted
# Strong to weak penalties: scores of a standard deviation of 0.03 to 300.
_CS = np.logspace(-3, 5, 9)
_N_FOLDS = 5
_MANY = 10_000  # samples; with more, a fifth of them is enough to score a penalty
_RISEN = 1.1  # the search ends where the validation loss is so many times the lowest
_GAIN = 1e-3  # in nats, by which a weaker penalty must lower the validation loss
_LARGEST = 4096  # samples; reducing the dimension costs the cube of their number
# Newton's method, since weak penalties make the problem too flat for L-BFGS, which
# stops early.
_LOOSE = {"solver": "newton-cg", "tol": 1e-5, "max_iter": 1000}
_TIGHT = {"solver": "newton-cg", "tol": 1e-8, "max_iter": 1000}
# Older versions of scikit-learn's solver fail on float32 where SciPy's line search
# returns a step in float64.
_SOLVES_FLOAT32 = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)


def fit_probe(
    features: torch.Tensor,
    y: np.ndarray,
    n_classes: int,
    *,
    C: float | str = 1.0,
    sample_weight: np.ndarray | None = None,
) -> tuple[nn.Linear, int, float]:
    """Fit a multinomial logistic regression and return it as a linear layer.

    Features have shape (n_samples, d), and labels are in [0, n_classes), of which at
    least two occur. A class without samples gets a bias so low that it is never
    predicted; with two classes the two rows of weights are opposite. C is that of
    :class:`sklearn.linear_model.LogisticRegression`, and "auto" is the result of
    :func:`search_C`. Also returns the solver's iterations and the weighted mean loss.
    """
    if C == "auto":
        C = search_C(features, y, sample_weight=sample_weight)
    there, weight = with_weight(len(y), sample_weight)
    classes, codes = np.unique(y[there], return_inverse=True)
    coef, intercept, n_iter = _solve(features[there], [_Column(codes)], weight, C)
    if len(classes) == 2:
        coef, intercept = (np.concatenate([-a, a]) / 2 for a in (coef, intercept))
    all_coef = np.zeros((n_classes, coef.shape[1]))
    all_intercept = np.full(n_classes, _ABSENT)
    all_coef[classes], all_intercept[classes] = coef, intercept
    head = linear_layer(all_coef, all_intercept)
    with torch.no_grad(), fixed_threads():
        losses = nn.functional.cross_entropy(
            head(features), torch.from_numpy(y), reduction="none"
        )
    return head, n_iter, weighted_mean(losses, sample_weight)


def fit_multilabel_probe(
    features: torch.Tensor,
    Y: np.ndarray,
    *,
    C: float | str = 1.0,
    sample_weight: np.ndarray | None = None,
    label_weight: np.ndarray | None = None,
) -> tuple[nn.Linear, int, float]:
    """Fit a binary logistic regression per label and return them as one layer.

    Y holds 0 and 1, of shape (n_samples, n_outputs). A label with a single value gets
    zero weights and a bias so high or low that this value is always predicted.
    `label_weight` has the weights of the zeros and of the ones of each label, of shape
    (2, n_outputs), which multiply those of the samples. Other parameters and results
    are those of :func:`fit_probe`; the iterations are those of the label that took the
    most, and the loss is the mean over labels.
    """
    if C == "auto":
        weights = {"sample_weight": sample_weight, "label_weight": label_weight}
        C = search_multilabel_C(features, Y, **weights)
    there, weight = with_weight(len(Y), sample_weight)
    varied = Y[there].min(axis=0) < Y[there].max(axis=0)  # (n_outputs,)
    coef = np.zeros((Y.shape[1], features.shape[1]))
    bias, n_iter = np.where(Y[there].max(axis=0) > 0, -_ABSENT, _ABSENT), 0
    if varied.any():
        columns = _label_columns(Y[there], label_weight, varied)
        problem = features[there], columns, weight, C
        coef[varied], bias[varied], n_iter = _solve(*problem)
    head = linear_layer(coef, bias)
    with torch.no_grad(), fixed_threads():
        targets = torch.from_numpy(Y).float()
        losses = cross_entropy(head(features), targets, label_weight=label_weight)
    return head, n_iter, weighted_mean(losses, sample_weight)


def search_C(
    features: torch.Tensor,
    y: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> float:
    """Choose the C of :func:`fit_probe` by cross-validation.

    Nine values, relative to the mean squared norm of the centred features, range from
    nearly constant to nearly unpenalised predictions. Each is scored by the log-loss in
    five stratified folds, or fewer if no class has five samples; of more than 10,000
    samples, only the first fold is scored. The folds are the same in every call. A
    class of two to four samples is in as many folds; a class of one sample is in every
    training set and never scored. If there are only such classes, the middle of the
    grid is returned, and 1.0 if all samples have equal features.

    Samples of one group, such as the views of one image, are held out together; by
    default, equal samples are a group. Samples of weight zero are left out.
    """
    X, y, weight, groups = with_weight_and_groups(features, y, sample_weight, groups)
    codes = np.unique(y, return_inverse=True)[1]
    return _search(X, [_Column(codes)], weight, _deal(codes, groups))


def search_multilabel_C(
    features: torch.Tensor,
    Y: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    label_weight: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> float:
    """Choose the C of :func:`fit_multilabel_probe`, the same for all labels.

    Works like :func:`search_C`, but samples are stratified by the rarest of their
    values, and labels with a single value are left out. If there are only such labels,
    the middle of the grid is returned.
    """
    X, Y, weight, groups = with_weight_and_groups(features, Y, sample_weight, groups)
    Y, varied = Y.astype(int), Y.min(axis=0) < Y.max(axis=0)
    if not varied.any():
        return middle_C(X, weight)
    columns = _label_columns(Y, label_weight, varied)
    strata = _rarest_values(Y[:, varied], groups)
    return _search(X, columns, weight, _deal(strata, groups))


def middle_C(X: np.ndarray, weight: np.ndarray) -> float:
    """Return the middle of the values that :func:`search_C` tries."""
    middle = _CS[len(_CS) // 2]
    return 1.0 if all_equal(X) else float(middle / mean_squared_norm(X, weight))


def with_weight(
    n_samples: int, sample_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of samples whose weight is not zero, and their weights."""
    weight = np.ones(n_samples) if sample_weight is None else np.asarray(sample_weight)
    there = np.flatnonzero(weight)
    return there, weight[there].astype(np.float64)


def with_weight_and_groups(features, y, sample_weight, groups):
    """Return features, targets, weights and groups of the samples that have weight.

    By default, equal samples with equal targets are a group. Groups are numbered in the
    order of their first occurrence.
    """
    there, weight = with_weight(len(features), sample_weight)
    X, y = features.numpy()[there], np.asarray(y)[there]
    if groups is not None:
        return X, y, weight, np.asarray(groups)[there]
    numbers = {}
    keys = (
        (hashlib.blake2b(x.tobytes(), digest_size=16).digest(), target.tobytes())
        for x, target in zip(X, y, strict=True)
    )
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    return X, y, weight, groups


def all_equal(X: np.ndarray) -> bool:
    """Return whether all rows are equal."""
    return bool((X == X[0]).all())


def mean_squared_norm(X: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted mean of the squared norms of the centred rows."""
    share = weight / weight.sum()
    return share @ np.square(X - share @ X).sum(axis=1)


def linear_layer(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """Return a layer with given weights (k, d) and biases (k,), in float32."""
    # Drawing weights that are overwritten would advance torch's global generator.
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def weighted_mean(losses: torch.Tensor, sample_weight: np.ndarray | None) -> float:
    """Return the mean of losses (n,), weighted unless the weights are None."""
    if sample_weight is None:
        return float(losses.mean())
    weight = torch.from_numpy(sample_weight)
    return float((losses * weight).sum() / weight.sum())


class _Column(NamedTuple):
    """Targets y (n,) of one problem, and factors of the weights of the samples."""

    y: np.ndarray
    factor: np.ndarray | float = 1.0

    def take(self, rows):
        return _Column(self.y[rows], np.broadcast_to(self.factor, len(self.y))[rows])


def _label_columns(Y, label_weight, chosen):
    """Return a column of targets for each of the chosen labels (k,)."""
    if label_weight is None:
        return [_Column(y) for y in Y[:, chosen].T]
    factors = weights_of_values(label_weight, Y)
    return list(map(_Column, Y[:, chosen].T, factors[:, chosen].T))


class _Basis(NamedTuple):
    """Features in the basis of the problem: ``Z = (X - centre) @ axes / scale``.

    Z has shape (n, n_axes) and axes have shape (d, n_axes), or are None for the
    identity.
    """

    Z: np.ndarray
    axes: np.ndarray | None
    centre: np.ndarray
    scale: float


def _change_basis(X, weight):
    """Centre, scale and, if there are fewer samples than features, reduce features.

    In an orthonormal basis of their span the penalised problem has the same solution,
    with fewer unknowns (Hastie and Tibshirani, 2004,
    https://doi.org/10.1093/biostatistics/kxh010).
    """
    share = (weight / weight.sum()).astype(X.dtype)
    centre = share @ X
    Z = X - centre
    scale = float(np.sqrt(share @ np.square(Z).sum(axis=1))) or 1.0
    Z /= scale
    if len(Z) >= Z.shape[1] or len(Z) > _LARGEST:
        return _Basis(Z, None, centre, scale)
    axes = np.linalg.qr(Z.T)[0]  # (d, n)
    return _Basis(Z @ axes, axes, centre, scale)


def _fit(model, Z, y, weight):
    """Fit a logistic regression in place and return its number of iterations."""
    with warnings.catch_warnings():
        # Near the optimum, rounding may let the solver get no lower.
        warnings.filterwarnings("ignore", "Line Search failed", UserWarning)
        message = "Rounding errors|The line search algorithm"  # scipy's
        warnings.filterwarnings("ignore", message, RuntimeWarning)
        return int(model.fit(Z, y, sample_weight=weight).n_iter_.max())


@one_blas_thread()
def _solve(features, columns, weight, C):
    """Fit a logistic regression per column of targets.

    Returns coefficients of shape (n_rows, d), intercepts of shape (n_rows,) and the
    number of iterations. As in scikit-learn, two classes share one row.
    """
    basis = _change_basis(features.double().numpy(), weight)
    models = [LogisticRegression(C=C * basis.scale**2, **_TIGHT) for _ in columns]
    n_iter = [
        _fit(model, basis.Z, y, weight * factor)
        for model, (y, factor) in zip(models, columns, strict=True)
    ]
    coef = np.concatenate([model.coef_ for model in models]) / basis.scale
    if basis.axes is not None:
        coef = coef @ basis.axes.T
    intercept = np.concatenate([model.intercept_ for model in models])
    return coef, intercept - coef @ basis.centre, max(n_iter)


@one_blas_thread()
def _search(X, columns, weight, folds):
    """Return the C with the lowest validation loss, summed over columns of targets."""
    scored = folds >= 0
    if all_equal(X) or not scored.any():
        return middle_C(X, weight)
    X = X if _SOLVES_FLOAT32 else X.astype(np.float64)
    basis = _change_basis(X, weight)
    problems = [*_split(columns, folds)]
    chosen, lowest = _CS[0], np.inf
    for C in _CS:
        losses = np.zeros(len(X))
        for model, seen, unseen, train, held in problems:
            with warnings.catch_warnings():
                # What is reached in float32 is scored, be it the optimum or not.
                warnings.simplefilter("ignore", ConvergenceWarning)
                weights = weight[train] * seen.factor
                _fit(model.set_params(C=C), basis.Z[train], seen.y, weights)
            losses[held] += unseen.factor * _losses(model, basis.Z[held], unseen.y)
        loss = np.average(losses[scored], weights=weight[scored])
        if loss < lowest - _GAIN:
            chosen, lowest = C, loss
        if loss > _RISEN * lowest or lowest < _GAIN:
            break
    return float(chosen / basis.scale**2)


def _split(columns, folds):
    """Yield a model and, of a column and a fold, both parts and both rows of parts."""
    for fold in range(folds.max() + 1):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        for column in columns:
            seen = column.take(train)
            if (seen.y != seen.y[0]).any():  # a rare label may be held out whole
                model = LogisticRegression(warm_start=True, **_LOOSE)
                yield model, seen, column.take(held), train, held


def _losses(model, Z, y):
    """Return the cross-entropy of each sample; y is in [0, n_classes)."""
    scores = model.decision_function(Z)
    if scores.ndim == 1:
        return np.logaddexp(0, np.where(y, -scores, scores))
    return -log_softmax(scores, axis=1)[np.arange(len(y)), y]


def _deal(strata, groups):
    """Deal groups out to folds, one stratum after another; -1 is never held out.

    scikit-learn's StratifiedGroupKFold would hold out classes of a single sample.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    strata = strata[first]  # (n_groups,)
    sizes = np.bincount(strata)
    shuffled = np.random.RandomState(0).permutation(len(first))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(first), dtype=int)
    # Neighbours in the order go to different folds, so no fold has all of a stratum.
    folds[order] = np.arange(len(first)) % min(_N_FOLDS, sizes.max())
    folds[sizes[strata] == 1] = -1
    if len(first) > _MANY:
        folds[folds > 0] = -1
    return folds[group]


def _rarest_values(Y, groups):
    """Return, per sample, a number for its rarest combination of label and value."""
    first = np.unique(groups, return_index=True)[1]
    ones = Y[first].sum(axis=0)
    counts = np.stack([len(first) - ones, ones])  # (2, n_outputs)
    rarest = counts[Y, np.arange(Y.shape[1])].argmin(axis=1)
    return 2 * rarest + Y[np.arange(len(Y)), rarest]
