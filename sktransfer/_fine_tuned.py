"""The base of the estimators that train the last stages of a network and a head."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import ClassVar

import pandas as pd
from torch import nn

from sktransfer._adapting import Adaptation
from sktransfer._base import (
    BackboneEstimator,
    as_array,
    undone_on_error,
    unwrapped,
)
from sktransfer._boundary import (
    Boundary,
    choose_boundary,
    cut,
    later_seed,
    mean_scores,
)
from sktransfer._diagnosis import MANY, check_depth
from sktransfer._record import (
    check_unchanged,
    describe_network,
    describe_trained,
    epochs_table,
)
from sktransfer._training import Trainer
from sktransfer._values import Before, Labelled, Request, Validation, in_order
from sktransfer.activations import Pool, open_store
from sktransfer.compute import own_torch_state
from sktransfer.inputs import PRESETS
from sktransfer.training import (
    AdaptationMethod,
    Augmentation,
    EarlyStopping,
    Pooling,
    ResolvedRecipe,
    TrainingRecipe,
    hold_out,
    restore_net,
)
from sktransfer.utils import (
    Interval,
    ParameterGroup,
    StrOptions,
    check_consistent_length,
    check_is_fitted,
    spawn_seed,
)

__all__ = ["FineTunedEstimator"]

# Parameters that a network is built by, and keeps when its training goes on.
_SHAPE = ("weights", "image_size", "value_range", "freeze", "pooling", "head")
# Parameters that change no result, or that other settings of a checkpoint cover.
_NOT_OF_RESULT = {"backbone", "checkpoint", "device", "memory", "verbose", "weights"}
_GROUPS: dict[str, type[ParameterGroup]] = {
    "pooling": Pooling,
    "training": TrainingRecipe,
    "early_stopping": EarlyStopping,
    "augment": Augmentation,
}


class FineTunedEstimator(BackboneEstimator):
    """Base of the estimators that train a suffix and a head.

    A subclass says what it predicts (`_learn_outputs`), names the loss (`_loss`), and
    poses the linear head as a convex problem (`_probe`).
    """

    _parameter_constraints: ClassVar[dict] = {
        **BackboneEstimator._parameter_constraints,
        "freeze": [Integral, Interval(Real, 0, 1, closed="neither"), str],
        "head": [str, nn.Module],
        "pooling": [
            StrOptions({"auto", "avg", "max", "avgmax", "cls", "flatten"}),
            Pooling,
        ],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "augment": [StrOptions({*PRESETS}), callable, Augmentation, None],
        "early_stopping": ["boolean", EarlyStopping],
        "training": [TrainingRecipe, None],
        "checkpoint": [str, Path, None],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
    }
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = _GROUPS
    _derived: ClassVar[tuple] = (*BackboneEstimator._derived, "module_", "net_")

    @undone_on_error
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
        X_target=None,
        adaptation: AdaptationMethod | None = None,
    ):
        """Train the stages above the boundary and a head.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            What to predict. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Samples for the validation loss in ``history_``, and for early stopping
            instead of a share of X.
        X_target : array-like of n_samples, default=None
            Samples of a target domain, without labels. This and `adaptation` are the
            interface for meta-estimators such as
            :class:`~sktransfer.adaptation.DomainAdaptedClassifier`.
        adaptation : AdaptationMethod, default=None
            How to adapt to the target domain.

        Returns
        -------
        self : FineTunedClassifier or FineTunedRegressor

        Raises
        ------
        ValueError
            If there is no such stage, X or y cannot be read, or the training diverges.
        """
        self._validate_params()
        validation = Validation(X_val, y_val, sample_weight_val).check()
        goes_on = self.warm_start and self._can_go_on(adaptation)
        if goes_on:
            self._check_unchanged("with `warm_start=True`", "set `warm_start=False`")
        request = Request(goes_on, False, None, validation, X_target, adaptation)
        return self._learn(X, y, sample_weight, request)

    @undone_on_error
    def adapt(self, X_target, adaptation: AdaptationMethod):
        """Adapt the fitted network to a target domain, without the source.

        This is the interface for meta-estimators such as
        :class:`~sktransfer.adaptation.DomainAdaptedClassifier`.

        Parameters
        ----------
        X_target : array-like of n_samples
            Samples of the target domain, as X in :meth:`fit`.
        adaptation : AdaptationMethod
            One that does not need the source. Its `after_training` is called with the
            state that it returned in `fit`.

        Returns
        -------
        self : FineTunedClassifier or FineTunedRegressor
        """
        check_is_fitted(self)
        self._validate_params()
        self._check_unchanged("in `adapt`", "`fit` again")
        recipe, seed = self._recipe(adaptation), spawn_seed(self.random_state)
        boundary, network = self._resume(recipe, seed)
        if adaptation.needs_stages and not boundary.has_stages:
            raise ValueError(
                f"`adapt` with `method={adaptation.name!r}` changes the stages that "
                f"were trained. Got `freeze={self.freeze!r}`, which left none in "
                "`fit`: fit again with this `method`, or freeze fewer."
            )
        target = in_order(self._read(X_target, self.model_))
        trainer = self._trainer(boundary, self.model_.outputs, adaptation, target)
        state = getattr(self, "adaptation_state_", None)
        trained = trainer.adapt(network, self.net_, state)
        return self._set_fitted(self.model_, trainer, trained, 0)

    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train for one epoch, and settle the network in the first call."""
        goes_on = hasattr(self, "model_")
        if goes_on:
            self._check_unchanged("in `partial_fit`", "use `sklearn.base.clone`")
        request = Request(goes_on, is_part=True, classes=classes)
        return self._learn(X, y, sample_weight, request)

    def _learn(self, X, y, sample_weight, request):
        """Train, anew or on from what is fitted: all that is trained is trained here.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        request : Request
        """
        seed = spawn_seed(self.random_state)
        loaded, samples, y = self._read_Xy(X, y, seed, request)
        outputs = self._outputs(loaded, y, request)
        data = Labelled.of(samples, y, sample_weight, outputs, self._weigh)
        boundary, part = self._cut(loaded, len(data.y), seed, request)
        target = self._read_target(loaded, request.X_target)
        trainer = self._trainer(boundary, outputs, request.method, target)
        data, held = self._hold_out(loaded, data, trainer, seed, request)
        if request.goes_on:
            before = self._before()
            trained = trainer.go_on(part, data, held, before, is_part=request.is_part)
        else:
            trainer = trainer.fitted_to(data, more_to_come=request.is_part)
            if outputs.kind == "multiclass" and len(data.y) >= MANY:
                check_depth(boundary, data, self.freeze)
            trained = trainer.fit(part, data, held, is_part=request.is_part)
        return self._set_fitted(loaded, trainer, trained, len(data.y))

    # Samples and targets

    def _read_Xy(self, X, y, seed, request):
        """Validate and read (LoadedBackbone, Samples, and y or the labels of X)."""
        if request.goes_on:
            loaded, samples = self.model_, self._read(X, self.model_)
            y = as_array(y)
        else:
            X, y = self._modality(X).validate_with_y(self, X, y)
            loaded, samples = self._load(X, seed)
        y = samples.labels if y is None else y
        if y is None:
            raise ValueError(
                f"`y` is needed to fit: {type(self).__name__} requires y to be passed, "
                "but the target y is None, and X is no Dataset with labels."
            )
        check_consistent_length(samples, y)
        return loaded, samples, y

    def _outputs(self, loaded, y, request):
        """Return what is predicted, which a training that goes on does not change."""
        if request.goes_on:
            return loaded.outputs
        return self._learn_outputs(y, request.classes)

    def _weigh(self, y, sample_weight, outputs):
        """Return the weights of samples, by their targets."""
        return sample_weight

    def _read_target(self, loaded, X_target):
        """Read samples of the target domain; None without any."""
        return None if X_target is None else in_order(self._read(X_target, loaded))

    def _hold_out(self, loaded, data, trainer, seed, request):
        """Return the samples to train on, and those to validate on or None."""
        if request.validation is not None:
            return data, self._read_validation(loaded, trainer, *request.validation)
        recipe = trainer.recipe
        if not recipe.early_stopping or trainer.is_solved:  # which stops nowhere
            return data, None
        strata = trainer.outputs.strata(data.y)
        return data.split(hold_out(strata, recipe.validation_fraction, seed))

    def _read_validation(self, loaded, trainer, X, y, sample_weight):
        """Read validation samples (Labelled)."""
        samples = self._read(X, loaded)
        y = samples.labels if y is None else as_array(y)
        if y is None:
            raise ValueError(
                "`y_val` is needed with `X_val`, which is no Dataset with labels."
            )
        check_consistent_length(samples, y)
        return Labelled.of(samples, y, sample_weight, trainer.outputs, self._weigh)

    # The training

    def _recipe(self, method=None):
        schedule = "cosine" if method is None else method.lr_schedule
        return ResolvedRecipe.from_params(self.get_params(deep=False), schedule)

    def _cut(self, loaded, n_samples, seed, request):
        """Return the boundary, and the stages or the network above it."""
        recipe = self._recipe(request.method)
        if request.is_part:  # which holds nothing out
            recipe = replace(recipe, early_stopping=False)
        if request.goes_on:
            return self._resume(recipe, seed)
        names = loaded.backbone, self.freeze, n_samples, recipe, request.method
        return cut(
            loaded.backbone,
            choose_boundary(*names),
            recipe,
            runtime=self._runtime(loaded),
            store=open_store(self.memory),
            seed=seed,
        )

    def _resume(self, recipe, seed):
        """Return the boundary of the fitted model, and its network."""
        model, store = self.model_, open_store(self.memory)
        ((name, tap),) = model.taps.items()
        runtime, seed = self._runtime(model), later_seed(seed, len(self.history_))
        at = Boundary(model.backbone, name, tap, recipe, runtime, store, seed)
        return at, model.network

    def _trainer(self, boundary, outputs, method, target):
        """Put together what trains (Trainer)."""
        callbacks, adaptation = tuple(self.callbacks or ()), None
        if method is not None:
            adaptation = Adaptation(method, target, boundary, outputs, callbacks)
            adaptation.check()
        return Trainer(
            boundary=boundary,
            outputs=outputs,
            loss=self._loss(),
            probe=self._probe(outputs),
            adaptation=adaptation,
            callbacks=callbacks,
            checkpoint=self.checkpoint,
            settings={"estimator": type(self), **self._settings()},
        )

    def _settings(self):
        """Return the parameters that a result depends on, but for groups (dict)."""
        params = self.get_params(deep=False)
        names = params.keys() - _NOT_OF_RESULT - self._groups.keys()
        return {name: params[name] for name in names}

    def _before(self):
        n_samples = self.model_.card["trained"]["samples"]
        return Before(self._strength(), self._online, n_samples)

    def _can_go_on(self, method):
        """Whether there is a network to train on; a solved head is solved anew."""
        if not hasattr(self, "model_"):
            return False
        has_stages = not isinstance(self.model_.taps[self.boundary_], Pool)
        is_plain = method is None or not method.needs_source
        is_solved = is_plain and self._probe(self.model_.outputs).is_final
        return has_stages or not is_solved

    # What was fitted

    def _set_fitted(self, loaded, trainer, trained, n_samples):
        """Set all fitted attributes; those of a training that went on are updated."""
        at, rows, goes_on = trainer.boundary, trained.rows, hasattr(loaded, "network")
        depth = at.backbone.n_stages_before(at.name)
        if goes_on:
            rows = [*self.history_.to_dict("records"), *rows]
        else:
            self.boundary_, self.freeze_depth_ = at.name, depth
            self.n_trainable_parameters_ = trained.n_trainable
            self._built_by = self._describe_network()
            self._set_outputs(trainer.outputs, trained.strength)
        self.history_, self._online = epochs_table(rows), trained.online
        self.pass_report_ = pd.DataFrame(trained.report)
        self._set_or_delete(
            feature_drift_=trained.drift, adaptation_state_=trained.state
        )
        card = describe_trained(
            loaded.card,
            trainer,
            estimator=type(self).__name__,
            depth=depth,
            n_samples=n_samples,
            n_epochs=len(rows),
        )
        self.model_ = at.model(loaded, trainer.outputs, trained.network, card)
        self._derive()
        self.net_ = trained.net
        return self

    def _set_or_delete(self, **attributes):
        """Set attributes, and delete those that are None."""
        for name, value in attributes.items():
            vars(self).pop(name, None)
            if value is not None:
                setattr(self, name, value)

    def _derive(self):
        super()._derive()
        module = getattr(self, "module_", None)
        if module is None or module.network is not self.model_.network:
            module = self.model_.module()
        self.module_ = module.to(self._runtime(self.model_).device).eval()

    def _describe_network(self):
        """Describe the parameters that shape the network (dict)."""
        shape = {name: getattr(self, name) for name in _SHAPE}
        shape["pooling"] = Pooling.of(self.pooling).in_short()
        return describe_network({"backbone": unwrapped(self.backbone), **shape})

    def _check_unchanged(self, where, restart):
        """Refuse to go on with another network than the one that is asked for."""
        check_unchanged(self._built_by, self._describe_network(), where, restart)

    def _caption(self):
        return f"{self.freeze_depth_} of {len(self.backbone_.stages)} stages frozen" + (
            f" (up to {self.boundary_})" if self.boundary_ != "input" else ""
        )

    # Predictions

    @own_torch_state()
    def _scores(self, X):
        """Compute the scores of the head (n_samples, n_outputs), float64."""
        check_is_fitted(self)
        runtime, store = self._runtime(self.model_), open_store(self.memory)
        samples, augment = self._read(X, self.model_), Augmentation.of(self.augment)
        return mean_scores(self.model_, samples, augment, runtime=runtime, store=store)

    def _labels(self, X, y):
        """Return what predictions are compared with: y, or the labels of X."""
        check_is_fitted(self)
        y = self._read(X, self.model_).labels if y is None else y
        if y is None:
            raise ValueError("`y` is needed to score, as X is no Dataset with labels.")
        return y

    # Persistence

    def _whole(self):
        state = super()._whole()
        if self.__sklearn_is_fitted__():
            # The net's own pickle would hold a second copy of the backbone.
            state["net_"] = self.net_.history.to_list()
        return state

    def _slim(self):
        state = super()._slim()
        rows = [{k: v for k, v in r.items() if k != "batches"} for r in state["net_"]]
        return state | {"net_": rows}

    def _restore(self, state):
        rows = state.pop("net_", None)
        super()._restore(state)
        if rows is not None:
            nonlinearity = self.model_.outputs.nonlinearity()
            self.net_ = restore_net(self.model_.network, rows, nonlinearity)
