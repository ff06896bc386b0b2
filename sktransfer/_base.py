"""What the estimators share: from constructor parameters to samples and a backbone."""

import copy
import os
from numbers import Integral

import numpy as np
import scipy.sparse
import torch
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from sktransfer.activations import choose_precision, open_store
from sktransfer.backbones import (
    Backbone,
    is_image_network,
    load_backbone,
    shared_backbone,
)
from sktransfer.compute import (
    Runtime,
    gains_by_bfloat16,
    resolve_batch_size,
    resolve_device,
)
from sktransfer.inputs import as_samples
from sktransfer.utils import Interval, StrOptions, spawn_seed, validate_data

__all__ = ["BackboneEstimator"]


def looks_like_images(X):
    """Say whether X can only be images: paths, pictures, or arrays of 3 or 4 axes."""
    if not hasattr(X, "__getitem__") or scipy.sparse.issparse(X):
        return False
    if isinstance(X, torch.utils.data.Dataset) or getattr(X, "ndim", 0) in (3, 4):
        return True
    if getattr(getattr(X, "dtype", None), "kind", None) in ("S", "U"):
        return True
    if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1:  # a column of a table
        X = np.asarray(X)[:, 0]
    elif hasattr(X, "to_numpy"):
        X = X.to_numpy()
    first = X[0] if len(X) else None
    if isinstance(first, tuple) and len(first) == 2:  # an image and its label
        first = first[0]
    return isinstance(first, str | bytes | os.PathLike | Image.Image) or (
        getattr(first, "ndim", 0) > 1
    )


class BackboneEstimator(BaseEstimator):
    """Base of the estimators that look at samples through a backbone."""

    _parameter_constraints = {
        "backbone": "no_validation",
        "weights": "no_validation",
        "image_size": [Interval(Integral, 8, None, closed="left"), tuple, list, None],
        "image_shape": [tuple, list, None],
        "value_range": [StrOptions({"auto"}), tuple, list],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "device": [str, torch.device],
        "memory": "no_validation",
        "precision": [StrOptions({"auto", "float32"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self._takes_images():
            tags.input_tags.two_d_array = self.image_shape is not None
            tags.input_tags.three_d_array = True
            tags.input_tags.string = True
        return tags

    def _takes_images(self, X=None):
        """Whether samples are images: as the backbone says, or else as X looks."""
        given = self._given_backbone()
        if isinstance(given, Backbone):
            return given.preprocessing.kind == "image"
        if isinstance(given, nn.Module):
            return is_image_network(given)
        if isinstance(given, str) or self.image_shape is not None:
            return True
        return X is not None and looks_like_images(X)

    def _given_backbone(self):
        """Return `backbone`; of a fitted estimator, the network that it trained."""
        given = self.backbone
        given = given.estimator if isinstance(given, FrozenEstimator) else given
        if not isinstance(given, BackboneEstimator):
            return given
        if not hasattr(given, "backbone_"):
            raise NotFittedError(
                f"`backbone` is a {type(given).__name__} that is not fitted. Fit it "
                "first; where it is cloned, as in a search, wrap it in "
                "sklearn.frozen.FrozenEstimator."
            )
        return given.backbone_

    def _check_X(self, X, *, reset):
        """Let scikit-learn check X where it is a table."""
        if not self._takes_images(X):
            return validate_data(self, X, reset=reset, dtype=np.float32)
        if getattr(X, "ndim", None) == 2:
            return validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _load_backbone(self, X):
        """Load the backbone; the parameter is never changed."""
        seed, given = spawn_seed(self.random_state), self._given_backbone()
        if isinstance(given, Backbone):
            backbone = load_backbone(
                given, weights=self.weights, image_size=self.image_size
            )
            return copy.deepcopy(backbone)
        if isinstance(given, str):
            return shared_backbone(
                given,
                weights=self.weights,
                image_size=self.image_size,
                seed=seed,
            )
        return load_backbone(
            given,
            weights=self.weights,
            image_size=self.image_size,
            n_features=None if self._takes_images(X) else X.shape[1],
            random_state=seed,
        )

    def _read(self, X, value_range):
        """From X, checked, to samples."""
        return as_samples(
            X,
            self.backbone_.preprocessing,
            image_shape=self.image_shape,
            value_range=value_range,
        )

    def _start(self, X):
        """Begin a fit: sets ``backbone_``, ``preprocessing_`` and ``value_range_``."""
        self.backbone_ = self._load_backbone(X)
        self.preprocessing_ = self.backbone_.preprocessing
        device = resolve_device(self.device)
        self._precision = choose_precision(self.backbone_, self.precision, device)
        samples = self._read(X, self.value_range)
        self.value_range_ = getattr(samples, "value_range", None)
        return samples

    def _samples(self, X):
        """Read X with what was fitted."""
        value_range = self.value_range_
        X = self._check_X(X, reset=False)
        return self._read(X, self.value_range if value_range is None else value_range)

    def _store(self):
        return open_store(self.memory)

    def _runtime(self, batch_size="auto"):
        """Where and how samples go through the frozen prefix."""
        device = resolve_device(self.device)
        sample_bytes = self.backbone_.largest_activation_bytes
        precision = self._precision
        if precision == "bfloat16" and not gains_by_bfloat16(device):
            precision = "folded"  # fitted on another machine
        return Runtime(
            device=device,
            batch_size=resolve_batch_size(batch_size, device, sample_bytes),
            precision=precision,
            verbose=self.verbose,
        )
