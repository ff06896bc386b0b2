"""Scores of features by simple models that predict the targets from them."""

import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from sktransfer.advice._registry import SCORES, Score
from sktransfer.advice._scores import (
    check_features,
    encode,
    leep,
    one_hot,
    standardised,
)
from sktransfer.training import lda_predictions

_ENERGY = 0.8  # share of the variance that N-LEEP keeps
_PER_CLASS = 5  # components of N-LEEP for each class
_TIE = 1e-3  # weight of the similarity relative to a vote


def lda_score(features: ArrayLike, y: ArrayLike) -> float:
    """Compute the leave-one-out accuracy of linear discriminant analysis.

    Classes are modelled as Gaussians that share a covariance with Ledoit-Wolf
    shrinkage; their priors are their shares of the samples. Each sample is predicted
    from all others. The score is invariant to translations, orthogonal maps and
    scalings of the features.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,)
        Labels. The only sample of a class is counted as an error.

    Returns
    -------
    float
        Share of correct predictions.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or there is only one class.

    Notes
    -----
    The means and the inverse covariance without a sample have a closed form, so that
    one decomposition is enough. The shrinkage is that of all samples.

    References
    ----------
    .. [1] O. Ledoit and M. Wolf (2004). A well-conditioned estimator for
       large-dimensional covariance matrices. *Journal of Multivariate Analysis*, 88(2).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.advice import lda_score
    >>> lda_score(*load_iris(return_X_y=True))
    0.98
    """
    F, codes = check_features(features, y), encode(y)
    return float((lda_predictions(F, codes) == codes).mean())


def knn_score(
    features: ArrayLike, y: ArrayLike, *, n_neighbors: int = 5, regression: bool = False
) -> float:
    """Compute how well the nearest other samples predict a sample.

    Distances are cosine distances. Neighbours vote for classes; ties go to the class
    with the nearer neighbours. Regression targets are averaged. The score is invariant
    to orthogonal maps of the features and to scalings of single samples.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels, or regression targets with `regression`.
    n_neighbors : int, default=5
        Number of neighbours; all other samples, if these are fewer.
    regression : bool, default=False
        Whether y holds regression targets.

    Returns
    -------
    float
        Share of correct predictions; R², averaged over columns, with `regression`.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or all targets are equal.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.advice import knn_score
    >>> knn_score(*load_iris(return_X_y=True)) > 0.9
    True
    """
    F = check_features(features, y)
    Y = standardised(y) if regression else one_hot(y)
    k = min(n_neighbors, len(F) - 1)
    search = NearestNeighbors(n_neighbors=k, metric="cosine").fit(F)
    distance, nearest = search.kneighbors()  # (n_samples, k)
    means = Y[nearest].mean(axis=1)  # (n_samples, n_outputs)
    if regression:
        return float(1 - np.square(Y - means).mean())
    nearer = (Y[nearest] * (1 - distance)[..., None]).mean(axis=1)
    return float(((means + _TIE * nearer).argmax(axis=1) == encode(y)).mean())


def n_leep(
    features: ArrayLike,
    y: ArrayLike,
    *,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    """Compute N-LEEP: LEEP with clusters of the features in place of source classes.

    The principal components with 80% of the variance, scaled to a mean variance of one,
    are modelled as a mixture of Gaussians with five components per class, whose
    probabilities are scored by :func:`leep`. Up to rounding, the score is invariant to
    orthogonal maps and scalings of the features.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,)
        Labels.
    random_state : int, RandomState instance or None, default=0
        Seeds the initialisation of the mixture.

    Returns
    -------
    float
        Mean log-likelihood, at most 0.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or there is only one class.

    References
    ----------
    .. [1] Y. Li et al. (2021). Ranking neural checkpoints.
       https://arxiv.org/abs/2011.11200

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.advice import n_leep
    >>> -1 < n_leep(*load_iris(return_X_y=True)) < 0
    True
    """
    F, codes = check_features(features, y), encode(y)
    F = F - F.mean(axis=0)
    if not F.any():  # one cluster
        return leep(np.ones((len(F), 1)), y)
    F = PCA(_ENERGY, svd_solver="full").fit_transform(F)
    F = F / np.sqrt(np.square(F).mean())
    n_components = min(_PER_CLASS * (codes.max() + 1), len(F) // 2)
    mixture = GaussianMixture(n_components, reg_covar=1e-3, random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return leep(mixture.fit(F).predict_proba(F), y)


for _score in (
    Score("lda", lda_score),
    Score("knn", knn_score, regression=True),
    Score("n_leep", n_leep),
):
    SCORES.add_built_in(_score.name, _score)
