"""Two-sample statistics: how much two sets of features differ."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer.utils import spawn_seed, types

_FEWEST = 2


def proxy_a_distance(
    Z_source: ArrayLike,
    Z_target: ArrayLike,
    *,
    cv: int = 5,
    C: float = 0.1,
    random_state: types.RandomState | None = None,
) -> float:
    """Estimate the distance of two domains from how well a classifier separates them.

    The proxy A-distance is 2 (1 - 2 e), where e is the cross-validated error rate of a
    logistic regression on standardised features, averaged over the two domains.

    Parameters
    ----------
    Z_source, Z_target : array-like of shape (n, n_features)
        Features of the two domains.
    cv : int, default=5
        Number of folds; there are fewer if a domain has fewer samples.
    C : float, default=0.1
        Inverse strength of the L2 penalty.
    random_state : int, RandomState instance or None, default=None
        Seeds the assignment of samples to folds.

    Returns
    -------
    float
        About 0 if the domains cannot be distinguished, where chance may make it
        negative; 2 if they are separated without an error.

    Raises
    ------
    ValueError
        If the features cannot be compared, or `cv` is not an int of at least 2.

    See Also
    --------
    mmd_test : Tests whether a difference may be due to chance.

    References
    ----------
    S. Ben-David, J. Blitzer, K. Crammer, F. Pereira (2007). Analysis of Representations
    for Domain Adaptation. Advances in Neural Information Processing Systems 19.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import proxy_a_distance
    >>> Z = np.random.RandomState(0).normal(size=(100, 3))
    >>> proxy_a_distance(Z, Z + 10, random_state=0)
    2.0
    """
    Z_source, Z_target = _check_features(Z_source, Z_target)
    if not isinstance(cv, Integral) or cv < 2:
        raise ValueError(f"`cv` must be an int of at least 2. Got {cv!r}.")
    Z = np.concatenate([Z_source, Z_target])
    domain = np.repeat([0, 1], [len(Z_source), len(Z_target)])
    n_folds, seed = min(cv, *np.bincount(domain)), spawn_seed(random_state)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    classifier = LogisticRegression(C=C, class_weight="balanced", max_iter=2000)
    model = make_pipeline(StandardScaler(), classifier)
    wrong = cross_val_predict(model, Z, domain, cv=folds) != domain
    error = np.mean([wrong[domain == 0].mean(), wrong[domain == 1].mean()])
    return float(2 * (1 - 2 * error))


class MMDResult(NamedTuple):
    """Result of :func:`mmd_test`."""

    statistic: float
    pvalue: float


def mmd_test(
    Z_source: ArrayLike,
    Z_target: ArrayLike,
    *,
    n_permutations: int = 200,
    random_state: types.RandomState | None = None,
) -> MMDResult:
    """Test by the maximum mean discrepancy whether two domains differ.

    The kernel is Gaussian, exp(-d² / (2 m²)), where m is the median of the distances
    between all samples.

    Parameters
    ----------
    Z_source, Z_target : array-like of shape (n, n_features)
        Features of the two domains.
    n_permutations : int, default=200
        Number of random assignments of the samples to the domains. The p-value is at
        least 1 / (n_permutations + 1).
    random_state : int, RandomState instance or None, default=None
        Seeds the permutations.

    Returns
    -------
    statistic : float
        Unbiased estimate of the squared maximum mean discrepancy. Its mean is 0 if both
        distributions are the same, so it may be negative.
    pvalue : float
        Share of the permutations, including the identity, with a statistic at least as
        large. Both results are also attributes of the returned named tuple.

    Raises
    ------
    ValueError
        If the features cannot be compared, or `n_permutations` is not a positive int.

    See Also
    --------
    proxy_a_distance : Measures how large a difference is.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola (2012). A Kernel
    Two-Sample Test. Journal of Machine Learning Research 13.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import mmd_test
    >>> Z = np.random.RandomState(0).normal(size=(100, 3))
    >>> mmd_test(Z[:50], Z[50:] + 1, n_permutations=99, random_state=0).pvalue
    0.01
    """
    Z_source, Z_target = _check_features(Z_source, Z_target)
    if not isinstance(n_permutations, Integral) or n_permutations < 1:
        raise ValueError(
            f"`n_permutations` must be an int of at least 1. Got {n_permutations!r}."
        )
    kernel = _kernel(np.concatenate([Z_source, Z_target]))
    is_source = np.arange(len(kernel)) < len(Z_source)
    rng = np.random.default_rng(spawn_seed(random_state))
    drawn = (rng.permutation(is_source) for _ in range(n_permutations))
    found = _discrepancies(kernel, np.array([is_source, *drawn]))
    tolerance = 1e-12  # equal assignments in another order differ by rounding
    return MMDResult(float(found[0]), float(np.mean(found >= found[0] - tolerance)))


def _kernel(Z):
    """Return the kernel matrix of all rows, with zeros on the diagonal."""
    squares = cdist(Z, Z, "sqeuclidean")
    median = np.median(squares[np.triu_indices_from(squares, 1)])
    if median == 0:
        median = squares.max() or 1.0  # if most rows are equal
    kernel = np.exp(-squares / (2 * median))
    np.fill_diagonal(kernel, 0)
    return kernel


def _discrepancies(kernel, is_source):
    """Return the squared MMD per assignment, a bool row of (n_assignments, n)."""
    first = is_source.astype(np.float64)
    second = 1 - first
    n, m = first.sum(axis=1), second.sum(axis=1)
    to_first = first @ kernel  # (n_assignments, n)
    within_first = (to_first * first).sum(axis=1)
    between = (to_first * second).sum(axis=1)
    within_second = kernel.sum() - within_first - 2 * between
    within = within_first / (n * (n - 1)) + within_second / (m * (m - 1))
    return within - 2 * between / (n * m)


def _check_features(Z_source, Z_target):
    """Return the features of both domains as arrays that can be compared."""
    checked = [
        _check_table(np.asarray(Z, dtype=np.float64), name)
        for Z, name in ((Z_source, "Z_source"), (Z_target, "Z_target"))
    ]
    widths = [Z.shape[1] for Z in checked]
    if widths[0] != widths[1]:
        raise ValueError(
            "`Z_source` and `Z_target` must have the same features. Got "
            f"{widths[0]} and {widths[1]} columns."
        )
    return checked


def _check_table(Z, name):
    if Z.ndim != 2 or Z.shape[1] == 0:
        raise ValueError(
            f"`{name}` must be of shape (n_samples, n_features). Got {Z.shape}."
        )
    if len(Z) < _FEWEST:
        raise ValueError(
            f"`{name}` must have at least {_FEWEST} samples. Got {len(Z)}."
        )
    bad = np.flatnonzero(~np.isfinite(Z).all(axis=1))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite. Got NaN or infinity in {len(bad)} of {len(Z)} "
            f"rows, the first is row {bad[0]}; leave these samples out."
        )
    return Z
