"""Meta-estimator that adapts a regressor to a target domain."""

from collections.abc import Callable

from sklearn.base import RegressorMixin

from sktransfer._regressor import FineTunedRegressor
from sktransfer.adaptation._adapted import DomainAdaptedEstimator
from sktransfer.adaptation._domains import masked_targets
from sktransfer.training import ADAPTATION_METHODS, AdaptationMethod


class DomainAdaptedRegressor(RegressorMixin, DomainAdaptedEstimator):
    """Regressor for a target domain, trained on the targets of a source domain alone.

    This is a meta-estimator: :class:`~sktransfer.FineTunedRegressor` gets the samples
    of both domains in one `fit`. Frozen stages are computed once for both.

    Parameters
    ----------
    estimator : FineTunedRegressor, default=None
        Estimator of which a clone is fitted; by default ``FineTunedRegressor()``. Its
        parameters are searchable as ``estimator__freeze`` and so on.
    method : str, AdaptationMethod or callable, default="mmd"
        As in :class:`DomainAdaptedClassifier`: "none", "adabn", "coral", "mmd" or
        "dann". All but "none" need trained stages.
    style : {"auto", "random", "target"} or None, default="auto"
        As in :class:`DomainAdaptedClassifier`; "auto" is None.

    Attributes
    ----------
    estimator_ : FineTunedRegressor
        The fitted inner estimator. Its ``model_``, ``module_``, ``history_`` and
        ``model_card_`` are also attributes of this estimator.
    style_ : RandomStyle, TargetStyle or None
        What the style of source images was changed by.

    See Also
    --------
    DomainAdaptedClassifier : For classes.
    sktransfer.FineTunedRegressor : If target samples have labels.

    Notes
    -----
    Masked regression targets are NaN. With several outputs, a row is masked if all of
    it is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedRegressor
    >>> from sktransfer.adaptation import DomainAdaptedRegressor
    >>> X, y = load_digits().images[:60] / 16, np.arange(60.0)
    >>> domain = np.repeat([1, -2], 30)  # the targets of the second are not used
    >>> network = FineTunedRegressor(freeze="all", image_size=32)
    >>> model = DomainAdaptedRegressor(network, method="none")
    >>> model.fit(X, y, sample_domain=domain).predict(X[30:]).shape
    (30,)
    """

    _default = FineTunedRegressor
    _find_masked = staticmethod(lambda y, y_source=None: masked_targets(y))

    score = DomainAdaptedEstimator.score  # not that of the mixin

    def __init__(
        self,
        estimator: FineTunedRegressor | None = None,
        method: str | AdaptationMethod | Callable = "mmd",
        *,
        style: str | None = "auto",
    ):
        self.estimator = estimator
        self.method = method
        self.style = style

    def _check_method(self, method):
        if _is_for_classes(method):
            all_methods = ADAPTATION_METHODS.items()
            suited = [name for name, other in all_methods if not _is_for_classes(other)]
            raise ValueError(
                f"`method={method.name!r}` is for classes. A regressor can take one of "
                f"{suited}."
            )


def _is_for_classes(method):
    return method.needs_classes or method.needs_labels
