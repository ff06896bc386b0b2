"""Meta-estimator that adapts a classifier to a target domain."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if

from sktransfer._classifier import FineTunedClassifier
from sktransfer._features import PretrainedFeatureExtractor
from sktransfer.adaptation._adapted import ROUTED, DomainAdaptedEstimator, inner_has
from sktransfer.adaptation._centroids import MIN_GAP, class_gap
from sktransfer.adaptation._domains import masked_classes
from sktransfer.training import AdaptationMethod
from sktransfer.utils import check_is_fitted, types


class DomainAdaptedClassifier(ClassifierMixin, DomainAdaptedEstimator):
    """Classifier for a target domain, trained on the labels of a source domain alone.

    This is a meta-estimator: :class:`~sktransfer.FineTunedClassifier` gets the samples
    of both domains in one `fit`. Frozen stages are computed once for both.

    Parameters
    ----------
    estimator : FineTunedClassifier, default=None
        Estimator of which a clone is fitted; by default ``FineTunedClassifier()``. Its
        parameters are searchable as ``estimator__freeze`` and so on.
    method : str, AdaptationMethod or callable, default="centroids"
        A name, see :func:`list_methods`; an instance such as ``MCC(weight=0.5)``, whose
        parameters are searchable as ``method__weight``; or a function
        ``f(source, target, progress)`` that is added to the loss, see
        :meth:`AdaptationMethod.make_objective`.

        - "none" trains on the source alone, for comparison;
        - "centroids" moves a linear head to the centroids of the classes in the target,
          unless the domains do not differ (:class:`Centroids`);
        - "adabn" gives BatchNorm in the trained stages statistics that move the target
          to the source (:class:`AdaBN`);
        - "shot" goes on to train these stages, with a fixed head, until the predictions
          for the target are confident, diverse and agree with the nearest class
          centroids (:class:`SHOT`). "centroids", "adabn" and "shot" do this without the
          source, see :meth:`adapt`;
        - "coral" brings the covariances of the features together (:class:`CORAL`);
        - "mmd" brings their kernel means together (:class:`MMD`), "jmmd" those of
          features and predictions together (:class:`JMMD`);
        - "dann" trains features whose domain a discriminator cannot recognise
          (:class:`DANN`);
        - "mcc" makes predictions for the target that confuse few classes
          (:class:`MCC`);
        - "pseudo_label" takes confident predictions for labels (:class:`PseudoLabels`).

        All but "centroids", "mcc", "pseudo_label" and "none" need trained stages.
        "none", "adabn", "coral", "mmd", "jmmd" and "dann" support multilabel y.
    style : {"auto", "random", "target"} or None, default="auto"
        Styles of source images in training, in four views of each image unless the
        estimator has other ``n_views``. "random" changes colours, sharpness, noise and
        compression at random (:class:`RandomStyle`); "target" moves them to the style
        of the target (:class:`TargetStyle`, which needs scikit-image); None leaves
        images as they are. "auto" is "random" if samples are images of classes that
        exclude each other, the estimator has no ``augment`` of its own, the method is
        not "none", and the features of the pretrained network differ between the
        domains (see :class:`Centroids`): without a gap, random styles do harm.

    Attributes
    ----------
    estimator_ : FineTunedClassifier
        The fitted inner estimator. Its ``classes_``, ``model_``, ``module_``,
        ``history_`` and ``model_card_`` are also attributes of this estimator.
    style_ : RandomStyle, TargetStyle or None
        What the style of source images was changed by.
    adaptation_ : dict or None
        What the method found and decided, if it reports that; see :class:`Centroids`.

    See Also
    --------
    DomainAdaptedRegressor : For regression targets.
    sktransfer.FineTunedClassifier : Where target samples have labels.
    register_method : Makes a method available by name.

    Notes
    -----
    Masked labels are -1, as in skada, None and NaN. However, -1 is a class if another
    label is None or NaN, if there are labels below -1, or if there are fewer than two
    other classes. Among strings, -1 is always a mask, and so is a row of -1 in
    multilabel y.

    The column ``objective`` of ``history_`` holds what the method minimised.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.adaptation import DomainAdaptedClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> X[60:] = 16 - X[60:]  # black on white
    >>> domain = np.repeat([1, -2], [60, len(X) - 60])
    >>> network = FineTunedClassifier(
    ...     freeze="all", image_shape=(8, 8), value_range=(0, 16), image_size=64
    ... )
    >>> model = DomainAdaptedClassifier(network)
    >>> model = model.fit(X[:120], y[:120], sample_domain=domain[:120])
    >>> model.predict(X[120:]).shape
    (240,)
    """

    _default = FineTunedClassifier
    _find_masked = staticmethod(masked_classes)
    score = DomainAdaptedEstimator.score  # not that of the mixin
    __metadata_request__predict_proba = ROUTED
    __metadata_request__predict_log_proba = ROUTED
    __metadata_request__decision_function = ROUTED

    def __init__(
        self,
        estimator: FineTunedClassifier | None = None,
        method: str | AdaptationMethod | Callable = "centroids",
        *,
        style: str | None = "auto",
    ):
        self.estimator = estimator
        self.method = method
        self.style = style

    def _domains_differ(self, estimator, domains):
        """Whether the features of the pretrained network differ between the domains."""
        if domains.X_target is None or np.ndim(domains.y) != 1:
            return False
        settings = estimator.get_params(deep=False)
        names = {*PretrainedFeatureExtractor().get_params(deep=False)} - {"pooling"}
        extractor = PretrainedFeatureExtractor(
            **{name: settings[name] for name in names & {*settings}}
        ).fit(domains.X)
        source, target = map(extractor.transform, (domains.X, domains.X_target))
        return class_gap(source, domains.y, domains.sample_weight, target) >= MIN_GAP

    @property
    def adaptation_(self) -> dict | None:
        """What the method found and decided; None if it reports nothing.

        :class:`Centroids` reports whether it adapts, the gap between the domains and
        the shares of the classes in the target.
        """
        return (getattr(self.estimator_, "adaptation_state_", None) or {}).get("found")

    @property
    def classes_(self) -> np.ndarray:
        """The labels of the source; for multilabel y, its columns."""
        return self.estimator_.classes_

    @available_if(inner_has("predict_proba"))
    def predict_proba(
        self, X: types.Samples, *, sample_domain: Any = None, allow_source: bool = False
    ) -> NDArray[np.float64]:
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Ignored, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one; in the multilabel case, each label has its own probability.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(inner_has("predict_log_proba"))
    def predict_log_proba(
        self, X: types.Samples, *, sample_domain: Any = None, allow_source: bool = False
    ) -> NDArray[np.float64]:
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Ignored, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
        """
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(X)

    @available_if(inner_has("decision_function"))
    def decision_function(
        self, X: types.Samples, *, sample_domain: Any = None, allow_source: bool = False
    ) -> NDArray[np.float64]:
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Ignored, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            Logits; for two classes, the logit of the second minus that of the first.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)
