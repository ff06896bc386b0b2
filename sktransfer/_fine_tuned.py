"""The base of the estimators that train the last stages of a network and a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import is_regressor
from torch import nn

from sktransfer._base import BackboneEstimator, backbone_of, restore_on_error
from sktransfer.activations import POOLINGS, Pool, open_store
from sktransfer.backbones import use_of_backbones
from sktransfer.compute import in_all_ranks, shared_seed
from sktransfer.fitting import (
    ENOUGH_FOR_DEPTH,
    EPOCHS,
    Adaptation,
    EarlierTraining,
    FitOptions,
    SplitBackbone,
    Trainer,
    check_depth,
    check_unchanged,
    check_validation,
    choose_boundary,
    describe_network,
    divide,
    later_seed,
    settle,
    split_backbone,
)
from sktransfer.training import (
    AdaptationMethod,
    Augmentation,
    EarlyStopping,
    FitSamples,
    LabelledSamples,
    Pooling,
    ResolvedRecipe,
    TrainingRecipe,
    restore_net,
    sort_by_content,
    targets_of,
)
from sktransfer.utils import Interval, StrOptions, check_is_fitted, types

# Parameters that determine the network, and must not change between trainings of it.
_OF_NETWORK = ("weights", "image_size", "value_range", "freeze", "pooling", "head")


class FineTunedEstimator(BackboneEstimator, ABC):
    """Base of the estimators that train a suffix and a head.

    A subclass defines the abstract methods and the name in `_strength`.
    """

    _parameter_constraints: ClassVar[dict] = {
        **BackboneEstimator._parameter_constraints,
        "freeze": [Integral, Interval(Real, 0, 1, closed="neither"), str],
        "head": [str, nn.Module],
        "pooling": [StrOptions({"auto", *POOLINGS}), Pooling],
        "max_epochs": EPOCHS,
        "lr": [Interval(Real, 0, None, closed="neither")],
        "augment": [str, callable, Augmentation, None],
        "early_stopping": ["boolean", EarlyStopping],
        "training": [TrainingRecipe, None],
        "checkpoint": [str, Path, None],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
    }
    _groups: ClassVar[dict] = {
        "pooling": Pooling,
        "training": TrainingRecipe,
        "early_stopping": EarlyStopping,
        "augment": Augmentation,
    }
    _derived: ClassVar[tuple] = (*BackboneEstimator._derived, "module_", "net_")

    _strength: ClassVar[str]  # name of the probe's fitted strength, "C_" or "alpha_"

    @abstractmethod
    def _learn_outputs(self, y, classes):
        """Return the meaning of the outputs (ClassOutputs or RegressionOutputs).

        ``classes`` are all labels of this and later calls, or None.
        """

    @abstractmethod
    def _weigh(self, y, sample_weight, outputs):
        """Return the weights of samples in the loss (n_samples,)."""

    def _weigh_labels(self, data, outputs):
        """Return the weights of zeros and ones (2, n_outputs) if there are any."""
        return None

    @abstractmethod
    def _loss(self, label_weight):
        """Return a function from scores and targets to the loss of each sample."""

    @abstractmethod
    def _probe(self, outputs, label_weight):
        """Return the convex problem of a linear head (Probe)."""

    @restore_on_error
    @in_all_ranks
    def fit(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: types.Samples | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        X_target: types.Samples | None = None,
        adaptation: AdaptationMethod | None = None,
    ) -> Self:
        """Train the stages above the boundary and a head.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or regression targets. By default those of X, if it is a Dataset with
            labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Validation samples, whose loss is a column of ``history_``. Early stopping
            uses them instead of a share of X.
        X_target : array-like of n_samples, default=None
            Samples of a target domain, without labels. This and `adaptation` are the
            interface for meta-estimators such as
            :class:`~sktransfer.adaptation.DomainAdaptedClassifier`.
        adaptation : AdaptationMethod, default=None
            Method that adapts to the target domain. By default none.

        Returns
        -------
        self : FineTunedClassifier or FineTunedRegressor

        Raises
        ------
        ValueError
            If a parameter is invalid, `freeze` names no stage, X or y cannot be read,
            or the training diverges.

        Warns
        -----
        TransferWarning
            If the network overfits, loses the pretrained features or ends below the
            probe, too many stages are frozen, or parameters have no effect.
        """
        self._validate_params()
        validation = check_validation(X_val, y_val, sample_weight_val)
        options = FitOptions(validation, X_target, adaptation)
        if not self.warm_start or not self._can_continue(adaptation):
            return self._fit(X, y, sample_weight, options)
        self._check_unchanged("with `warm_start=True`", "set `warm_start=False`")
        return self._fit_further(X, y, sample_weight, options)

    @restore_on_error
    @in_all_ranks
    def adapt(self, X_target: types.Samples, adaptation: AdaptationMethod) -> Self:
        """Adapt the fitted network to a target domain, without the source.

        This is the interface for meta-estimators such as
        :class:`~sktransfer.adaptation.DomainAdaptedClassifier`.

        Parameters
        ----------
        X_target : array-like of n_samples
            Samples of the target domain, as X in :meth:`fit`.
        adaptation : AdaptationMethod
            Method that needs no source. It gets the state that it returned in `fit`.

        Returns
        -------
        self : FineTunedClassifier or FineTunedRegressor

        Raises
        ------
        ValueError
            If parameters that determine the network have changed since `fit`, or if the
            method changes trained stages and there are none.
        """
        check_is_fitted(self)
        self._validate_params()
        self._check_unchanged("in `adapt`", "`fit` again")
        options = FitOptions(X_target=X_target, method=adaptation)
        n_samples = len(self._read(X_target, self.model_))
        seed = shared_seed(self.random_state, self.device)
        split = self._fitted_split(options, seed, n_samples)
        if adaptation.needs_stages and not split.has_stages:
            raise ValueError(
                f"`adapt` with `method={adaptation.name!r}` changes the stages that "
                f"were trained. Got `freeze={self.freeze!r}`, which left none in "
                "`fit`: fit again with this `method`, or freeze fewer."
            )
        trainer = self._trainer(self.model_, split, self.model_.outputs, options)
        state = vars(self).get("adaptation_state_")
        trained = trainer.adapt(self.model_.network, self.net_, state)
        return self._set_fitted_further(trainer, trained, n_samples=0)

    @in_all_ranks
    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train for one epoch, in the first call after building the network."""
        options = FitOptions(classes=classes, is_partial=True)
        if not hasattr(self, "model_"):
            return self._fit(X, y, sample_weight, options)
        self._check_unchanged("in `partial_fit`", "use `sklearn.base.clone`")
        return self._fit_further(X, y, sample_weight, options)

    def _fit(self, X, y, sample_weight, options):
        """Load the backbone, train, and set the fitted attributes."""
        seed = shared_seed(self.random_state, self.device)
        X, y = self._modality(X).validate_with_y(self, X, y)
        loaded, samples = self._load(X, seed)
        recipe = self._recipe(options, loaded.preprocessing, len(samples))
        y = targets_of(samples, y)
        outputs = self._learn_outputs(y, options.classes)
        data = LabelledSamples.of(samples, y, sample_weight, outputs, self._weigh)
        where = self._runtime(loaded), open_store(self.memory)
        kind = "" if options.is_partial else outputs.kind
        asked = self.freeze, data, kind, recipe, options.method
        boundary, reason = choose_boundary(loaded.backbone, *asked, *where)
        place = boundary, recipe, data.samples, *where, seed
        split, suffix = split_backbone(loaded.backbone, *place)
        trainer = self._trainer(loaded, split, outputs, options, data).fitted_to(data)
        if outputs.kind == "multiclass" and len(data.y) >= ENOUGH_FOR_DEPTH:
            check_depth(split, data, self.freeze)
        parts = self._divide(loaded, data, trainer, seed, options)
        trained = trainer.fit(suffix, parts)
        return self._set_fitted_first(loaded, trainer, trained, len(data.y), reason)

    def _fit_further(self, X, y, sample_weight, options):
        """Train the network of the fitted model further, with the same outputs."""
        seed, model = shared_seed(self.random_state, self.device), self.model_
        samples = self._read(X, model)
        y = targets_of(samples, y)
        data = LabelledSamples.of(samples, y, sample_weight, model.outputs, self._weigh)
        split = self._fitted_split(options, seed, len(samples))
        trainer = self._trainer(model, split, model.outputs, options, data)
        parts = self._divide(model, data, trainer, seed, options)
        n_before = model.card["trained"]["samples"]
        earlier = vars(self).get(self._strength), self._online, n_before
        trained = trainer.fit_further(model.network, parts, EarlierTraining(*earlier))
        return self._set_fitted_further(trainer, trained, len(data.y))

    def _recipe(self, options, preprocessing, n_samples):
        """Resolve the settings; `partial_fit` holds nothing out, and draws no views."""
        schedule = getattr(options.method, "lr_schedule", "cosine")
        recipe = ResolvedRecipe.from_params(self.get_params(deep=False), schedule)
        if recipe.views == "auto" and (options.is_partial or is_regressor(self)):
            recipe = replace(recipe, views=None)
        recipe = settle(recipe, preprocessing, n_samples)
        return replace(recipe, early_stopping=False) if options.is_partial else recipe

    def _fitted_split(self, options, seed, n_samples):
        """Return the split backbone of the fitted model (SplitBackbone)."""
        model, seed = self.model_, later_seed(seed, len(self.history_))
        ((boundary, tap),) = model.taps.items()
        recipe = self._recipe(options, model.preprocessing, n_samples)
        if recipe.backbone_lr_ratio == "auto":
            recipe = replace(recipe, backbone_lr_ratio=self.backbone_lr_ratio_)
        how = recipe, self._runtime(model), open_store(self.memory)
        return SplitBackbone(model.backbone, boundary, tap, *how, seed)

    def _trainer(self, loaded, split, outputs, options, data=None):
        """Return the trainer of a split backbone (Trainer)."""
        callbacks, adaptation, target = tuple(self.callbacks or ()), None, None
        if options.X_target is not None:
            target = sort_by_content(self._read(options.X_target, loaded))
        if options.method is not None:
            adaptation = Adaptation(options.method, target, split, outputs, callbacks)
            adaptation.check()
        label_weight = None if data is None else self._weigh_labels(data, outputs)
        return Trainer(
            split=split,
            outputs=outputs,
            loss=self._loss(label_weight),
            probe=self._probe(outputs, label_weight),
            is_partial=options.is_partial,
            adaptation=adaptation,
            callbacks=callbacks,
            checkpoint=self.checkpoint,
            settings={"estimator": type(self), **self.get_params(deep=False)},
        )

    def _divide(self, loaded, data, trainer, seed, options):
        """Return the samples to train and to validate on (FitSamples)."""
        if options.validation is None:
            return divide(trainer, data, seed)
        X, y, sample_weight = options.validation
        y = targets_of(samples := self._read(X, loaded), y, "y_val")
        given = samples, y, sample_weight, trainer.outputs, self._weigh
        return FitSamples(data, LabelledSamples.of(*given))

    def _can_continue(self, method):
        """Whether there is a network to train further; a solved head starts again."""
        if not hasattr(self, "model_"):
            return False
        is_plain = method is None or not method.needs_source
        is_solved = is_plain and self._probe(self.model_.outputs, None).is_final
        return not is_solved or not isinstance(self.model_.taps[self.boundary_], Pool)

    # Fitted attributes

    def _set_fitted_first(self, loaded, trainer, trained, n_samples, reason):
        """Set all fitted attributes, including those that later trainings keep."""
        self.boundary_, self.freeze_depth_ = trainer.split.boundary, trainer.split.depth
        self.n_trainable_parameters_ = trained.n_trainable
        self._built_by = self._describe_network()
        some = {self._strength: trained.strength, "freeze_reason_": reason}
        self._set_or_delete(classes_=trainer.outputs.classes, **some)
        return self._set_fitted(loaded, trainer, trained, trained.rows, n_samples)

    def _set_fitted_further(self, trainer, trained, n_samples):
        """Update the fitted attributes after the network was trained further."""
        rows = [*self.history_.to_dict("records"), *trained.rows]
        return self._set_fitted(self.model_, trainer, trained, rows, n_samples)

    def _set_fitted(self, loaded, trainer, trained, rows, n_samples):
        """Set the fitted attributes that every training changes."""
        history = pd.DataFrame(rows).drop(columns="batches", errors="ignore")
        self.history_ = history.assign(epoch=range(1, len(rows) + 1))
        self.pass_report_ = pd.DataFrame(trained.report)
        self._online = trained.online
        self.backbone_lr_ratio_ = trainer.recipe.backbone_lr_ratio
        found = {"feature_drift_": trained.drift, "adaptation_state_": trained.state}
        self._set_or_delete(**found, **trainer.summary(self.history_))
        card = trainer.describe(loaded.card, type(self).__name__, n_samples, rows)
        parts = loaded, trainer.outputs, trained.network, card
        self.model_ = trainer.split.model(*parts)
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
        model, module = self.model_, getattr(self, "module_", None)
        if module is None or module.network is not model.network:
            module = model.module()
        self.module_ = module.to(self._runtime(model).device).eval()
        if (rows := vars(self).pop("_net_rows", None)) is not None:  # unpickled
            self.net_ = restore_net(model.network, rows, model.outputs.nonlinearity())

    def _describe_network(self):
        """Describe the parameters that determine the network (dict)."""
        values = {name: getattr(self, name) for name in _OF_NETWORK}
        values["pooling"] = Pooling.of(self.pooling).in_short()
        return describe_network({"backbone": backbone_of(self.backbone), **values})

    def _check_unchanged(self, where, restart):
        """Raise an error if the parameters now describe another network."""
        check_unchanged(self._built_by, self._describe_network(), where, restart)

    # Predictions

    @use_of_backbones()
    def _scores(self, X):
        """Compute the scores of the head (n_samples, n_outputs), float64."""
        check_is_fitted(self)
        return self.model_.mean_scores(
            self._read(X, self.model_),
            Augmentation.of(self.augment),
            runtime=self._runtime(self.model_),
            store=open_store(self.memory),
        )

    def _labels(self, X, y):
        """Return y or, by default, the labels of X."""
        check_is_fitted(self)
        return targets_of(self._read(X, self.model_), None) if y is None else y

    # Persistence

    def _whole(self):
        state = super()._whole()
        if self.__sklearn_is_fitted__():
            # The net's own pickle would hold a second copy of the backbone.
            state["_net_rows"] = self.net_.history.to_list()
        return state
