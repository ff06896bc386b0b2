"""What the estimators share that have a suffix and a head above a boundary."""

import copy
from contextlib import closing
from functools import partial

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import nn

from sktransfer._base import BackboneEstimator
from sktransfer._persistence import slim_state, whole_state
from sktransfer.activations import (
    FixedViews,
    FreshViews,
    Layout,
    Pass,
    Pool,
    Target,
    check_pooling,
    draw_views,
    name_of,
    run_alone,
)
from sktransfer.compute import (
    fixed_threads,
    halving,
    own_torch_state,
    pad_rows,
    use_channels_last,
)
from sktransfer.inputs import preset_augmentation
from sktransfer.training import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    Network,
    resolve_freeze,
    restore_net,
)
from sktransfer.utils import check_is_fitted, on_cpu, spawn_seed

__all__ = ["BoundaryEstimator"]


class BoundaryEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BackboneEstimator
):
    """Base of the estimators that cut a backbone in two, and predict from there.

    Training is up to the subclass, which sets ``module_`` and ``net_``.
    """

    _n_epochs_before = 0  # of this training, when it went on

    @own_torch_state()
    def transform(self, X):
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
        samples, describe = self._samples(X), self.module_.network.describe
        features = self._run(samples, describe, self._n_features_out)
        return features.astype(np.float32)

    def _split(self, n_samples):
        """Cut the backbone at the boundary; what lies before it is frozen.

        Sets the target, which is what the prefix must give: pooled if only the head is
        left.
        """
        backbone = self._pretrained = self.backbone_
        self.boundary_ = self._choose_boundary(n_samples)
        self.freeze_depth_ = backbone.n_stages_before(self.boundary_)
        end = self._end()
        if self.freeze_depth_ == len(backbone.stages):
            self.boundary_ = end
        only_head = self.boundary_ == end
        self._target = Target(
            self.boundary_, self._pool() if only_head else nn.Identity()
        )
        self.backbone_ = backbone.fork(self.boundary_)
        suffix = self._suffix(self.boundary_).requires_grad_(True)
        return self.backbone_.section("input", self.boundary_).freeze(), suffix

    def _choose_boundary(self, n_samples):
        """Find the boundary that `freeze` asks for, by name."""
        return resolve_freeze(self.freeze, self.backbone_, n_samples)

    def _suffix(self, boundary):
        """Return what is trained above a boundary."""
        end = self._end()
        if boundary == end:
            return nn.Identity()
        suffix = self.backbone_.section(boundary, end)
        suffix.fixed_statistics = self.batch_norm == "eval"
        suffix.fixed_shared = True
        return suffix

    def _end(self):
        """Boundary that the head sits on."""
        backbone = self.backbone_
        own = sum(n > 1 for n in backbone.activation_shape("features")) == 1
        if own and self.pooling == "auto" and self.pool_size == 1:
            return "features"
        return backbone.stage_names[-1]

    def _pool(self):
        backbone, end = self.backbone_, self._end()
        pooling = "avg" if self.pooling == "auto" else self.pooling
        shape, sample = backbone.activation_shape(end), self.preprocessing_.input_shape
        check_pooling(pooling, shape, sample, end)
        return Pool(pooling, self.pool_size, shape, sample)

    def _network(self, target, suffix, head=None):
        """Join what is trained above a target, on the device."""
        pooled = isinstance(target.tap, Pool)
        network = Network(
            suffix,
            nn.Identity() if pooled else self._pool(),
            head,
            augment=self._activation_augment(target),
        )
        return use_channels_last(network).to(self._runtime().device)

    def _count_features(self, network):
        shape = self.backbone_.activation_shape(self.boundary_)
        z = torch.zeros(1, *shape, device=self._runtime().device)
        with torch.inference_mode():
            return network.eval().describe(self._target.tap(z)).shape[1]

    def _seed(self):
        """Draw a seed; a training that goes on draws others than it did before."""
        seed, done = spawn_seed(self.random_state), self._n_epochs_before
        if not done:
            return seed
        return int(np.random.SeedSequence([seed, done]).generate_state(1)[0] >> 1)

    def _views(self, samples, target):
        """Return random views of the samples to train on, None if there are none."""
        augment, n_views = self._chosen_views()
        if augment is None:
            return None
        seed, runtime = self._seed(), self._runtime()
        source = self._pretrained, target, samples, self._augmentation()
        if n_views is None:
            return FreshViews(*source, seed, runtime=runtime)
        return FixedViews(*source, n_views, seed, store=self._store(), runtime=runtime)

    def _chosen_views(self):
        """Return `augment` and `n_views`; a hook for what "auto" is."""
        return self.augment, self.n_views

    def _augmentation(self):
        """Return the callable that `augment` names."""
        preprocessing, (augment, _) = self.preprocessing_, self._chosen_views()
        if preprocessing.kind == "vector":
            raise ValueError(
                "`augment` must be None for a backbone that takes vectors. Got "
                f"{augment!r}; `augment_activations` is for any backbone."
            )
        if isinstance(augment, str):
            return preset_augmentation(augment, preprocessing)
        return augment

    def _layout(self, target):
        shape = tuple(self._example(target).shape[1:])
        return Layout(shape, self.preprocessing_.input_shape)

    def _example(self, target):
        """Make up what a target gives of three samples."""
        shape = self.backbone_.activation_shape(target.boundary)
        return target.tap(torch.randn(3, *shape, generator=torch.Generator()))

    def _activation_augment(self, target):
        """Return what activations at a target go through in training, or None."""
        chosen = self.augment_activations
        is_bool = isinstance(chosen, bool | np.bool_)
        kinds = ACTIVATION_AUGMENTATIONS if is_bool else chosen
        unknown = {*kinds} - {*ACTIVATION_AUGMENTATIONS}
        if unknown:
            raise ValueError(
                "`augment_activations` must be a bool or hold some of "
                f"{list(ACTIVATION_AUGMENTATIONS)}. Got {sorted(unknown)[0]!r}."
            )
        if not chosen or isinstance(target.tap, Pool):
            return None
        return ActivationAugment(kinds, self._layout(target))

    def _run(self, samples, function, width):
        """Apply a function of the trained network to samples (float64 array)."""
        runtime, results = self._runtime(), np.empty((len(samples), width))
        self.module_.network.to(runtime.device).eval()
        a_pass = Pass(
            self.backbone_, [self._target], store=self._store(), runtime=runtime
        )
        size, device = runtime.batch_size, runtime.device

        def compute(rows, size):
            parts = []
            for first in range(0, len(rows), size):
                z = a_pass.as_input(rows[first : first + size]).to(device)
                with torch.inference_mode(), fixed_threads():
                    if self.backbone_.impurity:
                        found = run_alone(function, z, self.module_.network)
                    else:
                        found = function(pad_rows(z, size))[: len(z)]
                parts.append(found.cpu().numpy())
            return np.concatenate(parts)

        with closing(a_pass.iterate(samples)) as passed:
            for indices, (rows,) in passed:
                found, size = halving(partial(compute, rows), size, device)
                results[indices] = found
        return results

    @own_torch_state()
    def _scores(self, X):
        """Scores of the head, of shape (n_samples, n_outputs), float64."""
        check_is_fitted(self)
        samples, network = self._samples(X), self.module_.network
        scores = self._run(samples, network, self._n_outputs)
        if self.tta is None:
            return scores
        if self._chosen_views()[0] is None:
            raise ValueError("`tta` needs `augment`, which draws the views.")
        augment = self._augmentation()
        name = name_of(augment)
        for number in range(self.tta):
            views = draw_views(samples, augment, name, 0, number)
            scores += self._run(views, network, self._n_outputs)
        return scores / (1 + self.tta)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "module_")

    def _caption(self):
        return f"{self.freeze_depth_} of {len(self.backbone_.stages)} stages frozen" + (
            f" (up to {self.boundary_})" if self.boundary_ != "input" else ""
        )

    def _whole(self):
        state = super()._whole()
        if "net_" in state:
            # The net's own pickle would hold a second copy of the backbone.
            state["net_"] = state["net_"].history.to_list()
            network = self.module_.network
            network = _with_child(network, "head", on_cpu(network.head))
            state["module_"] = _with_child(self.module_, "network", network)
        return state

    def _slim(self):
        last = getattr(self.module_.network.suffix, "stop", self.boundary_)
        return slim_state(self, self._whole(), self.boundary_, last)

    def _restore(self, state):
        state = whole_state(state)
        history = state.pop("net_", None)
        super()._restore(state)
        if history is not None:
            network = self.module_.network
            self.net_ = restore_net(network, history, self._nonlinearity())


def _with_child(module, name, child):
    """Return a module with another child; all others are shared."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, name: child}
    return twin
