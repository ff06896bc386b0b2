"""The fitted model: a frozen prefix, the network above it, and its outputs."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sktransfer.activations import (
    Pass,
    Target,
    draw_views,
    name_of,
    run_alone,
    run_filled,
)
from sktransfer.backbones import ModelCard
from sktransfer.compute import (
    Runtime,
    fixed_threads,
    halving,
    map_state,
)
from sktransfer.inputs import modality_of, warn_of_unreadable
from sktransfer.model._finite import warn_of_non_finite
from sktransfer.model._loaded import LoadedBackbone
from sktransfer.model._module import ExportedModule, StackedFeatures
from sktransfer.model._onnx import check_path, write_onnx
from sktransfer.model._outputs import ClassOutputs, Features, RegressionOutputs
from sktransfer.model._slim import slim_state, whole_state
from sktransfer.training import Augmentation, Network
from sktransfer.utils import get_config, on_cpu, types


@dataclass(frozen=True, eq=False, repr=False)
class FittedModel(LoadedBackbone):
    """Fitted model of an estimator, from raw samples to features and scores.

    It holds everything that predictions depend on, except for the device and the batch
    size. Its attributes cannot be set, but `partial_fit`, a warm start and `adapt` of
    the estimator train its network further.

    Attributes
    ----------
    taps : dict of str to torch.nn.Module
        Modules that pool activations, by the boundaries of these in order of execution.
        A model with a network has one boundary, and an identity if stages are trained.
    network : Network or None
        Suffix, pool and head, which take the activations at the boundary; None if the
        model has no head.
    outputs : ClassOutputs, RegressionOutputs or Features
        The meaning of the outputs.
    n_features : int
        Number of features per sample.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> digits = load_digits(n_class=3)
    >>> X, y = digits.images[:30] / 16, digits.target[:30]
    >>> model = FineTunedClassifier(freeze="all", image_size=32).fit(X, y).model_
    >>> model.boundary, model.classes.tolist(), model.model_card.license
    ('features', [0, 1, 2], 'apache-2.0')
    >>> samples = model.read(X[:4])
    >>> model.features(samples).shape, model.scores(samples).shape
    ((4, 1280), (4, 3))
    """

    taps: Mapping[str, nn.Module]
    network: Network | None
    outputs: ClassOutputs | RegressionOutputs | Features
    n_features: int

    def __repr__(self) -> str:
        stages = ", ".join(map(repr, self.taps))
        return f"<{type(self).__name__} of {self.backbone.name} from {stages}>"

    @property
    def boundary(self) -> str:
        """Name of the stage or block up to which the backbone is frozen."""
        return [*self.taps][-1]

    @property
    def classes(self) -> np.ndarray | None:
        """Labels of the columns of the scores; None for regression and for features."""
        return self.outputs.classes

    @property
    def model_card(self) -> ModelCard:
        """Source and license of the backbone, and what was trained on top of it."""
        return ModelCard(**self.card)

    def features(
        self,
        samples: Any,
        *,
        runtime: Runtime | None = None,
        store: Any = None,
        on_error: str = "raise",
        tell: Callable = warn_of_unreadable,
    ) -> NDArray[np.float32]:
        """Compute the features that the head receives or, without one, pooled ones.

        Parameters
        ----------
        samples : Samples or VectorSamples
            From :meth:`read`.
        runtime : Runtime, default=None
            From :meth:`runtime`, which is called without arguments by default.
        store : Store, default=None
            Where activations are looked up and kept. By default nowhere.
        on_error : {"raise", "warn"}, default="raise"
            "warn" gives NaN for images that cannot be read (only without a head).
        tell : callable, default=warn_of_unreadable
            Takes the reasons by position, if there are any, and the samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
        """
        runtime = runtime or self.runtime()
        if self.network is None:
            return self._pooled(samples, runtime, store, on_error, tell)
        asked = samples, self.network.describe, self.n_features
        return self._run(*asked, runtime, store).astype(np.float32)

    def scores(
        self, samples: Any, *, runtime: Runtime | None = None, store: Any = None
    ) -> NDArray[np.float64]:
        """Compute the scores of the head.

        Parameters
        ----------
        samples, runtime, store
            As in :meth:`features`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), float64

        Raises
        ------
        ValueError
            If the model has no head.
        """
        if isinstance(self.outputs, Features):
            raise ValueError("A model without a head has features, but no scores.")
        runtime, width = runtime or self.runtime(), self.outputs.n_outputs
        return self._run(samples, self.network, width, runtime, store)

    def mean_scores(
        self, samples: Any, augment: Augmentation, **settings: Any
    ) -> NDArray[np.float64]:
        """Compute the scores of samples, averaged over random views.

        Parameters
        ----------
        samples : Samples or VectorSamples
        augment : Augmentation
            Its ``tta`` is the number of views, besides the samples as they are.
        **settings
            As in :meth:`scores`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), float64

        Raises
        ------
        ValueError
            If ``tta`` is set, and there are no views.
        """
        scores = self.scores(samples, **settings)
        if augment.tta is None:
            return scores
        modality = modality_of(backbone=self.preprocessing)
        n_views = modality.n_views if augment.views == "auto" else augment.tta
        if (given := augment.views) is None or not n_views:
            raise ValueError(f"`augment__tta` needs `augment__views`. Got {given!r}.")
        views = modality.augmentation(augment.views, self.preprocessing)
        for number in range(n_views):
            drawn = draw_views(samples, views, name_of(views), 0, number)
            scores += self.scores(drawn, **settings)
        return scores / (1 + n_views)

    def module(self) -> nn.Sequential:
        """Return the module from model inputs to scores, which shares the weights."""
        prefix = self.backbone.section("input", self.boundary).freeze()
        pool = self.taps[self.boundary]
        parts = OrderedDict(prefix=prefix, pool=pool, network=self.network)
        return nn.Sequential(parts).eval()

    def to_torch(self) -> ExportedModule:
        """Return one module from raw samples to outputs that needs nothing else.

        See :meth:`FineTunedClassifier.to_torch`.
        """
        if isinstance(self.outputs, Features):
            parts = [self._stacked()]
        else:
            prefix, pool, network = self.module()
            last = self.outputs.last_layer()
            parts = [prefix, pool, network.suffix, network.pool, network.head, last]
        return ExportedModule(
            self.preprocessing,
            parts,
            self.outputs.name,
            classes=self.classes,
            value_range=self.value_range,
            card=self.model_card.to_json(),
        )

    def to_onnx(
        self, path: str | os.PathLike, *, image_size: types.ImageSize | None = None
    ) -> Path:
        """Write the module of :meth:`to_torch` to an ONNX file.

        See :meth:`FineTunedClassifier.to_onnx`.
        """
        path = check_path(path)
        return write_onnx(self.to_torch(), path, image_size=image_size)

    def _stacked(self):
        """Return the module from model inputs to pooled features."""
        backbone, ends = self.backbone, [*self.taps]
        return StackedFeatures(
            [backbone.frozen_section(*way) for way in pairwise(["input", *ends])],
            [*self.taps.values()],
            [ends.index(name) for name in self.outputs.stages],
        )

    def features_key(self, runtime: Runtime) -> bytes:
        """Return a hash of all that features depend on, except the samples."""
        return b"".join(self._pass(runtime, None).keys())

    def _pass(self, runtime, store, on_error="raise"):
        targets = [*map(Target, self.taps, self.taps.values())]
        return Pass(
            self.backbone, targets, store=store, runtime=runtime, on_error=on_error
        )

    def _pooled(self, samples, runtime, store, on_error, tell):
        """Compute pooled activations of all taps, side by side."""
        a_pass = self._pass(runtime, store, on_error)
        features = np.full((len(samples), self.n_features), np.nan, dtype=np.float32)
        for indices, rows in a_pass.iterate(samples):
            found = dict(zip(self.taps, map(np.stack, rows), strict=True))
            features[indices] = np.hstack([found[name] for name in self.outputs.stages])
        if a_pass.unreadable:
            tell(a_pass.unreadable, samples)
        warn_of_non_finite(features, samples, a_pass.unreadable, self.backbone.name)
        return features

    def _run(self, samples, function, width, runtime, store):
        """Apply a function of the trained network to samples (float64 array)."""
        self.network.to(runtime.device).eval()
        a_pass, size = self._pass(runtime, store), runtime.batch_size
        results = np.empty((len(samples), width))
        with closing(a_pass.iterate(samples)) as passed:
            for indices, (rows,) in passed:
                compute = partial(self._compute, function, a_pass, rows)
                results[indices], size = halving(compute, size, runtime.device)
        return results

    def _compute(self, function, a_pass, rows, size):
        device, parts = a_pass.runtime.device, []
        size = a_pass.runtime.size_for(a_pass.as_input(rows[:1]), size)
        for first in range(0, len(rows), size):
            z = a_pass.as_input(rows[first : first + size])
            z = map_state(lambda t: t.to(device), z)
            with torch.inference_mode(), fixed_threads():
                if self.backbone.impurity or self.network.impurity:
                    found = run_alone(function, z, self.network)
                else:
                    found = run_filled(
                        function,
                        z,
                        size,
                        self.network,
                        may_be_alone=self.preprocessing.tolerates_low_precision,
                    )
            parts.append(found.cpu().numpy())
        return np.concatenate(parts)

    def __getstate__(self) -> dict:
        """Return the state, with `slim_pickles` without the frozen weights."""
        return slim_state(self) if get_config()["slim_pickles"] else self._whole()

    def __setstate__(self, state: dict) -> None:
        vars(self).update(whole_state(state))

    def __deepcopy__(self, memo: dict) -> FittedModel:
        """Copy the model with its frozen weights, also with `slim_pickles`."""
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(self._whole(), memo))
        return twin

    def _whole(self):
        if self.network is None:
            return dict(vars(self))
        head = on_cpu(self.network.head)
        network = copy.copy(self.network)
        network._modules = {**network._modules, "head": head}
        return {**vars(self), "network": network}
