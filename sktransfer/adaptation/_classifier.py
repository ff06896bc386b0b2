"""A classifier for a target domain, from labels of a source domain."""

from numbers import Real

from sktransfer import FineTunedClassifier
from sktransfer._docs import shares_adapted_docs
from sktransfer.adaptation._adapted import DomainAdaptedEstimator
from sktransfer.adaptation._domains import masked_classes
from sktransfer.adaptation._methods import CLASSIFIER_METHODS
from sktransfer.utils import Interval, StrOptions

__all__ = ["DomainAdaptedClassifier"]


@shares_adapted_docs
class DomainAdaptedClassifier(DomainAdaptedEstimator, FineTunedClassifier):
    """Classify samples of a target domain, with labels of a source domain alone.

    A :class:`~sktransfer.FineTunedClassifier` that gets samples of both domains in one
    `fit`. Frozen stages are computed once for either.

    Parameters
    ----------
    {parameters}
    method : {"none", "adabn", "shot", "coral", "mmd", "jmmd", "dann", "cdan", "mcc", \
"pseudo_label"}, default="mcc"
        - "none" learns from the source alone;
        - "adabn" gives BatchNorm in the trained stages statistics that take the target
          to where the source was;
        - "shot" then moves the trained stages until the target's predictions are
          certain and diverse, and agree with centroids; the head stays. Neither needs
          the source for that, see :meth:`adapt`;
        - "coral" brings the covariances of the features together;
        - "mmd" brings the means of their kernels together, "jmmd" those of features and
          predictions together;
        - "dann" trains features that a discriminator cannot tell the domains of, "cdan"
          features together with predictions, certain ones first;
        - "mcc" makes predictions for the target that confuse few classes;
        - "pseudo_label" takes certain predictions for labels.

        All but "mcc", "pseudo_label" and "none" need stages to train. Independent
        labels are for "coral", "mmd", "jmmd", "dann" and "adabn".
    adaptation_weight : float, default=1.0
        What the method minimises counts so much beside the loss of the source.
    confidence : float, default=0.9
        Least probability of a prediction that "pseudo_label" takes for a label.
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" chooses it by
        cross-validation on the features.
    label_smoothing : float, default=0.0
        Share of the target that all classes have in equal parts. The probe has none.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn, of the source.
    {settings}
    {augmentation}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels of the source; of independent labels, their columns.
    C_ : float
        The strength that the probe had, if there was one.
    {attributes}

    See Also
    --------
    DomainAdaptedRegressor : The same for numbers.
    sktransfer.FineTunedClassifier : Where target samples have labels.

    Notes
    -----
    Masked labels are -1, as skada has them, None and NaN. -1 is a class where another
    label is None or NaN, where there are labels below it, or fewer than two others.
    Among texts it is a mask, and so is a row of -1 of independent labels.

    ``history_`` has what the method minimised in the column ``objective``.

    References
    ----------
    Y. Li et al. (2016). Revisiting Batch Normalization For Practical Domain Adaptation.
    https://arxiv.org/abs/1603.04779

    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546

    B. Sun and K. Saenko (2016). Deep CORAL: Correlation Alignment for Deep Domain
    Adaptation. https://arxiv.org/abs/1607.01719

    M. Long et al. (2015). Learning Transferable Features with Deep Adaptation Networks.
    https://arxiv.org/abs/1502.02791

    M. Long et al. (2017). Deep Transfer Learning with Joint Adaptation Networks.
    https://arxiv.org/abs/1605.06636

    Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
    https://arxiv.org/abs/1505.07818

    M. Long et al. (2018). Conditional Adversarial Domain Adaptation.
    https://arxiv.org/abs/1705.10667

    Y. Jin et al. (2020). Minimum Class Confusion for Versatile Domain Adaptation.
    https://arxiv.org/abs/1912.03699

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.adaptation import DomainAdaptedClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> X[60:] = 16 - X[60:]  # black on white
    >>> domain = np.repeat([1, -2], [60, len(X) - 60])
    >>> model = DomainAdaptedClassifier(
    ...     method="mcc", freeze="all", image_shape=(8, 8), value_range=(0, 16),
    ...     image_size=64,
    ... )
    >>> model = model.fit(X[:120], y[:120], sample_domain=domain[:120])
    >>> model.predict(X[120:]).shape
    (240,)
    """

    _parameter_constraints = {
        **FineTunedClassifier._parameter_constraints,
        **DomainAdaptedEstimator._own_constraints,
        "method": [StrOptions({*CLASSIFIER_METHODS})],
        "confidence": [Interval(Real, 0, 1, closed="both")],
    }
    __metadata_request__predict_proba = {"sample_domain": True, "allow_source": True}
    __metadata_request__predict_log_proba = {
        "sample_domain": True,
        "allow_source": True,
    }
    __metadata_request__decision_function = {
        "sample_domain": True,
        "allow_source": True,
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        freeze="auto",
        unfreeze_every=None,
        adapter=None,
        adapter_rank=8,
        adapter_alpha=16.0,
        pooling="auto",
        pool_size=1,
        head="linear",
        head_init="probe",
        dropout=0.0,
        method="mcc",
        adaptation_weight=1.0,
        confidence=0.9,
        C="auto",
        label_smoothing=0.0,
        class_weight=None,
        image_size=None,
        image_shape=None,
        value_range="auto",
        max_epochs=10,
        lr=1e-3,
        backbone_lr_ratio=0.5,
        layer_decay=1.0,
        lr_schedule="auto",
        weight_decay=0.01,
        l2_sp=0.0,
        max_grad_norm=1.0,
        accumulate_grad_batches=1,
        batch_norm="eval",
        ema=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        augment="auto",
        n_views=None,
        augment_activations=False,
        mixup=0.0,
        cutmix=0.0,
        tta=None,
        batch_size="auto",
        device="auto",
        callbacks=None,
        memory=None,
        checkpoint=None,
        warm_start=False,
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            backbone,
            weights=weights,
            freeze=freeze,
            unfreeze_every=unfreeze_every,
            adapter=adapter,
            adapter_rank=adapter_rank,
            adapter_alpha=adapter_alpha,
            pooling=pooling,
            pool_size=pool_size,
            head=head,
            head_init=head_init,
            dropout=dropout,
            C=C,
            label_smoothing=label_smoothing,
            class_weight=class_weight,
            image_size=image_size,
            image_shape=image_shape,
            value_range=value_range,
            max_epochs=max_epochs,
            lr=lr,
            backbone_lr_ratio=backbone_lr_ratio,
            layer_decay=layer_decay,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            l2_sp=l2_sp,
            max_grad_norm=max_grad_norm,
            accumulate_grad_batches=accumulate_grad_batches,
            batch_norm=batch_norm,
            ema=ema,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            augment=augment,
            n_views=n_views,
            augment_activations=augment_activations,
            mixup=mixup,
            cutmix=cutmix,
            tta=tta,
            batch_size=batch_size,
            device=device,
            callbacks=callbacks,
            memory=memory,
            checkpoint=checkpoint,
            warm_start=warm_start,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.method = method
        self.adaptation_weight = adaptation_weight
        self.confidence = confidence

    def predict_proba(self, X, *, sample_domain=None, allow_source=False):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Not looked at, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one; of independent labels, each is a probability of its own.
        """
        return super().predict_proba(X)

    def predict_log_proba(self, X, *, sample_domain=None, allow_source=False):
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Not looked at, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Finite where a probability is too small for its own float64. If y is
            multilabel, each is the logarithm of the probability of one label.
        """
        return super().predict_log_proba(X)

    def decision_function(self, X, *, sample_domain=None, allow_source=False):
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Not looked at, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            Logits; for two classes, that of the second less that of the first.
        """
        return super().decision_function(X)

    def _find_masked(self, y, classes=None):
        return masked_classes(y, classes)
