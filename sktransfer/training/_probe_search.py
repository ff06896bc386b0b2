"""The penalty of a convex head, chosen by cross-validation on the features.

Features are centred and brought to a mean squared norm of one, so that one grid fits
all. There, C is the variance that the penalty, read as a prior, gives to a score.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from sktransfer.training._blas import one_blas_thread

__all__ = [
    "as_targets",
    "middle_C",
    "middle_alpha",
    "search_C",
    "search_alpha",
    "search_multilabel_C",
    "solve_logistic",
]

# Strong to weak penalties: scores of a standard deviation of 0.03 to 300.
_CS = np.logspace(-3, 5, 9)
_ALPHAS = np.logspace(5, -6, 23)
_N_FOLDS = 5
# A held-out loss so many times the best ends the path of penalties.
_RISEN = 1.1
# A weaker penalty must lower the held-out loss by so much, in nats.
_GAIN = 1e-3
# Curvature below which a step of the solver is no longer made longer.
_FLAT = 1e-3
# Rotating costs the cube of this many samples or features.
_LARGEST = 4096
_LOOSE = {"maxiter": 100, "gtol": 3e-4, "ftol": 1e-7}
_TIGHT = {"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-15}


def search_C(features, y, *, sample_weight=None, groups=None):
    """Choose the penalty of :func:`fit_probe` by cross-validation.

    Nine values, relative to the mean squared norm of the centred features, go from
    nearly constant to nearly unpenalised predictions. Each is scored by its log-loss in
    five stratified folds, or fewer if no class has five samples; one generator with a
    fixed seed deals samples out. A class of two to four samples is in as many folds; a
    class of one is in every training set and never scored. The middle of the grid is
    returned if all classes are such, and 1.0 if all samples have equal features.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    y : ndarray of shape (n_samples,)
        Labels, of two classes at least.
    sample_weight : ndarray of shape (n_samples,), default=None
        A sample of weight zero is not there; one of weight two is there twice.
    groups : ndarray of shape (n_samples,), default=None
        Samples of one group, such as the views of one image, are held out together. By
        default, equal samples are a group.

    Returns
    -------
    C : float
        In the units of :class:`sklearn.linear_model.LogisticRegression`.
    """
    X, y, weight, groups = _present(features, y, sample_weight, groups)
    codes = np.unique(y, return_inverse=True)[1]
    return _search(X, as_targets(codes), weight, _deal(codes, groups))


def search_multilabel_C(features, Y, *, sample_weight=None, groups=None):
    """Choose the penalty of :func:`fit_multilabel_probe`, one for all outputs.

    As :func:`search_C`, but samples are stratified by the rarest of their values, and
    outputs of one value only are left out. The middle of the grid is returned if all
    outputs are such.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    Y : ndarray of shape (n_samples, n_outputs)
        Of 0 and 1.
    sample_weight, groups : ndarray of shape (n_samples,), default=None

    Returns
    -------
    C : float
    """
    X, Y, weight, groups = _present(features, Y, sample_weight, groups)
    Y = Y[:, Y.min(axis=0) != Y.max(axis=0)].astype(int)
    if not Y.shape[1]:
        return middle_C(X, weight)
    folds = _deal(_rarest_values(Y, groups), groups)
    return _search(X, Y, weight, folds)


@one_blas_thread()
def search_alpha(features, targets, *, sample_weight=None, groups=None):
    """Choose the penalty of :func:`fit_ridge` by leaving one group out at a time.

    Of 23 values, relative to the mean squared norm of the centred features, the one of
    the least squared error, summed over outputs. The errors of samples that are left
    out follow from one eigendecomposition [1]_, those of a group from its block [2]_.
    If all samples are one group or have equal features, 1.0 is returned.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    targets : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,), default=None
        A sample of weight zero is not there; one of weight two is there twice.
    groups : ndarray of shape (n_samples,), default=None
        Samples of one group are left out together. By default, equal samples are a
        group.

    Returns
    -------
    alpha : float
        In the units of :class:`sklearn.linear_model.Ridge`.

    References
    ----------
    .. [1] Rifkin and Lippert, 2007, "Notes on regularized least squares",
       http://hdl.handle.net/1721.1/37318
    .. [2] An, Liu and Venkatesh, 2007, "Fast cross-validation algorithms for least
       squares support vector machine and kernel ridge regression",
       https://doi.org/10.1016/j.patcog.2006.12.015
    """
    X, Y, weight, groups = _present(features, targets, sample_weight, groups)
    if _all_equal(X) or (groups == groups[0]).all():
        return 1.0
    share = weight / weight.sum()
    X, Y = X - share @ X.astype(np.float64), Y - share @ Y
    power = share @ np.square(X).sum(axis=1)
    root = np.sqrt(weight)[:, None]  # (n, 1)
    A, eigenvalues = _left_factor(X * (root / np.sqrt(power)))
    problem = A, eigenvalues, root * Y, np.sqrt(share), _blocks(groups)
    errors = [_left_out_error(*problem, alpha) for alpha in _ALPHAS]
    return float(_ALPHAS[np.argmin(errors)] * power)


def as_targets(codes):
    """Return what :func:`solve_logistic` takes for labels in [0, n_classes).

    As in scikit-learn, two classes share one column of weights.
    """
    return codes[:, None] if codes.max() == 1 else codes


@one_blas_thread()
def solve_logistic(features, targets, weight, C):
    """Fit a multinomial logistic regression, or a binary one for each output.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    targets : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Labels in [0, n_outputs); or of 0 and 1, both in each output.
    weight : ndarray of shape (n_samples,)
    C : float
        As in :class:`sklearn.linear_model.LogisticRegression`.

    Returns
    -------
    coef : ndarray of shape (n_outputs, d)
    intercept : ndarray of shape (n_outputs,)
    n_iter : int
    """
    basis = _rotate(features.numpy(), weight / weight.sum())
    # Any basis will do, but the solver's last steps need more digits than float32 has.
    basis = basis._replace(Z=basis.Z.astype(np.float64))
    found, n_iter = _zeros(basis, targets), 0
    # The second time, the solver's units are those of the curvature at the end.
    for options in (_LOOSE, _TIGHT):
        problem = basis, targets, weight, C * basis.scale**2
        found, n = _solve(*problem, found, options)
        n_iter += n
    coef = found[:-1].T / basis.scale  # (n_outputs, n_axes)
    if basis.axes is not None:
        coef = coef @ basis.axes.T
    return coef, found[-1] - coef @ basis.centre, n_iter


def _present(features, y, sample_weight, groups):
    """Return the samples that have weight, their weights and groups, as arrays."""
    X, y = features.numpy(), np.asarray(y)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight)
    there = np.flatnonzero(weight)
    X, y, weight = X[there], y[there], weight[there].astype(np.float64)
    groups = _equal_rows(X, y) if groups is None else np.asarray(groups)[there]
    return X, y, weight, groups


def _equal_rows(X, y):
    """Give equal samples one number, in the order of their first occurrence."""
    numbers = {}
    keys = (
        (hashlib.blake2b(x.tobytes(), digest_size=16).digest(), target.tobytes())
        for x, target in zip(X, y, strict=True)
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def _deal(strata, groups):
    """Deal groups out to folds, one stratum after another; -1 is never held out."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    strata = strata[first]  # (n_groups,)
    sizes = np.bincount(strata)
    shuffled = np.random.RandomState(0).permutation(len(first))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(first), dtype=int)
    # Neighbours in the order go to different folds, so no fold has all of a stratum.
    folds[order] = np.arange(len(first)) % min(_N_FOLDS, sizes.max())
    folds[sizes[strata] == 1] = -1
    return folds[group]


