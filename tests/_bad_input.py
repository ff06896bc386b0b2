"""Images and what is none, models that look at them, and what they should say."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.activations import _pass, process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing, UnreadableSampleError

IMAGES = np.random.RandomState(0).randint(0, 256, (8, 10, 12, 3)).astype(np.uint8)
LABELS = np.array([0, 1] * 4)
FRACTIONS = IMAGES / 255
PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)


def encoded(image, format="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format)
    return buffer.getvalue()


def with_value(value, where=(3, 0, 0, 0)):
    images = FRACTIONS.copy()
    images[where] = value
    return images


def make_backbone():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()
    return load_backbone(nn.Sequential(*layers), preprocessing=PREPROCESSING)


class VectorNetwork(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(4), nn.ReLU())


def empty_store(monkeypatch):
    """Empty the store, and let keeping be free, so that all is kept."""
    choose = _pass.choose

    def choose_free(measured, n_samples, budget):
        free = [replace(price, keep_seconds=0.0) for price in measured]
        return choose(free, n_samples, budget)

    monkeypatch.setattr(_pass, "choose", choose_free)
    process_store().clear()
    return process_store()


def contents(store):
    """Digests of the samples that something is stored of."""
    return {key[16:] for key in store._rows}


def write_files(folder):
    """Write eight images, and what is none."""
    for row, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{row}.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(encoded(IMAGES[0])[:200])
    large = np.tile(IMAGES[0], (9, 9, 1))
    (folder / "cut.jpg").write_bytes(encoded(large, "JPEG")[:3000])
    (folder / "text.png").write_bytes(b"Dear all, this is a text.")
    (folder / "sub").mkdir()
    return folder


def paths_of(folder, *more):
    return [str(folder / f"{row}.png") for row in range(8)] + [
        str(folder / name) for name in more
    ]


def extractor(backbone, **settings):
    return PretrainedFeatureExtractor(backbone, random_state=0, **settings)


def classifier(backbone, **settings):
    settings = {"freeze": 1, "max_epochs": 1, "C": 1.0, "random_state": 0, **settings}
    return FineTunedClassifier(backbone, **settings)


def regressor(backbone):
    return FineTunedRegressor(backbone, freeze=1, max_epochs=1, random_state=0)


MODELS = {
    "extractor": extractor,
    "classifier": classifier,
    "head": lambda backbone, **settings: classifier(backbone, freeze="all", **settings),
}
USES = ["transform", "predict", "predict_proba", "decision_function"]


def first_use(model, X):
    """Bring X to where every sample has been looked at."""
    n_samples = 8 + isinstance(X, list | pd.Series)
    model.fit(X, np.arange(n_samples) % 2)
    if isinstance(model, PretrainedFeatureExtractor):
        model.transform(X)


def answers(model, X=IMAGES):
    names = [name for name in USES if hasattr(model, name)]
    return [getattr(model, name)(X) for name in names]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(actual, expected):
    """Compare what equal samples give that came in another order: rounding differs."""
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


class Broken(Dataset):
    """Gives images, and fails at two of them."""

    samples = [(f"{row}.tif", row % 2) for row in range(8)]

    def __init__(self, *bad):
        self.bad = bad

    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row in self.bad:
            raise KeyError("page")
        return FRACTIONS[row], row % 2


SAMPLE = r"readable images. Got sample {}, which is not; replace it or leave it out. "
SAMPLE += r"The reason: {}"
PATH = SAMPLE.format(r"8 \('.*{}'\)", "{}")
COLLECTION = r"X must be a collection with a length and an order: .*Got {}"
CHANNELS = (
    r"1, 3 or 4 channels in its last axis, or 1 or 3 in its first. Got shape \({}"
)

# Name: (X as made from a folder, exception, text of its message).
NO_COLLECTION = {
    "empty list": (lambda _: [], ValueError, "at least 1 sample. Got 0"),
    "empty array": (lambda _: IMAGES[:0], ValueError, "at least 1 sample. Got 0"),
    "None": (lambda _: None, TypeError, COLLECTION.format(r"NoneType\.$")),
    "number": (lambda _: 3, TypeError, COLLECTION.format(r"int\.$")),
    "no axis": (lambda _: np.array(3.0), TypeError, r"Got a single value; .*\[X\]"),
    "path": (lambda _: "a.png", TypeError, r"Got one str; pass a list, `\[X\]`"),
    "generator": (
        lambda _: (image for image in IMAGES),
        TypeError,
        COLLECTION.format(r"generator; pass `list\(X\)`"),
    ),
    "set": (lambda _: {"a.png"}, TypeError, COLLECTION.format("set; pass `list")),
    "dict": (lambda _: {"a": 1}, TypeError, COLLECTION.format("dict; pass `list")),
    "sparse": (
        lambda _: scipy.sparse.csr_array(IMAGES[0, :, :, 0]),
        TypeError,
        r"X must be dense. Got a sparse csr_array; pass `X.toarray\(\)`",
    ),
    "sparse tensor": (
        lambda _: torch.zeros(2, 3, 8, 8).to_sparse(),
        TypeError,
        r"dense. Got a tensor of layout torch.sparse_coo; pass `X.to_dense\(\)`",
    ),
    "tensor without values": (
        lambda _: torch.zeros(8, 3, 8, 8, device="meta"),
        TypeError,
        "must have values. Got a tensor on the device 'meta'",
    ),
    "tensor without values in a list": (
        lambda _: [torch.zeros(3, 8, 8, device="meta")] * 8,
        TypeError,
        "must have values. Got a tensor on the device 'meta'",
    ),
    "two columns": (
        lambda _: np.array([["a.png", "b"]] * 8),
        TypeError,
        r"one column of images, or all numbers. Got str_ .*\(8, 2\); select",
    ),
}
NO_FILES = {
    "missing file": (
        lambda folder: paths_of(folder, "no.png"),
        UnreadableSampleError,
        PATH.format("no.png", "the file does not exist; relative paths start at '/"),
    ),
    "folder": (
        lambda folder: paths_of(folder, "sub"),
        UnreadableSampleError,
        PATH.format("sub", "it is a directory; pass the files in it"),
    ),
    "zero bytes": (
        lambda folder: paths_of(folder, "empty.png"),
        UnreadableSampleError,
        PATH.format("empty.png", "it is empty, of 0 bytes"),
    ),
    "truncated": (
        lambda folder: paths_of(folder, "cut.png"),
        UnreadableSampleError,
        PATH.format("cut.png", "image file is truncated"),
    ),
    "truncated photo": (
        lambda folder: paths_of(folder, "cut.jpg"),
        UnreadableSampleError,
        PATH.format("cut.jpg", "image file is truncated"),
    ),
    "text": (
        lambda folder: paths_of(folder, "text.png"),
        UnreadableSampleError,
        PATH.format("text.png", "it is no image that Pillow .* begins with b'Dear all"),
    ),
    "bytes": (
        lambda _: [*map(encoded, IMAGES), b"Dear all"],
        UnreadableSampleError,
        SAMPLE.format(8, "it is no image that Pillow .* begins with b'Dear all'"),
    ),
    "no path": (
        lambda folder: [*paths_of(folder), "Dear all"],
        UnreadableSampleError,
        SAMPLE.format(r"8 \('Dear all'\)", "the file does not exist"),
    ),
    "None in a column": (
        lambda folder: pd.Series([*paths_of(folder), None], dtype=object),
        UnreadableSampleError,
        SAMPLE.format(8, r"the value is missing \(None\)"),
    ),
    "NaN in a column": (
        lambda folder: pd.Series([*paths_of(folder), np.nan], index=[4] * 9),
        UnreadableSampleError,
        SAMPLE.format(8, r"the value is missing \(nan\)"),
    ),
    "mixed kinds": (
        lambda folder: np.array([*paths_of(folder), 3], dtype=object),
        TypeError,
        r"A sample must be a path, .*Got 3 \(int\) as sample 8",
    ),
    "dataset": (
        lambda _: Broken(2, 5),
        UnreadableSampleError,
        SAMPLE.format(r"2 \('2.tif'\)", "KeyError: 'page'"),
    ),
    "first of a dataset": (
        lambda _: Broken(0),
        UnreadableSampleError,
        SAMPLE.format(r"0 \('0.tif'\)", "KeyError: 'page'"),
    ),
}
RANGE = r"look normalised already.* Got values from {}.*pass `value_range=|"
RANGE += r"Values must be within `value_range`=\(0, 255\). Got .* in sample 0; scale"
NO_ARRAYS = {
    "NaN": (
        lambda _: with_value(np.nan),
        ValueError,
        "must not hold NaN or infinity. Got one in sample 3; drop the sample or fill",
    ),
    "infinity": (
        lambda _: with_value(np.inf),
        ValueError,
        "must not hold NaN or infinity. Got one in sample 3; drop the sample or fill",
    ),
    "negative": (lambda _: FRACTIONS - 0.5, ValueError, RANGE.format("-0.5 to 0.5")),
    "normalised": (
        lambda _: (FRACTIONS - 0.45) / 0.22,
        ValueError,
        RANGE.format("-2.04545 to 2.5"),
    ),
    "negative int64": (
        lambda _: IMAGES.astype(np.int64) - 9,
        ValueError,
        r"from -9 to 246.*; clip them, as by `X.clip\(0, 255\)`, and pass `value_|"
        r"Values must be within `value_range`=\(0, 255\). Got .* in sample 0; scale",
    ),
    "huge int64": (
        lambda _: IMAGES.astype(np.int64) * 1000,
        ValueError,
        r"within .* from 0 to 255000, .*; pass `value_range=|Got 172000 in sample 0; ",
    ),
    "five axes": (
        lambda _: IMAGES[None],
        ValueError,
        r"must have 2 .* 3 .* or 4 .* dimensions. Got 5, shape \(1, 8, 10, 12, 3\)",
    ),
    "channels between": (
        lambda _: IMAGES.transpose(0, 1, 3, 2),
        ValueError,
        CHANNELS.format("10, 3, 12"),
    ),
    "two channels": (
        lambda _: IMAGES[..., :2],
        ValueError,
        CHANNELS.format("10, 12, 2"),
    ),
    "five channels": (
        lambda _: IMAGES[..., [0, 1, 2, 0, 1]],
        ValueError,
        CHANNELS.format("10, 12, 5"),
    ),
    "one of five channels": (
        lambda _: [*IMAGES, IMAGES[0][..., [0, 1, 2, 0, 1]]],
        UnreadableSampleError,
        SAMPLE.format(8, f".*{CHANNELS.format('10, 12, 5')}"),
    ),
    "flat rows": (
        lambda _: IMAGES.reshape(8, -1),
        ValueError,
        "Flat rows of 360 values need `image_shape` to become images",
    ),
    "complex": (lambda _: FRACTIONS * 1j, ValueError, "Complex data not supported"),
    "dates": (
        lambda _: np.zeros((2, 8, 8), "datetime64[s]"),
        TypeError,
        "must be real numbers or bool. Got dtype datetime64",
    ),
}
BAD = {**NO_COLLECTION, **NO_FILES, **NO_ARRAYS}
