"""Images of 13 channels, as those of a satellite, from arrays to an exported model."""

import pickle

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import TensorDataset

from sktransfer import Augmentation, FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import MultichannelPreprocessing, as_samples

N, C = 24, 13
BANDS = MultichannelPreprocessing(mean=[900.0] * C, std=[400.0] * C, size=(12, 12))
Y = np.arange(N) % 3
X = np.random.RandomState(0).randint(0, 2000, (N, 16, 14, C)).astype(np.uint16)
X[np.arange(N), :, :, Y] += 1500  # each class is bright in a band of its own


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    block = nn.Conv2d(C, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    deeper = nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()
    module = nn.Sequential(*block, *deeper)
    return load_backbone(module.eval(), preprocessing=BANDS)


def in_objects(*images):
    """Return an array of objects that holds images."""
    array = np.empty(len(images), dtype=object)
    for i, image in enumerate(images):
        array[i] = image
    return array


def classifier(backbone, **settings):
    model = FineTunedClassifier(backbone, freeze=1, max_epochs=2, random_state=0)
    return model.set_params(**settings)


@pytest.fixture(scope="module")
def fitted(backbone):
    return classifier(backbone).fit(X, Y)


@pytest.mark.parametrize(
    "X_same",
    [
        X.astype(np.float64),
        X.transpose(0, 3, 1, 2),
        [*X],
        torch.from_numpy(X.astype(np.float32)),
        [torch.from_numpy(image.astype(np.int64)) for image in X],
        in_objects(*X),
        pd.Series([*X], index=range(N, 0, -1)),
        pd.Series([torch.from_numpy(image.astype(np.int64)) for image in X]),
    ],
    ids=[
        "float64",
        "channels first",
        "list",
        "tensor",
        "list of tensors",
        "objects",
        "series",
        "series of tensors",
    ],
)
def test_arrays_of_any_form_are_the_same_samples(backbone, X_same):
    extractor = PretrainedFeatureExtractor(backbone)
    expected = extractor.fit_transform(X)
    forward_passes().clear()
    np.testing.assert_array_equal(extractor.transform(X_same), expected)
    assert not forward_passes()  # all are found in the store


def test_a_stored_activation_is_that_of_no_store(backbone, tmp_path):
    extractor = PretrainedFeatureExtractor(backbone, memory=tmp_path).fit(X)
    plain = clone(extractor).set_params(memory=None)
    found = [extractor.transform(X)]
    process_store().clear()
    found += [extractor.transform(X), plain.fit_transform(X)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_images_of_different_sizes(backbone):
    extractor = PretrainedFeatureExtractor(backbone).fit(X)
    others = [X[0], X[1][:10], X[2][:, :9]]
    features = extractor.transform(others)
    for i, image in enumerate(others):
        np.testing.assert_array_equal(features[[i]], extractor.transform(image[None]))


def test_fit_predict_and_search(backbone, fitted):
    assert fitted.score(X, Y) > 0.9
    search = GridSearchCV(classifier(backbone), {"freeze": [1, "all"]}, cv=2)
    assert search.fit(X, Y).best_score_ > 0.7
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    smaller = classifier(backbone, image_size=10).fit(X, Y)
    assert smaller.preprocessing_.size == (10, 10)


def test_exports(fitted, tmp_path):
    expected, pixels = fitted.predict_proba(X), torch.from_numpy(X.astype(np.float32))
    with torch.no_grad():
        found = fitted.to_torch()(pixels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    path = fitted.to_onnx(tmp_path / "bands.onnx", image_size=X.shape[1:3])
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {"images": pixels.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "augment",
    ["crop_flip", Augmentation("light", n_views=2), np.fliplr],
    ids=["fresh", "views", "array"],
)
def test_random_views(backbone, fitted, augment):
    model = classifier(backbone, augment=augment).fit(X, Y)
    assert (model.predict_proba(X) != fitted.predict_proba(X)).any()


def test_views_of_another_shape_are_refused(backbone):
    text = r"must return an array of shape \(h, w, 13\) or a tensor.*\(13, 14, 16\)"
    with pytest.raises(ValueError, match=text):
        classifier(backbone, augment=np.transpose).fit(X, Y)


def test_views_as_tensors(backbone):
    model = classifier(backbone, augment=lambda x: torch.from_numpy(x).permute(2, 0, 1))
    plain = classifier(backbone, augment=None).fit(X, Y)
    same = model.fit(X, Y)  # the views are the images
    np.testing.assert_array_equal(same.predict_proba(X), plain.predict_proba(X))


def test_colours_are_not_changed(backbone):
    text = r"one of \['auto', 'crop', 'crop_flip', 'light'\] for .* Got 'strong'"
    with pytest.raises(ValueError, match=text):
        classifier(backbone, augment="strong").fit(X, Y)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (X[..., :12], r"shape \(n, h, w, 13\) or .* Got shape \(24, 16, 14, 12\)"),
        (X[0], r"Got shape \(16, 14, 13\)"),
        ([X[0], X[1][..., :3]], r"Got \(16, 14, 3\) as sample 1"),
        (["a.tif"], "Got 'a.tif' as sample 0"),
        (X[:0], "X must have at least 1 sample. Got 0"),
        (X[:, :0], r"Got shape \(24, 0, 14, 13\)"),
        (X.astype(complex), "real numbers. Got dtype complex128"),
        (X.astype(object), "real numbers. Got dtype object"),
        (in_objects(X[0], X[1].astype(complex)), "Got dtype complex128"),
        (in_objects(X[0], X[1][..., :4]), r"Got \(16, 14, 4\) as sample 1"),
        (in_objects(X[0], "a"), r"Got 'a' as sample 1"),
        (pd.Series([X[0], X[1][..., 0]]), r"Got \(16, 14\) as sample 1"),
        (pd.Series([X[0], None]), "Got None as sample 1"),
        (np.array(None), r"or a list of such images.* Got array\(None, dtype=object\)"),
        (X.tolist(), r"Got \[(\[\.\.\.\], ){6}\.\.\.\] as sample 0"),
        (TensorDataset(torch.ones(3, 16, 14, C)), "or a list of such.*TensorDataset"),
    ],
)
def test_other_samples_are_refused(backbone, wrong, text):
    with pytest.raises(ValueError, match=text):
        PretrainedFeatureExtractor(backbone).fit(wrong)


@pytest.mark.parametrize("option", ["image_shape", "value_range"])
def test_parameters_of_pictures_are_refused(backbone, option):
    with pytest.raises(ValueError, match=f"`{option}` must be .* of several channels"):
        PretrainedFeatureExtractor(backbone, **{option: (0, 1)}).fit(X)


def test_missing_values_are_named(backbone):
    some = X.astype(np.float64)
    some[3, 0, 0, 5] = np.nan
    with pytest.raises(ValueError, match="sample 3.*it holds NaN or infinity"):
        PretrainedFeatureExtractor(backbone).fit_transform(some)
    lenient = PretrainedFeatureExtractor(backbone, on_error="warn").fit(X)
    with pytest.warns(UserWarning, match="1 of 24 samples cannot be read.*sample 3"):
        features = lenient.transform(some)
    assert np.isnan(features).all(axis=1).nonzero()[0].tolist() == [3]


def test_mapped_files_can_change(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = as_samples(np.load(tmp_path / "x.npy", mmap_mode="r"), BANDS)
    assert mapped.can_change(0) and not as_samples(X, BANDS).can_change(0)
    assert mapped.take([4, 2]).digest(1) == as_samples(X, BANDS).digest(2)
    with pytest.warns(UserWarning, match="^Sample 4 changed while samples were read"):
        mapped.take([4]).warn_of_change(0)


def test_the_last_axis_is_the_channels_where_the_first_fits_too():
    both, first = X[0][:C], X[1].transpose(2, 0, 1)  # (13, 14, 13), (13, 16, 14)
    samples = as_samples([both, first], BANDS)
    np.testing.assert_array_equal(samples[0], both)
    np.testing.assert_array_equal(samples[1], X[1])


def test_one_channel_may_have_no_axis():
    grey = MultichannelPreprocessing(mean=[0.5], std=[0.5], size=(8, 8))
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    extractor = PretrainedFeatureExtractor(load_backbone(module, preprocessing=grey))
    images = np.random.RandomState(0).uniform(size=(4, 8, 8))
    features = extractor.fit_transform(images)
    np.testing.assert_array_equal(extractor.transform(images[..., None]), features)
