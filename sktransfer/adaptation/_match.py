"""Colours of one image moved to those of another."""

import numpy as np

__all__ = ["match_moments", "match_quantiles"]

_STEEPEST = 5.0  # contrast of nearly flat images is not blown up beyond this


def match_moments(values, mean, std, *, own_std=None):
    """Shift and stretch values so that they get a mean and a standard deviation.

    Parameters
    ----------
    values : array of shape (h, w)
        One channel.
    mean, std : float
        What to aim at.
    own_std : float, default=None
        The standard deviation that counts as the channel's own, such as the one
        without its noise.

    Returns
    -------
    array of shape (h, w)
        Never stretched by more than a factor of 5.

    References
    ----------
    E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley (2001). Color Transfer between
    Images. IEEE Computer Graphics and Applications 21(5).
    """
    own = values.std() if own_std is None else own_std
    factor = min(std / own, _STEEPEST) if own > 0 else 1.0
    return (values - values.mean()) * factor + mean


def match_quantiles(values, quantiles):
    """Give values another distribution, in the order that they have.

    Parameters
    ----------
    values : array of shape (h, w)
        One channel.
    quantiles : array of shape (n,)
        Of the other distribution, evenly spaced from the least to the greatest.

    Returns
    -------
    array of shape (h, w)
    """
    own = np.quantile(values, np.linspace(0, 1, len(quantiles)))
    own, group = np.unique(own, return_inverse=True)
    goal = np.bincount(group, weights=quantiles) / np.bincount(group)
    return np.interp(values, own, goal)
