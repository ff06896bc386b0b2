"""Crops of photographs, and corruptions of known strength."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

SIDE = 192
CROPS = [
    image[top : top + SIDE, left : left + SIDE]
    for image in load_sample_images().images
    for top in (0, 120, 230)
    for left in (0, 200, 440)
]


def whole(pixels):
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def blurred(pixels, sigma):
    return whole(ndimage.gaussian_filter(pixels.astype(float), (sigma, sigma, 0)))


def noisy(pixels, sigma, *, grey=False, seed=0):
    shape = (*pixels.shape[:2], 1) if grey else pixels.shape
    return whole(pixels + sigma * np.random.RandomState(seed).normal(size=shape))


def jpeg(pixels, quality):
    """Encode as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))
