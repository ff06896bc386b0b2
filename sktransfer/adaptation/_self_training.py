"""Self-training: what predictions for the target say about themselves."""

import torch
from torch.nn import functional as F

from sktransfer.adaptation._adversary import entropy

__all__ = [
    "centroid_labels",
    "class_confusion_loss",
    "information_loss",
    "pseudo_label_loss",
]


def class_confusion_loss(scores, temperature=2.5):
    """Compute how much classes are confused in the predictions of a batch.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.
    temperature : float, default=2.5
        What scores are divided by.

    Returns
    -------
    torch.Tensor of shape ()
        In [0, 1): the mean share of a class's predictions that goes to others, where
        certain samples count more.

    References
    ----------
    Y. Jin et al. (2020). Minimum Class Confusion for Versatile Domain Adaptation.
    https://arxiv.org/abs/1912.03699

    Examples
    --------
    >>> import torch
    >>> from sktransfer.adaptation import class_confusion_loss
    >>> round(class_confusion_loss(torch.zeros(6, 3)).item(), 4)  # knows nothing
    0.6667
    """
    scores = scores / temperature
    weights = 1 + torch.exp(-entropy(scores)).detach()
    weights = weights * len(scores) / weights.sum()  # (n,)
    probabilities = torch.softmax(scores, 1)
    confusion = (probabilities * weights[:, None]).T @ probabilities  # (k, k)
    confusion = confusion / confusion.sum(1, keepdim=True).clamp_min(1e-12)
    return 1 - confusion.diagonal().mean()


def pseudo_label_loss(scores, confidence=0.9):
    """Compute the cross-entropy with one's own predictions, where these are certain.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.
    confidence : float, default=0.9
        The least probability of a prediction that is taken for a label.

    Returns
    -------
    torch.Tensor of shape ()
        Sum over the certain ones, divided by n.

    References
    ----------
    D.-H. Lee (2013). Pseudo-Label: The Simple and Efficient Semi-Supervised Learning
    Method for Deep Neural Networks. ICML Workshop.

    K. Sohn et al. (2020). FixMatch: Simplifying Semi-Supervised Learning with
    Consistency and Confidence. https://arxiv.org/abs/2001.07685
    """
    best, labels = torch.softmax(scores.detach(), 1).max(1)  # (n,), (n,)
    losses = F.cross_entropy(scores, labels, reduction="none")
    return torch.where(best >= confidence, losses, 0.0).mean()


def information_loss(scores):
    """Compute how far predictions are from certain each and diverse in all.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.

    Returns
    -------
    torch.Tensor of shape ()
        Mean entropy less the entropy of the mean prediction: from ``-log(k)``, for
        certain predictions of all classes alike, to 0.

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546
    """
    mean = torch.softmax(scores, 1).mean(0)  # (k,)
    return entropy(scores).mean() + torch.xlogy(mean, mean).sum()


def centroid_labels(features, scores, n_rounds=1):
    """Label samples by the nearest centroid of the classes.

    Centroids are means of the features, first weighted by the probabilities, then of
    the samples that had the class as their nearest. Distances are cosines, of features
    with an entry of one appended. A class that no sample was nearest to has no say in
    the next round.

    Parameters
    ----------
    features : torch.Tensor of shape (n, d)
    scores : torch.Tensor of shape (n, k)
        Logits.
    n_rounds : int, default=1
        How often the centroids are computed anew from the labels.

    Returns
    -------
    torch.Tensor of shape (n,), int64

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546
    """
    features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    features = F.normalize(features)  # (n, d + 1)
    shares, n_classes = torch.softmax(scores, 1), scores.shape[1]
    for _ in range(n_rounds + 1):
        centroids = F.normalize(shares.T @ features)  # (k, d + 1)
        cosines = features @ centroids.T  # (n, k)
        cosines = cosines.masked_fill(shares.sum(0) == 0, -2.0)
        labels = cosines.argmax(1)
        shares = F.one_hot(labels, n_classes).to(features)
    return labels
