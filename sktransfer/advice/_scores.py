"""Transferability scores in closed form: LogME, H-score and LEEP.

Each is a function of features and targets, computed in float64; higher is better.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import svd

from sktransfer.advice._registry import SCORES, Score
from sktransfer.training import class_means, in_span, shrunk_covariance, whiten
from sktransfer.utils import check_array, check_consistent_length, column_or_1d

_LEAST = 1e-12  # share of the energy of a target below which the rest counts as zero
# Half widths, in decades, and steps of the searches for the best ratio.
_ZOOMS = ((12.0, 97), (0.25, 21), (0.025, 21), (0.0025, 11))


def logme(features: ArrayLike, y: ArrayLike, *, regression: bool = False) -> float:
    r"""Compute the logarithm of maximum evidence, LogME.

    Targets are modelled as a linear function of the features with Gaussian noise, whose
    weights have a Gaussian prior. The score is the log density of the targets under
    this model, per sample, maximised over both variances, and averaged over the classes
    (one against the rest) or the columns of y. It is invariant to orthogonal maps and
    scalings of the features.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels; with `regression`, regression targets, which are standardised.
    regression : bool, default=False
        Whether y holds regression targets.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or all targets are equal.

    Notes
    -----
    The maximum of the density of :math:`y \sim N(0, F F^T / \alpha + I / \beta)` is
    exact: for a given :math:`\alpha / \beta` the best :math:`\beta` has a closed form,
    which leaves a one-dimensional search. The authors iterate instead [1]_.

    References
    ----------
    .. [1] K. You et al. (2021). LogME: Practical assessment of pre-trained models for
       transfer learning. https://arxiv.org/abs/2102.11005

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.advice import logme
    >>> X, y = load_iris(return_X_y=True)
    >>> logme(X, y) > logme(X[:, :2], y)
    True
    """
    F = check_features(features, y)
    Y = standardised(y) if regression else one_hot(y)
    U, s, _ = svd(F, full_matrices=False)
    explained = np.square(U.T @ Y)  # (k, n_outputs)
    energy = np.square(Y).sum(axis=0)
    left = np.maximum(energy - explained.sum(axis=0), _LEAST * energy)
    return float(np.mean(_best_evidence(np.square(s), explained, left, len(Y))))


def _best_evidence(eigenvalues, explained, left, n):
    """Return the maximum log evidence per sample of each target (n_outputs,)."""
    columns = np.arange(explained.shape[1])
    scale = max(eigenvalues.max(), np.finfo(float).tiny)
    centres = np.zeros(len(columns))
    for width, n_steps in _ZOOMS:
        exponents = centres + np.linspace(-width, width, n_steps)[:, None]
        found = np.stack(
            [
                _evidence(eigenvalues / scale, explained, left, n, 10.0**row)
                for row in exponents
            ]
        )  # (n_steps, n_outputs)
        chosen = found.argmax(axis=0)
        centres = exponents[chosen, columns]
    return found[chosen, columns]


def _evidence(eigenvalues, explained, left, n, ratio):
    """Return the log evidence per sample for the ratio alpha / beta of each target."""
    as_noise = ratio / (ratio + eigenvalues[:, None])  # (k, n_outputs)
    noise = (left + (explained * as_noise).sum(axis=0)) / n
    fit = np.log(2 * np.pi * noise) + 1
    return (np.log(as_noise).sum(axis=0) / n - fit) / 2


def h_score(features: ArrayLike, y: ArrayLike) -> float:
    r"""Compute the shrunken H-score.

    The H-score is the variance between the classes relative to the covariance of the
    features, which has Ledoit-Wolf shrinkage. It lies in [0, n_features); without
    shrinkage it is at most the number of classes minus one. It is invariant to
    translations, orthogonal maps and scalings of the features. As it grows with the
    number of features, only networks of similar widths can be compared.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    float
        :math:`tr(\Sigma_\alpha^{-1} (1 - \alpha) \Sigma_z)`, with :math:`\alpha` the
        shrinkage and :math:`\Sigma_z` the covariance of the class means.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or there is only one class.

    References
    ----------
    .. [1] Y. Bao et al. (2019). An information-theoretic approach to transferability in
       task transfer learning. *International Conference on Image Processing*.
    .. [2] S. Ibrahim et al. (2022). Newer is not always better: Rethinking
       transferability metrics. https://arxiv.org/abs/2110.06893

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.advice import h_score
    >>> X, y = load_iris(return_X_y=True)
    >>> h_score(X, y) > h_score(X[:, :2], y)
    True
    """
    F, codes = check_features(features, y), encode(y)
    n_features = F.shape[1]
    F = in_span(F)
    covariance, shrinkage = shrunk_covariance(F, n_features)
    means, counts = class_means(F, codes)
    between = np.square(whiten(means, covariance)).sum(axis=1)
    return float((1 - shrinkage) * counts @ between / len(F))


def leep(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Compute the log expected empirical prediction, LEEP.

    LEEP is the mean log-likelihood of the labels if they are predicted from the classes
    of another classifier, by the empirical joint distribution of these and the labels.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_source_classes)
        Probabilities of the classes of that classifier. Rows sum to one.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    float
        Mean log-likelihood, at most 0.

    Raises
    ------
    ValueError
        If shapes do not match, there is only one class, or rows are not probabilities.

    References
    ----------
    .. [1] C. V. Nguyen et al. (2020). LEEP: A new measure to evaluate transferability
       of learned representations. https://arxiv.org/abs/2002.12462

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.advice import leep
    >>> leep(np.eye(3)[[0, 1, 2, 2]], ["a", "b", "b", "b"])
    0.0
    """
    theta = check_features(probabilities, y)
    if theta.min() < 0 or not np.allclose(theta.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "`probabilities` must hold rows of probabilities that sum to one. Got "
            f"values from {theta.min():.3g} and sums up to "
            f"{theta.sum(axis=1).max():.3g}; apply a softmax to scores."
        )
    joint = one_hot(y).T @ theta  # (n_classes, n_source_classes)
    given = joint / np.maximum(joint.sum(axis=0), np.finfo(float).tiny)
    likelihood = (theta * given[encode(y)]).sum(axis=1)
    return float(np.log(likelihood).mean()) + 0.0


def check_features(features: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Return features as a finite float64 array, with one row per target."""
    F = check_array(features, dtype=np.float64, ensure_min_samples=2)
    check_consistent_length(F, y)
    return F


def encode(y: ArrayLike) -> np.ndarray:
    """Return labels as codes in [0, n_classes); an error if there is only one class."""
    classes, codes = np.unique(column_or_1d(y), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "`y` must hold at least two classes to score features by. Got one class: "
            f"{classes.tolist()[0]!r}."
        )
    return codes


def one_hot(y: ArrayLike) -> np.ndarray:
    """Return labels as indicators (n_samples, n_classes)."""
    codes = encode(y)
    return np.eye(codes.max() + 1)[codes]


def standardised(y: ArrayLike) -> np.ndarray:
    """Return targets with mean 0 and variance 1 per column (n_samples, n_outputs)."""
    Y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    Y = Y.reshape(len(Y), -1)
    Y = Y - Y.mean(axis=0)
    deviation = Y.std(axis=0)
    if not (deviation > 0).all():
        raise ValueError(
            "`y` must vary in every column to score features by. Got column "
            f"{int(np.argmin(deviation))} with one value only; leave it out."
        )
    return Y / deviation


for _score in (
    Score("logme", logme, regression=True),
    Score("h_score", h_score),
    Score("leep", leep, of="probabilities"),
):
    SCORES.add_built_in(_score.name, _score)
