"""A classifier that trains the last stages of a pretrained network."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from torch import nn

from sktransfer._base import restore_on_error
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.fitting import shares_docs
from sktransfer.model import ClassOutputs
from sktransfer.training import (
    Probe,
    Solution,
    TrainingRecipe,
    cross_entropy,
    find_loss,
    fit_multilabel_probe,
    fit_probe,
    middle_C,
    search_C,
    search_multilabel_C,
    weigh_classes,
)
from sktransfer.utils import Interval, StrOptions, column_or_1d, warn_caller


@shares_docs
class FineTunedClassifier(ClassifierMixin, FineTunedEstimator):
    """Classifier that fine-tunes the last stages of a pretrained network.

    The first stages keep the weights that they came with (`freeze` says how many), so
    their activations are computed once, before the first epoch. The stages above and a
    new head are trained on them. With ``freeze="all"`` only the head is left, which is
    logistic regression and solved as such.

    Parameters
    ----------
    {network}
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" chooses it by
        cross-validation on the features.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    loss : "cross_entropy", another registered name or callable, \
default="cross_entropy"
        What is minimised. A callable takes scores of shape (n, n_classes) and targets,
        int64 codes of shape (n,) or, for multilabel targets, 0 and 1 of shape
        (n, n_labels), as tensors, and returns the losses of the samples, of shape (n,).
        The probe that the head starts from has the cross-entropy.
    {training}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; for multilabel targets, the positions of their columns.
    C_ : float
        The strength that the probe had, if there was one.
    {attributes}

    See Also
    --------
    FineTunedRegressor : The same for regression.
    PretrainedFeatureExtractor : Features for any other estimator.
    sktransfer.backbones.describe_backbone : The stages to freeze.

    References
    ----------
    A. Kumar et al. (2022). Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution. https://arxiv.org/abs/2202.10054

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> model = FineTunedClassifier(
    ...     freeze="all", image_shape=(8, 8), value_range=(0, 16), image_size=64
    ... )
    >>> model.fit(X[:60], y[:60]).score(X[60:120], y[60:120])
    1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        **FineTunedEstimator._parameter_constraints,
        "C": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "loss": [str, callable],
    }

    _strength = "C_"

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        freeze="auto",
        head="linear",
        pooling="auto",
        C="auto",
        class_weight=None,
        loss="cross_entropy",
        max_epochs=10,
        lr=1e-3,
        batch_size="auto",
        augment=None,
        early_stopping=False,
        training=None,
        image_size=None,
        image_shape=None,
        value_range="auto",
        device="auto",
        memory=None,
        checkpoint=None,
        warm_start=False,
        callbacks=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.head = head
        self.pooling = pooling
        self.C = C
        self.class_weight = class_weight
        self.loss = loss
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.augment = augment
        self.early_stopping = early_stopping
        self.training = training
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @restore_on_error
    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train for one epoch on some samples.

        The first call settles the network: ``freeze="auto"`` looks at its number of
        samples. Nothing is held out for early stopping. Where a linear head alone is
        left, it is solved on the new samples and a summary of all those before, in
        whatever order classes come.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come, in the first call; by default those in y.

        Returns
        -------
        self : FineTunedClassifier
        """
        self._validate_params()
        self._check_same_classes(classes)
        return self._partial_fit(X, y, sample_weight, classes)

    def _check_same_classes(self, classes):
        """Refuse other classes than those of the first call, as scikit-learn does."""
        is_first = not hasattr(self, "classes_")
        if is_first or classes is None or self.model_.outputs.is_multilabel:
            return
        if not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to "
                f"partial_fit, was: {self.classes_!r}. Give the same labels or none; a "
                "`clone` of the estimator starts from the beginning."
            )

    def decision_function(self, X):
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            Logits; for two classes, that of the second less that of the first.
        """
        scores = self._scores(X)
        if self.model_.outputs.is_multilabel or len(self.classes_) > 2:
            return scores
        return scores[:, 1] - scores[:, 0]

    def predict_proba(self, X):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one; of multilabel targets, each is a probability of its own.
        """
        scores = self._scores(X)
        is_multilabel = self.model_.outputs.is_multilabel
        return expit(scores) if is_multilabel else softmax(scores, axis=1)

    def predict_log_proba(self, X):
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Finite where a probability is too small for its own float64.
        """
        scores = self._scores(X)
        is_multilabel = self.model_.outputs.is_multilabel
        return log_expit(scores) if is_multilabel else log_softmax(scores, axis=1)

    def score(self, X, y=None, sample_weight=None):
        """Compute the share of correct predictions.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.

        Returns
        -------
        float
            Of multilabel targets, the share of samples with all labels correct.

        Warns
        -----
        UserWarning
            If y is left out and X has labels that `fit` never saw.
        """
        labels = self._labels(X, y)
        if y is None and not self.model_.outputs.is_multilabel:
            _warn_of_unseen(labels, self.classes_)
        return super().score(X, labels, sample_weight)

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels of ``classes_``; of multilabel targets, 0 and 1.
        """
        scores = self._scores(X)
        if self.model_.outputs.is_multilabel:
            return (scores > 0).astype(int)
        return self.classes_[scores.argmax(axis=1)]

    def _learn_outputs(self, y, classes):
        return ClassOutputs.learn(y, classes)

    def _weigh(self, y, sample_weight, outputs):
        if not outputs.is_multilabel:
            y, classes = column_or_1d(y), outputs.classes
            return weigh_classes(self.class_weight, y, sample_weight, classes)
        if self.class_weight is not None:
            raise ValueError(
                "`class_weight` must be None for multilabel targets. Got "
                f"{self.class_weight!r}; use `sample_weight`."
            )
        return sample_weight

    def _loss(self):
        smoothing = TrainingRecipe.of(self.training).label_smoothing
        if self.loss == "cross_entropy":
            return partial(cross_entropy, label_smoothing=smoothing)
        if smoothing:
            raise ValueError(
                "`training__label_smoothing` must be 0 with another `loss` than "
                f"'cross_entropy'. Got {smoothing!r}; smooth the targets in the loss."
            )
        return find_loss(self.loss, "classification")

    def _probe(self, outputs):
        # Two opposite rows of weights have half the squares of their difference.
        are_opposite = outputs.n_outputs == 2 and not outputs.is_multilabel
        return Probe(
            solve=partial(_solve, outputs, self.C),
            penalty=lambda C: (2 if are_opposite else 1) / C,
            loss=cross_entropy,
            kind=outputs.kind,
            is_final=self.head == "linear" and self.loss == "cross_entropy",
        )


def _solve(outputs, C, features, y, sample_weight, groups, is_partial):
    """Solve logistic regression (Solution)."""
    known, weighted = np.unique(y), {"sample_weight": sample_weight}
    search, fit = search_C, partial(fit_probe, n_classes=outputs.n_outputs)
    if outputs.is_multilabel:
        search, fit = search_multilabel_C, fit_multilabel_probe
    middle = middle_C(features.numpy(), sample_weight)
    strength = float(middle if C == "auto" else C)
    if len(known) == 1 and not outputs.is_multilabel:
        head = _constant_head(features.shape[1], outputs.n_outputs)
        _open_to_new_classes(head, features, known)
        return Solution(head, strength, {"train_loss": 0.0, "n_iter": 0})
    if C == "auto":
        strength = search(features, y, groups=groups, **weighted)
        # A few samples must not settle on next to no classifier.
        strength = max(strength, middle) if is_partial else strength
    head, n_iter, loss = fit(features, y, C=strength, **weighted)
    if is_partial:
        open_to_others = _open_to_new_classes
        if outputs.is_multilabel:
            open_to_others = _open_outputs
        open_to_others(head, features, known)
    return Solution(head, strength, {"train_loss": loss, "n_iter": n_iter})


def _warn_of_unseen(labels, classes):
    """Warn of labels that no prediction can be, as folds of a sorted folder have."""
    if np.isin(labels, classes).all():
        return
    warn_caller(
        "X has labels that were not among those of `fit`: these samples count as "
        "wrong. Folds are stratified only where y is passed, as in `search.fit(X, y)`; "
        "for an `ImageFolder`, y is `X.targets`."
    )


def _constant_head(n_features, n_classes):
    """Return a layer that gives all classes the same score."""
    head = nn.utils.skip_init(nn.Linear, n_features, n_classes)  # which draws nothing
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _open_to_new_classes(head, features, known):
    """Set the bias of classes without samples to the score of one sample in n."""
    new = np.setdiff1d(np.arange(head.out_features), known)
    with torch.no_grad():
        total = head(features)[:, known].logsumexp(dim=1)  # (n,)
        head.bias[new] = total.min() - np.log(len(features))


def _open_outputs(head, features, known):
    """Set the bias of outputs with one value to a probability of one in 2n + 2."""
    with torch.no_grad():
        constant = ~head.weight.any(dim=1)
        sign = head.bias[constant].sign()
        head.bias[constant] = sign * np.log(2 * len(features) + 1)
