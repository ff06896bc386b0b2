"""What the estimators share that train the last stages of a network."""

import contextlib
import dataclasses
from collections import OrderedDict
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from sktransfer._base import as_array, undone_on_error
from sktransfer._boundary import BoundaryEstimator
from sktransfer._checkpoint_name import checkpoint_name, describe_data
from sktransfer._diagnosis import (
    check_drift,
    check_overfitting,
    check_start,
    drift,
    look,
)
from sktransfer._forgetting import measure_forgetting
from sktransfer._given import check_given, seen_by_probe, take, warn_of_equal
from sktransfer._going_on import check_unchanged, describe_network
from sktransfer._trained import (
    describe_fit,
    describe_more,
    epochs_table,
    n_trainable,
)
from sktransfer.activations import (
    Target,
    digest_samples,
    load_activations,
)
from sktransfer.compute import fixed_threads
from sktransfer.inputs import PRESETS
from sktransfer.training import (
    HEADS,
    LR_SCHEDULES,
    Data,
    Mix,
    Online,
    Recipe,
    Saver,
    add_lora,
    assume_online,
    begin_online,
    go_on_online,
    head_from_linear,
    hold_out,
    is_divisible,
    is_narrow,
    make_head,
    merge_equal,
    merge_lora,
    put_back_on_error,
    restore_net,
    stages_above,
    train,
    unfreezing_phases,
)
from sktransfer.utils import (
    Interval,
    StrOptions,
    check_consistent_length,
    check_is_fitted,
    check_sample_weight,
    spawn_seed,
    validate_data,
)

__all__ = ["FineTunedEstimator"]

_POSITIVE = Interval(Integral, 1, None, closed="left")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
# Parameters that a network is built by, and keeps when its training goes on.
_SHAPE = "weights image_size value_range freeze pooling pool_size head".split()
# Parameters that change no result, or that are told by what is made of them.
_NOT_OF_RESULT = {"backbone", "checkpoint", "device", "memory", "verbose", "weights"}


