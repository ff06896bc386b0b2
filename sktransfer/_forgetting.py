"""How much of what a network was pretrained for is left of it."""

import copy

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sktransfer.backbones import shared_backbone

__all__ = ["measure_forgetting", "photographs"]

_N, _SIDE = 32, 224  # crops, and their sides in px


def photographs(n=_N, side=_SIDE):
    """Return crops of scikit-learn's two photographs, always the same.

    Parameters
    ----------
    n : int, default=32
    side : int, default=224
        In pixels.

    Returns
    -------
    uint8 ndarray of shape (n, side, side, 3)
    """
    images = load_sample_images().images
    rng, found = np.random.RandomState(0), []
    for k in range(n):
        image = images[k % len(images)]
        top = rng.randint(image.shape[0] - side)
        left = rng.randint(image.shape[1] - side)
        found.append(image[top : top + side, left : left + side])
    return np.stack(found)


def measure_forgetting(estimator):
    """Compare what the pretrained classifier says before and after training.

    Parameters
    ----------
    estimator : FineTunedEstimator
        Fitted.

    Returns
    -------
    float
        Share of crops of photographs that it labels otherwise now.

    Raises
    ------
    AttributeError
        If the weights came without a classifier, or the pretrained ones are gone.
    """
    trained = estimator.backbone_
    pretrained = _pretrained(estimator)
    known = trained.provider is not None and trained.weights is not None
    if not known or not trained.classifier_layers():
        raise AttributeError(
            "`forgetting_` needs weights that came with the classifier that they were "
            f"pretrained with. Got the backbone {trained.name}."
        )
    if estimator.boundary_ == estimator._end():
        return 0.0
    preprocessing = trained.preprocessing
    images = [Image.fromarray(image) for image in photographs()]
    pixels = np.stack([preprocessing.prepare(image) for image in images])
    x = preprocessing.to_input(torch.from_numpy(pixels))
    before, after = (_labels(backbone, x) for backbone in (pretrained, trained))
    return float((before != after).float().mean())


def _pretrained(estimator):
    """Return the backbone as it came: what was trained is a fork of it."""
    trained = estimator.backbone_
    found = trained.owner("input")
    if found is not trained:
        return found
    source = estimator._source
    if source is None or source["weights"] is None:
        raise AttributeError(
            "`forgetting_` needs the pretrained weights, which a pickle of a backbone "
            "that came as an object does not hold. Look at it before pickling, or "
            "give `backbone` by name."
        )
    settings = {"weights": source["weights"], "image_size": source["image_size"]}
    return shared_backbone(source["backbone"], **settings, seed=0)


def _labels(backbone, x):
    module = copy.deepcopy(backbone.module).to("cpu").eval()
    with torch.inference_mode():
        return torch.cat([module(part).argmax(1) for part in x.split(8)])
