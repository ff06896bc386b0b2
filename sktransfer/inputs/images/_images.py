"""The modality of images."""

import os
import warnings
from typing import Any

import numpy as np
import scipy.sparse
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sktransfer.inputs._modality import MODALITIES, Modality
from sktransfer.inputs._reading import to_numpy
from sktransfer.inputs.images._augment import image_augmentation
from sktransfer.inputs.images._items import Values, collect
from sktransfer.inputs.images._pixels import (
    check_image_shape,
    check_value_range,
    resolve_value_range,
)
from sktransfer.inputs.images._preprocessing import IMAGENET, ImagePreprocessing
from sktransfer.inputs.images._raw import RawImages
from sktransfer.inputs.images._samples import Samples
from sktransfer.inputs.images._thumbnails import thumbnails
from sktransfer.utils import validate_data

_CONVOLUTIONS = (nn.Conv2d, nn.LazyConv2d)


class Images(Modality):
    """The modality of images."""

    noun = "images"
    options = ("image_size", "image_shape", "value_range")
    n_views = 1

    def looks_like(self, X: Any) -> bool:
        """Return whether X holds paths, encoded or PIL images, or arrays of images."""
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
        is_picture = isinstance(first, str | bytes | os.PathLike | Image.Image)
        return is_picture or hasattr(first, "read") or getattr(first, "ndim", 0) > 1

    def takes_network(self, module: nn.Module) -> bool:
        """Return whether a network has a 2-D convolution."""
        # A layer of TorchScript is of no class of its own.
        return any(
            isinstance(layer, _CONVOLUTIONS)
            or getattr(layer, "original_name", None) == "Conv2d"
            for layer in module.modules()
        )

    def default_preprocessing(
        self, module: nn.Module, n_features: int | None
    ) -> ImagePreprocessing:
        """Return the usual preprocessing of ImageNet, and warn that it is a guess."""
        warnings.warn(
            f"{type(module).__name__} does not say which preprocessing its weights "
            "expect, so ImageNet's usual one is taken (224 pixels, mean (0.485, 0.456, "
            "0.406)). Give it with `load_backbone(module, "
            "preprocessing=ImagePreprocessing(...))`.",
            stacklevel=2,
        )
        return IMAGENET

    def set_tags(self, tags: Any, options: dict) -> None:
        """Allow arrays of three axes and paths, and rows if `image_shape` is given."""
        tags.input_tags.two_d_array = options.get("image_shape") is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True

    def validate(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Return X, after a check of the columns if it is a table."""
        X = to_numpy(X) if isinstance(X, torch.Tensor) else X
        if getattr(X, "ndim", None) == 2:
            return validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X

    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
        """Return X as `validate` does, and y, as an array if it is a tensor."""
        y = to_numpy(y) if isinstance(y, torch.Tensor) else y
        return self.validate(estimator, X, reset=True), y

    def read(
        self,
        X: Any,
        preprocessing: Any,
        *,
        on_error: str = "raise",
        image_shape: tuple[int, ...] | None = None,
        value_range: Any = "auto",
    ) -> Samples:
        """Return X as `Samples`; the parameters are those of `as_samples`."""
        least_side = getattr(preprocessing, "least_side", None)
        if isinstance(X, Samples):
            return X.reduced(least_side)
        image_shape = check_image_shape(image_shape)
        raw = collect(X, image_shape, on_error)
        values = Values(raw.items, raw.indices, on_error)
        samples = Samples(
            raw,
            image_shape=image_shape,
            value_range=resolve_value_range(values, value_range),
            is_given=check_value_range(value_range) is not None,
        )
        return samples.reduced(least_side)

    def augmentation(self, augment: Any, preprocessing: Any) -> Any:
        """Return the preset of a name, or what makes images of what a callable says."""
        return image_augmentation(augment, preprocessing)

    def plain_features(self, options: dict) -> tuple[str, Any]:
        """Return the standardised pixels of thumbnails."""
        names = "image_shape", "value_range"
        given = {name: options[name] for name in names if name in options}
        pixels = FunctionTransformer(thumbnails, kw_args=given)
        return "raw pixels", make_pipeline(pixels, StandardScaler())

    def examples(self, preprocessing: Any, n: int) -> list[Image.Image]:
        """Return noise, of another brightness in each image."""
        h, w = preprocessing.input_shape[-2:]
        size = (5 * h // 4 + 1, 3 * w // 2 + 1, 3)
        draw = np.random.RandomState(0)
        darkest = np.linspace(0, 128, n).astype(int)
        pixels = (draw.randint(low, low + 128, size, np.uint8) for low in darkest)
        return [*map(Image.fromarray, pixels)]

    def raw_input(self, preprocessing: ImagePreprocessing) -> RawImages:
        """Return the module that resizes, crops and normalises."""
        return RawImages(preprocessing)


MODALITIES.add_built_in("image", Images())
