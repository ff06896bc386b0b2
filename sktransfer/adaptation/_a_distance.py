"""How well a linear classifier tells source features from target features."""

from numbers import Integral

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer.utils import spawn_seed

__all__ = ["check_features", "proxy_a_distance"]

_FEWEST = 2


def check_features(Z_source, Z_target):
    """Return the features of both domains as arrays that can be compared.

    Parameters
    ----------
    Z_source, Z_target : array-like of shape (n, n_features)

    Returns
    -------
    Z_source, Z_target : float64 ndarray of shape (n, n_features)

    Raises
    ------
    ValueError
        If they are no tables of finite numbers, have fewer than 2 rows, or not the same
        number of columns.
    """
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


def proxy_a_distance(Z_source, Z_target, *, cv=5, C=0.1, random_state=None):
    """Estimate the distance of two domains by classifying between them.

    It is 2 (1 - 2 e), where e is the mean of the two domains' rates of errors of a
    logistic regression on standardised features, on samples kept aside.

    Parameters
    ----------
    Z_source, Z_target : array-like of shape (n, n_features)
        Features of the two domains.
    cv : int, default=5
        Number of folds; fewer where a domain has fewer samples.
    C : float, default=0.1
        Inverse strength of the L2 penalty.
    random_state : int, RandomState instance or None, default=None
        Shuffles the samples into folds.

    Returns
    -------
    float
        About 0 if the domains look the same, and by chance below it; 2 if they are told
        apart without an error.

    Raises
    ------
    ValueError
        If the features cannot be compared, or `cv` is no int of at least 2.

    See Also
    --------
    mmd_test : Says whether a difference may be chance.

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
    Z_source, Z_target = check_features(Z_source, Z_target)
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
