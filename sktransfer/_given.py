"""What `fit` is given: checks, and shares of it."""

import warnings

from sktransfer.activations import FixedViews

__all__ = ["check_given", "seen_by_probe", "take", "warn_of_equal"]


def check_given(X_val, y_val, sample_weight_val):
    """Refuse labels or weights of validation samples without the samples.

    Parameters
    ----------
    X_val, y_val, sample_weight_val : object
        As `fit` got them; None for what it did not get.

    Raises
    ------
    ValueError
    """
    if X_val is not None:
        return
    given = {"y_val": y_val, "sample_weight_val": sample_weight_val}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`X_val` is needed with `{name}`. Got None.")


def seen_by_probe(views, activations):
    """Return what the probe is solved on.

    Parameters
    ----------
    views : FixedViews, FreshViews or None
    activations : Activations
        Of the samples as they are.

    Returns
    -------
    list of Activations
        Fixed views, where there are some; otherwise the samples as they are.
    """
    return views.views if isinstance(views, FixedViews) else [activations]


def take(samples, indices):
    """Take some samples, with their digests.

    Parameters
    ----------
    samples : Samples or VectorSamples
        With ``digests``.
    indices : sequence of int

    Returns
    -------
    Samples or VectorSamples
    """
    taken = samples.take(indices)
    taken.digests = [samples.digests[i] for i in indices]
    return taken


def warn_of_equal(digests):
    """Warn where all samples are equal.

    Parameters
    ----------
    digests : list of bytes
        Of the samples.

    Warns
    -----
    UserWarning
    """
    if len(digests) > 1 and len({*digests}) == 1:
        warnings.warn(
            f"All {len(digests)} samples are equal: there is nothing to tell them "
            "apart by. Look at `X[0]` and at how `X` was made.",
            UserWarning,
            stacklevel=5,
        )
