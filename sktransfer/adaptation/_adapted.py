"""Base of the meta-estimators that adapt a network to a target domain."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from sktransfer._base import backbone_of
from sktransfer.adaptation._domains import drop_masked, name_rows, split_domains
from sktransfer.adaptation._methods import resolve_method, source_free_methods
from sktransfer.adaptation._random_style import RandomStyle
from sktransfer.adaptation._style import TargetStyle
from sktransfer.adaptation._style_statistics import IMAGES
from sktransfer.backbones import modality_for
from sktransfer.inputs import MODALITIES, as_samples, labels_of
from sktransfer.model import ExportedModule
from sktransfer.training import AdaptationMethod, Augmentation, sort_by_content
from sktransfer.utils import HasMethods, StrOptions, check_is_fitted, types

ROUTED = {"sample_domain": True, "allow_source": True}  # as in skada's estimators
_N_VIEWS = 4  # of each source image, in other styles


def inner_has(name):
    """Return a check for `available_if`: the inner estimator must have the method."""

    def check(self):
        fitted = vars(self).get("estimator_")
        getattr(self._inner_estimator() if fitted is None else fitted, name)
        return True

    return check


def _of_inner(name, doc):
    """Return a property that reads an attribute of the fitted inner estimator."""
    return property(lambda self: getattr(self.estimator_, name), doc=doc)


class DomainAdaptedEstimator(TransformerMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of the meta-estimators that adapt a network to a target domain.

    A subclass defines `_default`, which makes the default estimator, `_find_masked`,
    which finds masked labels, and `_check_method`.
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict", "adapt"]), None],
        "method": [str, AdaptationMethod, callable],
        "style": [StrOptions({"auto", "random", "target"}), None],
    }
    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__predict = ROUTED
    __metadata_request__score = ROUTED

    n_features_in_ = _of_inner("n_features_in_", "Number of columns, if X is a table.")
    feature_names_in_ = _of_inner("feature_names_in_", "Names of the columns of X.")
    model_ = _of_inner("model_", "The fitted model.")
    module_ = _of_inner("module_", "Torch module from model inputs to scores.")
    history_ = _of_inner("history_", "One row per epoch, see the inner estimator.")
    model_card_ = _of_inner("model_card_", "Origin, license and training.")

    def _inner_estimator(self):
        return self._default() if self.estimator is None else self.estimator

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._inner_estimator())
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.transformer_tags = inner.transformer_tags
        tags.array_api_support = inner.array_api_support
        tags.non_deterministic = inner.non_deterministic
        return tags

    def fit(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        X_val: types.Samples | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit a clone of the estimator on the source, adapted to the target.

        Parameters
        ----------
        X : array-like of n_samples
            Samples of all domains: file paths, images, encoded bytes, arrays, flat
            rows, a one-column DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Classes or regression targets. Values of target samples are not used. May be
            omitted if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples have the same weight. Weights of target samples are
            not used.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain per sample: a positive number for source domains and a negative one
            for target domains, of which there may be several each. By default the
            samples with a masked label are the target.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Labelled samples for the validation loss in ``history_``, and for early
            stopping instead of a part of the source.

        Returns
        -------
        self : DomainAdaptedClassifier or DomainAdaptedRegressor

        Raises
        ------
        ValueError
            If there is no source, or no target although the method needs one, if the
            method has nothing to adapt, or if the inner estimator raises the error.
        """
        self._validate_params()
        method = resolve_method(self.method)
        self._check_method(method)
        y = labels_of(X) if y is None else y
        domains = split_domains(X, y, sample_weight, sample_domain, self._find_masked)
        self._check_validation(X_val, y_val, domains.y)
        estimator = clone(self._inner_estimator())
        style = self._fit_style(estimator, method, X, domains)
        if style is not None:
            augmentation = Augmentation.of(estimator.augment)
            n_views = augmentation.n_views or _N_VIEWS
            augmentation = augmentation.set_params(views=style, n_views=n_views)
            estimator.set_params(augment=augmentation)
        estimator.fit(
            domains.X,
            domains.y,
            domains.sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            X_target=domains.X_target,
            adaptation=method,
        )
        self.estimator_, self.style_ = estimator, style
        return self

    def adapt(self, X: types.Samples) -> Self:
        """Adapt the fitted network to a target domain, without the source.

        This is for methods that do not need the source: ``"centroids"`` and
        ``"adabn"``, which start from the source each time, and ``"shot"``, which
        continues from the current weights.

        Parameters
        ----------
        X : array-like of n_samples
            Samples of the target domain, as in :meth:`fit`.

        Returns
        -------
        self : DomainAdaptedClassifier or DomainAdaptedRegressor

        Raises
        ------
        ValueError
            If the method needs the source, or something that `fit` did not provide:
            trained stages, or classes that exclude each other.
        """
        check_is_fitted(self)
        self._validate_params()
        method = resolve_method(self.method)
        if method.needs_source or method.name == "none":
            raise ValueError(
                "`adapt` needs a `method` that does without the source: one of "
                f"{source_free_methods()}. Got {method.name!r}; `fit` adapts with "
                "samples of both domains."
            )
        self._check_method(method)
        self.estimator_.adapt(X, method)
        return self

    def _check_method(self, method):
        """Raise an error if the task cannot use a method; by default it can use all."""

    def _domains_differ(self, estimator, domains):
        """Whether styles may help, as far as it can be told; a hook."""
        return False

    def _check_validation(self, X_val, y_val, y):
        """Raise an error if a label of a validation sample is masked."""
        y_val = labels_of(X_val) if y_val is None else y_val
        if y_val is None:
            return
        rows = self._find_masked(y_val, y).nonzero()[0]
        if len(rows):
            raise ValueError(
                "`y_val` must hold a label for each sample. Got a masked one, or NaN, "
                f"for {name_rows(rows)}: leave them out; `X` takes target samples."
            )

    def _fit_style(self, estimator, method, X, domains):
        """Return the transform that source images are changed by, or None."""
        if self.style is None or (self.style == "auto" and method.name == "none"):
            return None
        given, is_image = Augmentation.of(estimator.augment), _is_image(estimator, X)
        is_free = given.views in (None, "auto")
        if self.style == "auto":
            is_wanted = is_image and is_free and given.tta is None
            differs = is_wanted and self._domains_differ(estimator, domains)
            return RandomStyle() if differs else None
        has_target = domains.X_target is not None or self.style != "target"
        for is_met, need in (
            (is_image, "samples that are images"),
            (has_target, "target samples in `fit`"),
            (is_free, "an `estimator` whose `augment` draws no views"),
            (given.tta is None, "an `estimator` without `tta`"),
        ):
            if not is_met:
                raise ValueError(
                    f"`style={self.style!r}` changes the style of source images, which "
                    f"needs {need}. Set `style=None` otherwise."
                )
        if self.style == "random":
            return RandomStyle()
        return _target_style(estimator, X, domains)

    # Methods of the inner estimator

    def predict(
        self, X: types.Samples, *, sample_domain: Any = None, allow_source: bool = False
    ) -> np.ndarray:
        """Predict for samples of the target domain.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Ignored, as one network serves all domains. skada's scorers pass them.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def score(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_domain: Any = None,
        allow_source: bool = False,
    ) -> float:
        """Compute the accuracy, or for regression the coefficient of determination.

        Samples whose label is masked are left out, for example the target samples in
        the folds of a search.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`; y holds the true values of the target.
        sample_domain, allow_source : object
            Ignored, as in :meth:`predict`.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If the labels of all samples are masked.
        """
        check_is_fitted(self)
        y = labels_of(X) if y is None else y
        if y is not None:
            is_masked = self._find_masked(y, getattr(self, "classes_", None))
            X, y, sample_weight = drop_masked(X, y, sample_weight, is_masked)
        return self.estimator_.score(X, y, sample_weight)

    def transform(self, X: types.Samples) -> NDArray[np.float32]:
        """Compute the features that the head sees.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
        """
        check_is_fitted(self)
        return self.estimator_.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features; see the inner estimator."""
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out(input_features)

    @available_if(inner_has("to_torch"))
    def to_torch(self, *args: Any, **kwargs: Any) -> ExportedModule:
        """Return the model as a torch module; see the inner estimator."""
        check_is_fitted(self)
        return self.estimator_.to_torch(*args, **kwargs)

    @available_if(inner_has("to_onnx"))
    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:
        """Write the model to an ONNX file; see the inner estimator."""
        check_is_fitted(self)
        return self.estimator_.to_onnx(*args, **kwargs)


def _target_style(estimator, X, domains):
    """Return a style that is fitted to the images of both domains."""
    image_shape, value_range = estimator.image_shape, estimator.value_range
    samples = as_samples(X, IMAGES, image_shape=image_shape, value_range=value_range)
    both = domains.source, domains.target
    source, target = (sort_by_content(samples.take(rows)) for rows in both)
    return TargetStyle().fit(target, X_source=source)


def _is_image(estimator, X):
    """Whether the estimator reads the samples as images."""
    names = ("image_size", "image_shape", "value_range")
    options = {name: getattr(estimator, name) for name in names}
    modality = modality_for(X, backbone_of(estimator.backbone), options)
    return modality is MODALITIES["image"]
