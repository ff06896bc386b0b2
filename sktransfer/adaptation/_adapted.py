"""What the estimators share that learn from a source for a target."""

import dataclasses
from numbers import Real

import numpy as np
import pandas as pd

from sktransfer._base import as_array, undone_on_error
from sktransfer.adaptation._batch_norm import (
    find_batch_norms,
)
from sktransfer.adaptation._domains import (
    find_masked_sources,
    find_targets,
    hide_targets,
)
from sktransfer.adaptation._methods import (
    ADVERSARIAL,
    JOINT,
    NEEDS_CLASSES,
    NEEDS_STAGES,
    SOURCE_FREE,
    make_function,
)
from sktransfer.adaptation._source_free import SourceFree, in_order
from sktransfer.adaptation._style import TargetStyle
from sktransfer.compute import seeded
from sktransfer.inputs import PRESETS
from sktransfer.training import (
    LR_SCHEDULES,
    Objective,
)
from sktransfer.utils import (
    Interval,
    StrOptions,
    check_consistent_length,
    check_sample_weight,
)

__all__ = ["DomainAdaptedEstimator"]

_N_VIEWS = 4  # of each source image, drawn by "auto"
_IN_FIT = (
    "_given_X",
    "_given_domain",
    "_target_rows",
    "_source_rows",
    "_of_target",
    "_has_merged",
    "_spans",
    "_function",
)