class FineTunedEstimator(BoundaryEstimator):
    """Base of the estimators that train a suffix and a head.

    A subclass encodes targets (`_encode`), names the loss (`_loss`, `_nonlinearity`),
    and solves the linear head where that is a convex problem (`_solve_head`).
    """

    _parameter_constraints = {
        **BoundaryEstimator._parameter_constraints,
        "freeze": [Integral, Interval(Real, 0, 1, closed="neither"), str],
        "unfreeze_every": [_POSITIVE, None],
        "adapter": [StrOptions({"lora"}), None],
        "adapter_rank": [_POSITIVE],
        "adapter_alpha": [Interval(Real, 0, None, closed="neither")],
        "pooling": [StrOptions({"auto", "avg", "max", "avgmax", "cls", "flatten"})],
        "pool_size": [_POSITIVE],
        "head": [StrOptions({*HEADS}), nn.Module],
        "head_init": [StrOptions({"probe", "random"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_epochs": [_POSITIVE],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "backbone_lr_ratio": [_NOT_NEGATIVE],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "lr_schedule": [StrOptions({*LR_SCHEDULES}), callable],
        "weight_decay": [_NOT_NEGATIVE],
        "l2_sp": [_NOT_NEGATIVE],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "accumulate_grad_batches": [_POSITIVE],
        "batch_norm": [StrOptions({"eval", "train"})],
        "ema": [Interval(Real, 0, 1, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_POSITIVE],
        "augment": [StrOptions({*PRESETS}), callable, None],
        "n_views": [_POSITIVE, None],
        "augment_activations": ["boolean", list, tuple, set],
        "mixup": [_NOT_NEGATIVE],
        "cutmix": [_NOT_NEGATIVE],
        "tta": [_POSITIVE, None],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, Path, None],
        "warm_start": ["boolean"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

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
        adaptation=None,
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
        given = (X_val, y_val, sample_weight_val)
        check_given(*given)
        if self.warm_start and hasattr(self, "net_") and not self._is_solved():
            self._check_unchanged()
            return self._go_on(X, y, sample_weight, given)
        self._n_epochs_before = 0
        self._forgetting = self._online = None
        samples, y, weight = self._check_Xy(X, y, sample_weight)
        prefix, suffix = self._split(len(samples))
        samples, y, weight, validation = self._hold_out(samples, y, weight, given)
        self._train(suffix, samples, y, weight, validation)
        self._assemble(prefix)
        self._add_to_card(**describe_fit(self, samples))
        return self

    def adapt(self, X_target, adaptation):
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
        raise NotImplementedError

    def _fit_part(self, X, y, sample_weight):
        """Begin a training that goes on with `partial_fit`."""
        self._n_epochs_before = 0
        self._forgetting = self._online = None
        samples, y, weight = self._check_Xy(X, y, sample_weight)
        prefix, suffix = self._split(len(samples))
        self._train(suffix, samples, y, weight, None, is_part=True)
        self._assemble(prefix)
        self._add_to_card(**describe_fit(self, samples))
        return self

    def _check_Xy(self, X, y, sample_weight):
        """Validate, and load the backbone.

        Returns the distinct samples, their targets as training takes them, and weights.
        """
        X, y = as_array(X), as_array(y)
        if self._takes_images(X):
            X = self._check_X(X, reset=True)
        else:
            X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True)
        samples = self._start(X)
        return self._merge(samples, y, sample_weight, self._encode)

    def _merge(self, samples, y, sample_weight, encode):
        y = samples.labels if y is None else as_array(y)
        if y is None:
            raise ValueError(
                f"`y` is needed to fit: {type(self).__name__} requires y to be passed, "
                "but the target y is None, and X is no Dataset with labels."
            )
        check_consistent_length(samples, y)
        codes = encode(y)
        weight = check_sample_weight(
            sample_weight, codes, dtype=np.float64, ensure_non_negative=True
        )
        weight = self._weigh(y, weight)
        digests = digest_samples(samples)
        warn_of_equal(digests)
        distinct, weight = merge_equal(digests, [c.tobytes() for c in codes], weight)
        samples = samples.take(distinct)
        samples.digests = [digests[i] for i in distinct]
        return samples, codes[distinct], weight

    def _weigh(self, y, sample_weight):
        """Return what samples weigh, by their targets; a hook."""
        return sample_weight

    def _hold_out(self, samples, y, weight, given):
        """Return the samples to train on, and those to validate on or None."""
        if given[0] is not None:
            held = self._samples(given[0])
            if given[1] is None and held.labels is None:
                raise ValueError(
                    "`y_val` is needed with `X_val`, which is no Dataset with labels."
                )
            held = self._merge(held, *given[1:], self._encode_again)
            return samples, y, weight, held
        if not self.early_stopping or self._is_solved():  # which stops nowhere
            return samples, y, weight, None
        seed = spawn_seed(self.random_state)  # the same share when it goes on
        held = hold_out(self._strata(y), self.validation_fraction, seed)
        rest = np.setdiff1d(np.arange(len(samples)), held)
        chosen = take(samples, held), y[held], weight[held]
        return take(samples, rest), y[rest], weight[rest], chosen

    def _strata(self, y):
        """Return the groups that a held-out share is drawn from; a hook."""
        return np.zeros(len(y), dtype=int)

    def _train(self, suffix, samples, y, weight, validation, is_part=False):
        """Train the head, or suffix and head in one or more phases."""
        self._prepare(y, weight)
        self._check_depth(samples, y)
        y = self._to_tensor(y)
        activations = self._activations(samples, self._target)
        if self._is_solved():
            network = self._network(self._target, suffix)
            seen = seen_by_probe(self._views(samples, self._target), activations)
            row = self._start_head(network, seen, y, weight, is_part=is_part)
            if validation is not None:
                held, targets, weight = validation
                held = [self._activations(held, self._target)]
                targets = self._to_tensor(targets)
                row["valid_loss"] = self._loss_on(network, held, targets, weight)
            self.net_ = restore_net(network, [row], self._nonlinearity())
            self.history_ = pd.DataFrame([row])
            self.n_trainable_parameters_ = n_trainable(network)
            self.feature_drift_ = 0.0
            return
        with self._adapted(suffix):
            phases = self._phases(1 if is_part else self.max_epochs)
            data = samples, activations, y, weight, validation
            self._run_phases(phases, suffix, *data, is_part)

    def _loss_on(self, network, views, y, weight):
        """Compute the mean loss of the probe on some views of samples (float)."""
        features, targets, weights, _ = self._head_data(network, views, y, weight)
        device = self._runtime().device
        with torch.inference_mode(), fixed_threads():
            scores = network.head.to(device).eval()(features.to(device)).cpu()
            losses = self._probe_loss(scores, torch.from_numpy(targets))
        return float(np.average(losses.numpy(), weights=weights))

    def _probe_loss(self, scores, y):
        """Compute the loss that the probe has, sample by sample; a hook."""
        return self._loss()(scores, y)

    @contextlib.contextmanager
    def _adapted(self, suffix):
        """Let adapters be trained instead of the suffix, if `adapter` says so."""
        if self.adapter is None or self.boundary_ == self._end():
            yield
            return
        trained = [p for p in suffix.parameters() if p.requires_grad]
        rank, alpha = self.adapter_rank, self.adapter_alpha
        add_lora(suffix, rank=rank, alpha=alpha, seed=self._seed())
        try:
            yield
        finally:
            merge_lora(suffix)
            for parameter in trained:
                parameter.requires_grad_(True)

    def _phases(self, max_epochs):
        """Plan boundaries and epochs."""
        return unfreezing_phases(
            self.backbone_,
            self.boundary_,
            every=self.unfreeze_every,
            max_epochs=max_epochs,
            head_first=not self._starts_from_probe(),
        )

    def _run_phases(
        self, phases, suffix, samples, activations, y, weight, validation, is_part
    ):
        """Train from phase to phase; sets ``net_`` and ``history_``."""
        savers = self._savers(samples, y, weight, validation, len(phases))
        head, rows, recipe, before = None, [], self._recipe(), None
        for (boundary, n_epochs), saver in zip(phases, savers, strict=True):
            target, part, held = self._target, suffix, activations
            if boundary != self.boundary_:
                target, part = Target(boundary), self._suffix(boundary)
                held = self._activations(samples, target)
            network = self._network(target, part, head)
            views = self._views(samples, target)
            if saver is not None:
                saver.views = views
            if head is None:
                self._begin(network, views, held, y, weight, is_part)
                head = network.head
                before = look(self, network, held, y)
            data = Data(held if views is None else views, y, weight)
            recipe = dataclasses.replace(recipe, max_epochs=n_epochs)
            net = self._train_phase(network, data, recipe, validation, target, saver)
            rows += net.history.to_list()
        self._diagnose(before, network, (held, y), validation, target, rows)
        if phases[-1][0] != self.boundary_:  # the epochs ended before
            network = self._network(self._target, suffix, head)
            net = restore_net(network, rows, self._nonlinearity())
        self.net_, self.history_ = net, epochs_table(rows)
        self.n_trainable_parameters_ = n_trainable(net.module_)
        for saver in filter(None, savers):
            saver.remove()

    def _diagnose(self, before, network, trained, validation, target, history):
        """Warn of what figures show to be wrong; sets ``feature_drift_``."""
        after = look(self, network, *trained)
        self.feature_drift_ = drift(before.features, after.features)
        if self._starts_from_probe():
            check_drift(before, after, self.feature_drift_, self.lr, self._say)
            check_start(self, before, after, self.feature_drift_, len(history))
        if validation is not None and not self.early_stopping:
            samples, y, _ = validation
            held = self._activations(samples, target), self._to_tensor(y)
            check_overfitting(self, network, trained, held, history)

    def _check_depth(self, samples, y):
        """Warn if an earlier stage is better than the boundary; a hook."""

    @property
    def forgetting_(self):
        """Share of photographs that the pretrained classifier now labels otherwise."""
        check_is_fitted(self)
        if getattr(self, "_forgetting", None) is None:
            self._forgetting = measure_forgetting(self)
        return self._forgetting

    def _activations(self, samples, target):
        """Bring samples to a target, through the weights as they came."""
        activations, report = load_activations(
            self._pretrained,
            target,
            samples,
            store=self._store(),
            runtime=self._runtime(),
        )
        if target is self._target:
            self.pass_report_ = pd.DataFrame(report)
        return activations

    def _starts_from_probe(self):
        """Whether the head starts from the solution of the convex problem."""
        return self.head_init == "probe" and self.head == "linear"

    def _is_solved(self):
        """Whether all that is left is a head that is solved, without epochs."""
        return self.boundary_ == self._end() and self._has_solution()

    def _has_solution(self):
        """Whether the head alone is a convex problem that we solve; a hook."""
        return self.head == "linear"

    def _begin(self, network, views, activations, y, weight, is_part):
        """Give the network a head to start from."""
        if self._starts_from_probe():
            seen = seen_by_probe(views, activations)
            self._start_head(network, seen, y, weight, is_part)
            return
        network.head = make_head(
            self.head,
            network.features(activations[[0]], 1).shape[1],
            self._n_outputs,
            dropout=self.dropout,
            seed=self._seed(),
        ).to(self._runtime().device)

    def _start_head(self, network, views, y, weight, is_part=False):
        """Solve the head on some views of the samples, which share their weights."""
        features, *data, groups = self._head_data(network, views, y, weight)
        solution, row = self._solve_head(features, *data, groups, is_part)
        if is_part and self._is_solved() and is_narrow(solution):
            self._online = (*begin_online(solution, features, *data, self._kind()),)
        head = head_from_linear(solution, self.dropout)
        network.head = head.to(self._runtime().device)
        return {"epoch": 1, **row}

    def _head_data(self, network, views, y, weight):
        """Return features, targets, weights and groups of all views."""
        batch_size, n_views = self._runtime().batch_size, len(views)
        features = [network.features(activations, batch_size) for activations in views]
        targets = torch.cat([y] * n_views).numpy()
        weights = np.tile(weight / n_views, n_views)
        return torch.cat(features), targets, weights, np.tile(range(len(y)), n_views)

    def _solve_on(self, network, views, y, weight):
        """Solve the head on more samples, and keep what it learned of others."""
        features, *data, _ = self._head_data(network, views, y, weight)
        linear, kind = list(network.head.modules())[-1], self._kind()
        state, penalty = self._online, self._penalty()
        if state is None:  # of a fit, which keeps no state
            n_before = self._card["trained"]["samples"]
            state = assume_online(linear, features, n_before, penalty, kind)
        state, n_iter = go_on_online(
            Online(*state), linear, features, *data, penalty, kind
        )
        self._online = (*state,)
        loss = self._loss_on(network, views, y, weight)
        return {"epoch": 1, "train_loss": loss, "n_iter": n_iter}

    def _recipe(self):
        names = {f.name for f in dataclasses.fields(Recipe)}
        settings = {name: getattr(self, name) for name in names}
        if self.batch_size == "auto":
            settings["batch_size"] = 32
        return Recipe(**settings)

    def _train_phase(self, network, data, recipe, validation, target, saver):
        """Train a network on activations at a target (SuffixNet)."""
        if validation is not None:
            samples, y, weight = validation
            activations = self._activations(samples, target)
            validation = Data(activations, self._to_tensor(y), weight)
        layout, objective = self._layout(target), self._objective(network, target)
        divides = objective is None and self._divides(network, target, recipe)
        return train(
            network,
            data,
            loss=self._loss(),
            recipe=recipe,
            device=self._runtime().device,
            seed=self._seed(),
            validation=validation,
            stages_above=stages_above(self.backbone_, target.boundary),
            mix=Mix(layout, mixup=self.mixup, cutmix=self.cutmix)
            if self._mixes()
            else None,
            objective=objective,
            nonlinearity=self._nonlinearity(),
            callbacks=self.callbacks,
            saver=saver,
            divides=divides,
            verbose=self.verbose,
        )

    def _divides(self, network, target, recipe):
        """Whether threads compute parts of a batch of this training."""
        if self._runtime().device.type != "cpu":
            return False
        passed = self.backbone_.multiply_adds(target.boundary, self._end())
        return is_divisible(
            network.train(), self._example(target), passed * recipe.batch_size
        )

    def _objective(self, network, target):
        """Return what is minimised beside the loss (Objective or None); a hook."""
        return None

    def _is_plain(self):
        """Whether nothing is minimised beside the loss; a hook."""
        return True

    def _mixes(self):
        return self.mixup > 0 or self.cutmix > 0

    def _savers(self, samples, y, weight, validation, n_phases):
        """Return what keeps the state of each phase, None without `checkpoint`."""
        if self.checkpoint is None:
            return [None] * n_phases
        given = self.get_params(deep=False)
        settings = {k: given[k] for k in given.keys() - _NOT_OF_RESULT} | {
            "estimator": type(self),
            "backbone": self._pretrained.describe_prefix("output"),
            "preprocessing": self.preprocessing_,
            "range of values": self.value_range_,
            "runtime": self._runtime().key,
        }
        data = describe_data(self._identity(samples), y.numpy(), weight)
        if validation is not None:
            held, *others = validation
            data += [b"validation", *describe_data(held.digests, *others)]
        name = checkpoint_name(settings, data)
        if name is None:
            return [None] * n_phases
        folder = Path(self.checkpoint)
        return [Saver(folder / f"{name}-{i}.pt") for i in range(n_phases)]

    def _identity(self, samples):
        """Return the hashes of all that is trained on (list of bytes); a hook."""
        return samples.digests

    def _assemble(self, prefix):
        """Put the parts together: sets ``module_``."""
        network = self.net_.module_
        parts = {"prefix": prefix, "pool": self._target.tap, "network": network}
        self.module_ = nn.Sequential(OrderedDict(parts)).eval()
        self.module_.to(self._runtime().device)
        self._n_features_out = self._count_features(network)
        self._built_by = self._describe_network()
        del self._pretrained

    def _parts(self):
        """Return what comes after the preprocessing, and what it gives."""
        prefix, pool, network = self.module_
        last, output = self._last_step()
        return [prefix, pool, network.suffix, network.pool, network.head, last], output

    def _describe_network(self):
        """Write down what the parameters ask for that shape the network (dict)."""
        shape = {name: getattr(self, name) for name in _SHAPE}
        return describe_network({"backbone": self._given_backbone(), **shape})

    def _check_unchanged(
        self, where="with `warm_start=True`", anew="set `warm_start=False`"
    ):
        """Refuse to go on with another network than the one that is asked for."""
        check_unchanged(self._built_by, self._describe_network(), where, anew)

    def _labels(self, X, y):
        """Return what predictions are compared with: y, or the labels of X."""
        check_is_fitted(self)
        y = self._samples(X).labels if y is None else y
        if y is None:
            raise ValueError("`y` is needed to score, as X is no Dataset with labels.")
        return y

    def _go_on(self, X, y, sample_weight, given=None):
        """Train what was trained before on; one epoch if this is `partial_fit`."""
        check_is_fitted(self)
        if given is None:
            self._check_unchanged("in `partial_fit`", "use `sklearn.base.clone`")
        self._n_epochs_before = len(self.history_)
        self._forgetting = None
        vars(self).pop("feature_drift_", None)  # of the first training alone
        samples = self._samples(X)
        train_on = self._merge(samples, y, sample_weight, self._encode_again)
        self._pretrained = self.backbone_.owner(self.boundary_)
        samples, y, weight, validation = (
            (*train_on, None) if given is None else self._hold_out(*train_on, given)
        )
        network = self.module_.network
        activations = self._activations(samples, self._target)
        y, recipe = self._to_tensor(y), self._recipe()
        if given is None:
            recipe = dataclasses.replace(recipe, max_epochs=1)
        views = self._views(samples, self._target)
        with put_back_on_error(network):
            if self._is_solved() and is_narrow(list(network.head.modules())[-1]):
                seen = seen_by_probe(views, activations)
                row = self._solve_on(network, seen, y, weight)
                self.net_ = restore_net(network, [row], self._nonlinearity())
            else:
                data = Data(activations if views is None else views, y, weight)
                with self._adapted(network.suffix):
                    self.net_ = self._train_phase(
                        network, data, recipe, validation, self._target, None
                    )
        rows = self.history_.to_dict("records")
        self.history_ = epochs_table([*rows, *self.net_.history.to_list()])
        self.module_.eval()
        del self._pretrained
        self._add_to_card(**describe_more(self, samples))
        return self
