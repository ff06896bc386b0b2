"""The linear probe, solved as the convex problem that it is."""

import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import nn

__all__ = ["fit_probe"]

_MAX_ITER = 1000
_NEVER = -1e4
# Below so many multiply-adds a step, BLAS threads wait for each other most of the time.
_SMALL = 2e8


def fit_probe(features, y, n_classes, *, C=1.0, sample_weight=None):
    """Fit a multinomial logistic regression and return it as a linear layer.

    A class that has no sample gets a bias so low that it is never predicted.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, d)
    y : ndarray of shape (n_samples,)
        Labels in [0, n_classes), of two classes at least.
    n_classes : int
    C : float, default=1.0
        Inverse strength of the L2 penalty on the weights, as in
        :class:`sklearn.linear_model.LogisticRegression`.
    sample_weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    head : torch.nn.Linear
        From d to n_classes; with two classes the two rows are opposite.
    n_iter : int
        Iterations of the solver.
    loss : float
        Mean cross-entropy on the samples, weighted as they are.
    """
    model = LogisticRegression(C=C, max_iter=_MAX_ITER)
    threads = None if features.numel() * n_classes > _SMALL else 1
    with threadpool_limits(threads, user_api="blas"):
        model.fit(features.numpy(), y, sample_weight=sample_weight)
    coef = torch.from_numpy(model.coef_).float()  # (k, d)
    bias = torch.from_numpy(model.intercept_).float()  # (k,)
    if len(coef) == 1:
        coef, bias = torch.cat([-coef, coef]) / 2, torch.cat([-bias, bias]) / 2
    present = torch.from_numpy(model.classes_)
    # Drawing weights that are overwritten would advance torch's global generator.
    head = nn.utils.skip_init(nn.Linear, coef.shape[1], n_classes)
    with torch.no_grad():
        head.weight.zero_()[present] = coef
        head.bias.fill_(_NEVER)[present] = bias
        losses = nn.functional.cross_entropy(
            head(features), torch.from_numpy(y), reduction="none"
        )
    if sample_weight is None:
        return head, int(model.n_iter_[0]), float(losses.mean())
    w = torch.from_numpy(sample_weight)
    return head, int(model.n_iter_[0]), float((losses * w).sum() / w.sum())
