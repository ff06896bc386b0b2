"""Images as they seldom come: the same answers as for plain ones."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image

from tests._bad_input import (
    FRACTIONS,
    IMAGES,
    LABELS,
    MODELS,
    VectorNetwork,
    answers,
    assert_close,
    assert_same,
    classifier,
    empty_store,
    encoded,
    extractor,
    make_backbone,
    paths_of,
    regressor,
    write_files,
)


@pytest.fixture(scope="module")
def backbone():
    return make_backbone()


@pytest.fixture(autouse=True)
def store(monkeypatch):
    return empty_store(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def fitted(backbone):
    """One model of each kind, which no test changes, and its answers."""
    models = {kind: make(backbone).fit(IMAGES, LABELS) for kind, make in MODELS.items()}
    return {kind: (model, answers(model)) for kind, model in models.items()}


@pytest.mark.parametrize(
    "convert",
    [torch.tensor, lambda y: torch.tensor(y).bfloat16().requires_grad_(), np.float16],
)
def test_y_of_another_kind_is_the_same(convert, backbone):
    for make in (classifier, regressor):
        expected = make(backbone).fit(IMAGES, LABELS)
        actual = make(backbone).fit(IMAGES, convert(LABELS))
        assert_same(answers(actual), answers(expected))


def memory_mapped(images, folder):
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


def read_only(images):
    images = images.copy()
    images.flags.writeable = False
    return images


def frame(images):
    pictures = [Image.fromarray(image) for image in images]
    return pd.Series(pictures, index=[7] * len(images), dtype=object)


GOOD = {
    "read-only": lambda X, _: read_only(X),
    "memory-mapped": memory_mapped,
    "not contiguous": lambda X, _: np.repeat(X, 2, axis=2)[:, :, ::2],
    "reversed": lambda X, _: X[::-1].copy()[::-1],
    "Fortran": lambda X, _: np.asfortranarray(X),
    "big-endian": lambda X, _: X.astype(">u2") * 257,
    "big-endian floats": lambda X, _: (X / 255).astype(">f8"),
    "float16": lambda X, _: X.astype(np.float16),
    "int64": lambda X, _: X.astype(np.int64),
    "list": lambda X, _: list(X),
    "nested lists": lambda X, _: X.tolist(),
    "objects": lambda X, _: np.array([*X, None], dtype=object)[:-1],
    "mixed kinds": lambda X, _: [
        encoded(X[0]),
        Image.fromarray(X[1]),
        torch.tensor(X[2]),
        *X[3:],
    ],
    "duplicated index": lambda X, _: frame(X),
    "frame": lambda X, _: frame(X).to_frame("image"),
    "channels first": lambda X, _: X.transpose(0, 3, 1, 2),
    "gradient": lambda X, _: torch.tensor(X / 255, requires_grad=True),
    "bfloat16": lambda X, _: torch.tensor(X).bfloat16(),
    "not contiguous tensor": lambda X, _: torch.tensor(X).permute(0, 3, 1, 2),
}


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("kind", MODELS)
def test_same_answer_for_images_of_another_kind(kind, name, backbone, tmp_path, fitted):
    plain, expected = fitted[kind]
    X = GOOD[name](IMAGES, tmp_path)
    given = {"value_range": (0, 255)} if name.endswith("float16") else {}
    model = MODELS[kind](backbone, **given).fit(X, LABELS)
    assert_close(answers(model, X), expected)
    if model.value_range_ in (None, (0, 255)):
        assert_same(answers(plain, X), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20_000), (20_000, 3)])
def test_extreme_sizes(height, width, backbone, tmp_path):
    pixels = np.random.RandomState(1).randint(0, 256, (height, width, 3), np.uint8)
    path = tmp_path / "extreme.png"
    Image.fromarray(pixels).save(path)
    images = [*IMAGES[1:], pixels]
    for make in (extractor, classifier):
        model = make(backbone).fit(images, LABELS)
        expected = answers(model, images)
        assert all(np.isfinite(values).all() for values in expected)
        paths = [*IMAGES[1:], path]
        assert_close(answers(make(backbone).fit(paths, LABELS), paths), expected)


def test_one_pixel_fills_the_input(backbone):
    one, many = np.full((1, 1, 1, 3), 77, np.uint8), np.full((1, 9, 9, 3), 77, np.uint8)
    model = extractor(backbone).fit(IMAGES)
    np.testing.assert_array_equal(model.transform(one), model.transform(many))


@pytest.mark.parametrize("kind", MODELS)
def test_other_kind_of_image_at_use_than_at_fit(kind, backbone, folder, fitted):
    paths = paths_of(folder)
    by_path = MODELS[kind](backbone).fit(paths, LABELS)
    by_array, expected = fitted[kind]
    by_fraction = MODELS[kind](backbone).fit(FRACTIONS, LABELS)
    assert_same(answers(by_array, paths), expected)
    for X in (IMAGES, FRACTIONS):
        assert_close(answers(by_path, X), expected)
    for X in (FRACTIONS, paths):
        assert_same(answers(by_fraction, X), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_other_range_at_use_than_at_fit(kind, backbone):
    by_array = MODELS[kind](backbone).fit(IMAGES, LABELS)
    by_fraction = MODELS[kind](backbone).fit(FRACTIONS, LABELS)
    message = r"Values must be within `value_range`=\(0, 1\). Got 172 in sample 0; scal"
    with pytest.raises(ValueError, match=message):
        by_fraction.transform(IMAGES)
    message = r"`value_range` is \(0, 255\), but .* between 0 and 1: all .* nearly blac"
    with pytest.warns(UserWarning, match=message):
        by_array.transform(FRACTIONS)


def test_gray_at_use_and_colour_at_fit(backbone):
    model = classifier(backbone).fit(IMAGES, LABELS)
    gray = IMAGES[..., 0]
    as_colour = np.repeat(gray[..., None], 3, axis=3)
    assert_same(answers(model, gray), answers(model, as_colour))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda X: X[:0], ValueError, r"Found array with 0 sample\(s\)"),
        (lambda X: np.full_like(X, np.nan), ValueError, "Input X contains NaN"),
        (lambda X: np.full_like(X, np.inf), ValueError, "Input X contains infinity"),
        (lambda X: X[:, :4], ValueError, "X has 4 features, but .* is expecting 5"),
        (lambda X: X[0], ValueError, "Expected 2D array, got 1D array"),
        (lambda X: X[:, :0], ValueError, "0 feature"),
        (scipy.sparse.csr_array, TypeError, "Sparse data was passed"),
        (lambda X: iter(X), TypeError, "iterator"),
        (lambda X: torch.tensor(X).to_sparse(), TypeError, r"pass `X.to_dense\(\)`"),
    ],
)
def test_vectors(make, error, message):
    X = np.random.RandomState(0).rand(8, 5).astype(np.float32)
    for model in (extractor(VectorNetwork), classifier(VectorNetwork)):
        expected = answers(model.fit(X, LABELS), X)
        with pytest.raises(error, match=message):
            model.transform(make(X))
        assert_same(answers(model, X), expected)
        tensor = torch.tensor(X, requires_grad=True)
        assert_same(answers(model, tensor), expected)
        assert_same(answers(model.fit(tensor, torch.tensor(LABELS)), X), expected)
