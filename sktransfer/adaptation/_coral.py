"""Correlation alignment: second moments of two sets of features brought together."""

__all__ = ["coral_loss", "covariance"]


def covariance(features):
    """Compute the covariance of features, with n - 1 in the denominator.

    Parameters
    ----------
    features : torch.Tensor of shape (n, d)

    Returns
    -------
    torch.Tensor of shape (d, d)
        Zero for a single row.
    """
    centred = features - features.mean(0)
    return centred.T @ centred / max(1, len(features) - 1)


def coral_loss(source, target):
    """Compute the squared distance between two covariances.

    Parameters
    ----------
    source : torch.Tensor of shape (n, d)
    target : torch.Tensor of shape (m, d)

    Returns
    -------
    torch.Tensor of shape ()
        Squared Frobenius norm of the difference, over 4 d².

    References
    ----------
    B. Sun and K. Saenko (2016). Deep CORAL: Correlation Alignment for Deep Domain
    Adaptation. https://arxiv.org/abs/1607.01719

    Examples
    --------
    >>> import torch
    >>> from sktransfer.adaptation import coral_loss
    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> coral_loss(x, 2 * x).item()  # variances of 2 and 8: 6² / 4
    9.0
    """
    difference = covariance(source) - covariance(target)  # (d, d)
    return difference.square().sum() / (4 * source.shape[1] ** 2)