def _rarest_values(Y, groups):
    """Return a number for the rarest output and value that each sample has."""
    first = np.unique(groups, return_index=True)[1]
    ones = Y[first].sum(axis=0)
    counts = np.stack([len(first) - ones, ones])  # (2, n_outputs)
    rarest = counts[Y, np.arange(Y.shape[1])].argmin(axis=1)
    return 2 * rarest + Y[np.arange(len(Y)), rarest]


def _all_equal(X):
    return bool((X == X[0]).all())


def middle_C(X, weight):
    """Return the middle of the penalties that :func:`search_C` tries (float).

    Parameters
    ----------
    X : ndarray of shape (n_samples, d)
    weight : ndarray of shape (n_samples,)
    """
    return 1.0 if _all_equal(X) else float(_CS[len(_CS) // 2] / _power(X, weight))


def middle_alpha(X, weight):
    """Return the middle of the penalties that :func:`search_alpha` tries (float).

    Parameters
    ----------
    X : ndarray of shape (n_samples, d)
    weight : ndarray of shape (n_samples,)
    """
    middle = _ALPHAS[len(_ALPHAS) // 2]
    return 1.0 if _all_equal(X) else float(middle * _power(X, weight))


def _power(X, weight):
    """Mean squared norm of the centred features."""
    share = weight / weight.sum()
    return share @ np.square(X - share @ X).sum(axis=1)


@one_blas_thread()
def _search(X, targets, weight, folds):
    """Return the C of the least held-out loss."""
    scored = folds >= 0
    if _all_equal(X) or not scored.any():
        return middle_C(X, weight)
    basis = _rotate(X, weight / weight.sum())
    starts = [_zeros(basis, targets)] * (folds.max() + 1)
    chosen, least = _CS[0], np.inf
    for C in _CS:
        losses = np.zeros(len(X))
        for fold, start in enumerate(starts):
            out = folds == fold
            train_weight = np.where(out, 0, weight)
            starts[fold], _ = _solve(basis, targets, train_weight, C, start, _LOOSE)
            scores = _scores(basis.Z[out], starts[fold])
            losses[out], _ = _loss(scores, targets[out])
        held_out = np.average(losses[scored], weights=weight[scored])
        if held_out < least - _GAIN:
            chosen, least = C, held_out
        if held_out > _RISEN * least or least < _GAIN:
            break
    return float(chosen / basis.scale**2)


class _Basis(NamedTuple):
    """Centred features of mean squared norm one, in their principal axes.

    Attributes
    ----------
    Z : ndarray of shape (n, n_axes)
    variance : ndarray of shape (n_axes,)
    axes : ndarray of shape (d, n_axes) or None
        None for those of the features.
    centre : ndarray of shape (d,)
    scale : float
        Root of the mean squared norm that the features had.
    """

    Z: np.ndarray
    variance: np.ndarray
    axes: np.ndarray | None
    centre: np.ndarray
    scale: float


def _rotate(X, share):
    """Bring features to a basis in which the penalised problem is small and round.

    In an orthonormal basis of what the samples span it has the same solution, and fewer
    unknowns if the samples are few (Hastie and Tibshirani, 2004,
    https://doi.org/10.1093/biostatistics/kxh010). Principal axes make its curvature
    nearly diagonal.
    """
    share = share.astype(X.dtype)
    centre = share @ X
    Z = X - centre
    scale = float(np.sqrt(share @ np.square(Z).sum(axis=1))) or 1.0
    Z /= scale
    if min(Z.shape) > _LARGEST:
        return _Basis(Z, share @ np.square(Z), None, centre, scale)
    axes = None
    if len(Z) < Z.shape[1]:
        axes = np.linalg.qr(Z.T)[0]  # (d, n)
        Z = Z @ axes
    variance, turn = eigh((Z.T * share) @ Z)
    axes = turn if axes is None else axes @ turn
    return _Basis(Z @ turn, np.maximum(variance, 0), axes, centre, scale)


def _zeros(basis, targets):
    """Parameters, the last row of which are the intercepts: (n_axes + 1, n_columns)."""
    n_columns = targets.max() + 1 if targets.ndim == 1 else targets.shape[1]
    return np.zeros((basis.Z.shape[1] + 1, n_columns))


def _solve(basis, targets, weight, C, start, options):
    """Minimise the penalised loss; return the parameters and the iterations taken."""
    total = weight.sum()
    share, penalty = weight / total, 1 / (C * total)
    slopes = _loss(_scores(basis.Z, start), targets)[1]
    steps = _steps(basis.variance, slopes, share, penalty)
    found = minimize(
        _objective,
        (start / steps).ravel(),
        args=(basis.Z, targets, share, penalty, steps),
        jac=True,
        method="L-BFGS-B",
        options=options,
    )
    return found.x.reshape(steps.shape) * steps, int(found.nit)


def _steps(variance, slopes, share, penalty):
    """Units of the parameters in which the curvature is near one at the start."""
    chance = np.abs(slopes)  # p or 1 - p
    curvature = np.maximum(share @ (chance * (1 - chance)), _FLAT)  # (n_columns,)
    slanted = 1 / np.sqrt(variance[:, None] * curvature + penalty)
    return np.vstack([slanted, 1 / np.sqrt(curvature)])


def _objective(parameters, Z, targets, share, penalty, steps):
    """Penalised mean loss and its gradient."""
    parameters = parameters.reshape(steps.shape) * steps
    losses, slopes = _loss(_scores(Z, parameters), targets)
    slopes *= share[:, None]
    coef = parameters[:-1]
    value = share @ losses + penalty / 2 * np.square(coef).sum()
    gradient = np.vstack([Z.T @ slopes + penalty * coef, slopes.sum(axis=0)])
    return value, (gradient * steps).ravel()


def _scores(Z, parameters):
    parameters = parameters.astype(Z.dtype)
    return Z @ parameters[:-1] + parameters[-1]


def _loss(scores, targets):
    """Cross-entropy of each sample, summed over outputs, and its slopes by score."""
    if targets.ndim == 1:
        log_p, rows = log_softmax(scores, axis=1), np.arange(len(targets))
        slopes = np.exp(log_p)
        slopes[rows, targets] -= 1
        return -log_p[rows, targets], slopes
    losses = np.logaddexp(0, scores) - np.where(targets, scores, 0)
    return losses.sum(axis=1), expit(scores) - targets.astype(scores.dtype)


def _left_factor(X):
    """Return A with A A' = X X' and A'A diagonal, and that diagonal."""
    if len(X) > X.shape[1]:
        eigenvalues, axes = eigh(X.T @ X)
        return X @ axes, np.maximum(eigenvalues, 0)
    eigenvalues, axes = eigh(X @ X.T)
    eigenvalues = np.maximum(eigenvalues, 0)
    return axes * np.sqrt(eigenvalues), eigenvalues


def _blocks(groups):
    """For each size of a group, the rows of those groups: (n_groups, size)."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    size_of = sizes[group[order]]
    return [order[size_of == size].reshape(-1, size) for size in np.unique(sizes)]


def _left_out_error(A, eigenvalues, Y, centre, blocks, alpha):
    """Sum of squared errors when each group is left out.

    Rows of A and Y are samples, times the roots of their weights; `centre`, of shape
    (n,), has the roots of their shares: it stands for the intercept.
    """
    shrunk = A / (eigenvalues + alpha)
    residuals = Y - shrunk @ (A.T @ Y)
    total = 0.0
    for rows in blocks:
        mean = centre[rows][..., None]  # (n_groups, size, 1)
        fitted = mean @ mean.swapaxes(1, 2) + shrunk[rows] @ A[rows].swapaxes(1, 2)
        left_out = np.linalg.solve(np.eye(rows.shape[1]) - fitted, residuals[rows])
        total += np.square(left_out).sum()
    return total