class DomainAdaptedEstimator(SourceFree):
    """Mixin of the estimators that adapt, before one that fine-tunes.

    A subclass says which labels are masked (`_find_masked`).
    """

    _own_constraints = {
        "adaptation_weight": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({*PRESETS, "target", "auto"}), callable, None],
        "lr_schedule": [StrOptions({*LR_SCHEDULES, "auto"}), callable],
    }
    # As skada's own estimators have it.
    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__predict = {"sample_domain": True, "allow_source": True}
    __metadata_request__score = {"sample_domain": True, "allow_source": True}

    @undone_on_error
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        sample_domain=None,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
    ):
        """Train the stages above the boundary and a head, and adapt them.

        Parameters
        ----------
        X : array-like of n_samples
            Of all domains: file paths, images, encoded bytes, arrays, flat rows, a
            one-column DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            What to predict. Those of target samples are never looked at. May be left
            out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same, as those of the target always do.
        sample_domain : array-like of shape (n_samples,), default=None
            A number for each sample, positive for source domains and negative for
            target domains, of which there may be several each. By default the target
            are the samples whose label is masked.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Samples with labels for the validation loss in ``history_``, and for early
            stopping instead of a share of the source.

        Returns
        -------
        self : DomainAdaptedClassifier or DomainAdaptedRegressor

        Raises
        ------
        ValueError
            If there is no source, or no target where the method needs one, the method
            has nothing to adapt, or as :class:`~sktransfer.FineTunedClassifier` does.
        """
        self._forget()
        self._given_X, self._given_domain = X, sample_domain
        val = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        try:
            if y is not None:
                y, sample_weight = self._hide(as_array(y), sample_weight)
            super().fit(X, y, sample_weight, **val)
            if self.method in SOURCE_FREE and len(self._target_rows):
                self._adapt(self._target_samples())
            self._tell_card(len(self._target_rows))
        finally:
            for name in _IN_FIT:
                vars(self).pop(name, None)
        return self

    def predict(self, X, *, sample_domain=None, allow_source=False):
        """Predict for target samples.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        sample_domain, allow_source : object
            Not looked at, as one network is for all domains. skada's scorers pass them.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return super().predict(X)

    def score(
        self, X, y=None, sample_weight=None, *, sample_domain=None, allow_source=False
    ):
        """Compute the accuracy, or of a regression the coefficient of determination.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            True ones. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.
        sample_domain, allow_source : object
            Not looked at, as in :meth:`predict`.

        Returns
        -------
        float
        """
        return super().score(X, y, sample_weight)

    def _tell_card(self, n_samples):
        """Write into the model card what was adapted, and to how many samples."""
        adapted = {"method": self.method, "target_samples": n_samples}
        trained = {**self._card["trained"], **adapted}
        self._card = {**self._card, "trained": trained}

    # Source and target

    def _hide(self, y, sample_weight):
        """Find the target; its labels are gone from here on, and it weighs nothing."""
        is_target = find_targets(y, self._given_domain, self._find_masked)
        self._target_rows = np.flatnonzero(is_target)
        if self._given_domain is not None:
            self._refuse_masked_sources(y, is_target)
        if not len(self._target_rows):
            return y, sample_weight
        check_consistent_length(self._given_X, y)
        weight = check_sample_weight(sample_weight, is_target, dtype=np.float64)
        self._source_rows = np.flatnonzero(~is_target & (weight > 0))
        return hide_targets(y, is_target), np.where(is_target, 0.0, weight)

    def _merge(self, samples, y, sample_weight, encode):
        labels = samples.labels if y is None else as_array(y)
        if "_given_X" not in vars(self) or "_has_merged" in vars(self):
            self._refuse_masked(labels, encode)
            return super()._merge(samples, y, sample_weight, encode)
        self._has_merged = True  # what comes after is for validation
        if "_target_rows" not in vars(self) and labels is not None:
            y, sample_weight = self._hide(labels, sample_weight)
        return super()._merge(samples, y, sample_weight, encode)

    def _refuse_masked_sources(self, y, is_target):
        """Refuse to learn a mask as if it were a label."""
        rows = find_masked_sources(y, is_target, self._find_masked)
        if len(rows):
            raise ValueError(
                "Samples with a positive `sample_domain` must have a label. Got a "
                f"masked one for {_list(rows)}: leave them out, or make their domain "
                "negative. If -1 is a class, mask the labels of the target by None."
            )

    def _refuse_masked(self, y, encode):
        """Refuse masks where there is no target: in `partial_fit` and `y_val`."""
        if y is None:
            return
        names = (
            "_given_classes",
            *(["classes_"] if encode == self._encode_again else []),
        )
        known = [getattr(self, name, None) for name in names]
        classes = next((c for c in known if c is not None), None)
        rows = np.flatnonzero(self._find_masked(y, classes))
        if len(rows):
            name = "`y_val`" if "_given_X" in vars(self) else "`y` of `partial_fit`"
            raise ValueError(
                f"{name} must hold a label for each sample. Got a masked one, or NaN, "
                f"for {_list(rows)}: leave them out; `fit` takes samples of the target."
            )

    def _target_samples(self):
        """Return the target samples, in an order that does not depend on that of X."""
        if "_of_target" not in vars(self):
            samples = self._samples(self._given_X).take(self._target_rows)
            self._of_target = in_order(samples)
        return self._of_target

    def _target_activations(self, samples, target):
        """Bring the target to the boundary, as it is and as it is trained on."""
        report = getattr(self, "pass_report_", None)
        activations = self._activations(samples, target)
        if target is self._target:
            self.pass_report_ = pd.concat([report, self.pass_report_], axis=0)
            self.pass_report_ = self.pass_report_.reset_index(drop=True)
        # What is there already needs no drawing towards it.
        has_look = self._draws_style() or isinstance(self.augment, TargetStyle)
        views = None if has_look else self._views(samples, target)
        return activations, activations if views is None else views

    def _chosen_views(self):
        if self.augment != "auto":
            return super()._chosen_views()
        if self.method not in JOINT or self.preprocessing_.kind != "image":
            return None, self.n_views
        return "target", _N_VIEWS if self.n_views is None else self.n_views

    def _draws_style(self):
        """Whether source images are drawn towards the target."""
        is_image = self.preprocessing_.kind == "image"
        return is_image and self._chosen_views()[0] == "target"

    def _augmentation(self):
        return self.style_ if self._draws_style() else super()._augmentation()

    def _identity(self, samples):
        if self.method == "none" and self.augment != "target":
            return super()._identity(samples)
        return [*super()._identity(samples), b"target", *self._target_samples().digests]

    def _recipe(self):
        recipe = super()._recipe()
        if recipe.lr_schedule != "auto":
            return recipe
        schedule = "annealed" if self.method in ADVERSARIAL else "cosine"
        return dataclasses.replace(recipe, lr_schedule=schedule)

    # What is trained

    def _check_method(self):
        """Refuse a method that lacks what it adapts to or by."""
        if not len(getattr(self, "_target_rows", ())):
            self._do_without_target()
        self._check_classes()
        if self.tta is not None and self._chosen_views()[0] in (None, "target"):
            raise ValueError(
                "`tta` needs an `augment` that draws views of what is predicted: one "
                f"of {[*PRESETS]} or a callable. Got augment={self.augment!r}, which "
                "draws none, or draws towards what target images look like already."
            )

    def _check_classes(self):
        if self.method in NEEDS_CLASSES and getattr(self, "_multilabel", False):
            raise ValueError(
                f"`method={self.method!r}` needs classes that exclude each other. Got "
                "independent labels; 'coral', 'mmd', 'jmmd', 'dann' and 'adabn' take "
                "them."
            )

    def _do_without_target(self):
        given = f"augment={self.augment!r}"
        if self.method not in ("none", *SOURCE_FREE):
            given = f"method={self.method!r}"
        elif self.augment != "target":
            return
        raise ValueError(
            f"`{given}` needs target samples in `fit`. Got none: give `sample_domain` "
            "with negative numbers for them, or mask their labels."
        )

    def _split(self, n_samples):
        self._check_method()
        self._fit_style()
        prefix, suffix = super()._split(n_samples)
        if self.method in NEEDS_STAGES and self.boundary_ == self._end():
            raise ValueError(
                f"`method={self.method!r}` changes the stages that are trained. Got "
                f"`freeze={self.freeze!r}`, which leaves none: freeze fewer, or put "
                "an adaptation of features behind a PretrainedFeatureExtractor."
            )
        if self.method == "adabn" and not find_batch_norms(suffix):
            raise ValueError(
                "`method='adabn'` needs BatchNorm layers in the stages that are "
                f"trained. Got {self.backbone_.name} above {self.boundary_!r}, which "
                "has none: freeze fewer stages, or take another method."
            )
        return prefix, suffix

    def _fit_style(self):
        if not self._draws_style():
            return
        source = self._samples(self._given_X).take(self._source_rows)
        self.style_ = TargetStyle().fit(
            self._target_samples(), X_source=in_order(source)
        )

    def _choose_boundary(self, n_samples):
        """Leave at least a stage to a method that needs one, if it is ours to say."""
        boundary, backbone = super()._choose_boundary(n_samples), self.backbone_
        if self.freeze != "auto" or self.method not in NEEDS_STAGES:
            return boundary
        most = min(backbone.n_stages_before(boundary), len(backbone.stages) - 1)
        some = (backbone.boundary(n) for n in range(most, 0, -1))
        return next(filter(self._has_what_it_takes, some), "input")

    def _has_what_it_takes(self, boundary):
        if self.method != "adabn":
            return True
        return bool(find_batch_norms(self._suffix(boundary)))

    def _is_solved(self):
        return super()._is_solved() and self._is_plain()

    def _phases(self, max_epochs):
        """Plan them, and remember which share of the training each one is."""
        phases = super()._phases(max_epochs)
        if "_given_X" not in vars(self):
            return phases
        ends = np.cumsum([0, *(n for _, n in phases)]) / max_epochs
        spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        self._spans = dict(zip((b for b, _ in phases), spans, strict=True))
        return phases

    def _is_plain(self):
        return self.method in ("none", *SOURCE_FREE)

    def _objective(self, network, target):
        if self._is_plain():
            return None
        samples = self._target_samples()
        activations, views = self._target_activations(samples, target)
        if "_function" not in vars(self):  # one for all phases
            n_features = network.features(activations[[0]], 1).shape[1]
            self._function = self._make_function(n_features)
        return Objective(
            self._function,
            views,
            weight=self.adaptation_weight,
            seed=self._seed(),
            span=getattr(self, "_spans", {}).get(target.boundary, (0.0, 1.0)),
        )

    def _make_function(self, n_features):
        confidence = getattr(self, "confidence", None)
        with seeded(self._seed()):
            return make_function(
                self.method,
                n_features,
                self._n_outputs,
                confidence=confidence,
                independent=getattr(self, "_multilabel", False),
            )

    def _train(self, suffix, samples, y, weight, validation, is_part=False):
        super()._train(suffix, samples, y, weight, validation, is_part)
        if self.method == "adabn":
            self._measure(samples)

    def _fit_part(self, X, y, sample_weight):
        self._refuse_parts()
        return super()._fit_part(X, y, sample_weight)

    def _go_on(self, X, y, sample_weight, given=None):
        self._refuse_parts()
        self._check_method()
        self._forget()
        self._fit_style()
        return super()._go_on(X, y, sample_weight, given)

    def _forget(self):
        """Drop what was measured of other domains, or by other weights."""
        for name in ("_source_statistics", "style_"):
            vars(self).pop(name, None)

    def _refuse_parts(self):
        """Refuse to go on with samples of the source alone, or from the target's."""
        in_fit = "_given_X" in vars(self)
        if self.method == "none" or (in_fit and self.method not in SOURCE_FREE):
            return
        name = "`warm_start`" if in_fit else "`partial_fit`"
        raise ValueError(
            f"{name} cannot be used with `method={self.method!r}`. Use `fit` without "
            "`warm_start`, or `method='none'`."
        )


def _list(rows):
    """Name some samples in a message."""
    some = ", ".join(map(str, rows[:5].tolist()))
    more = ", ..." if len(rows) > 5 else ""
    return f"sample {some}" if len(rows) == 1 else f"{len(rows)} samples ({some}{more})"
