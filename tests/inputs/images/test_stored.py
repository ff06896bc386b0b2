"""Images inside of larger files, as samples of estimators."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import digest_samples, forward_passes, process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import (
    UnreadableSampleError,
    as_samples,
    image_column,
    image_tar,
    iter_batches,
)
from tests._bad_input import LABELS, PREPROCESSING, empty_store, encoded
from tests._networks import SmallNetwork
from tests._stored import (
    FILES,
    HuggingFaceDataset,
    assert_equal,
    write_parquet,
    write_shards,
)

SOURCES = {
    "tar": lambda folder: image_tar(write_shards(folder))[0],
    "parquet": lambda folder: image_column(
        write_parquet(folder / "x.parquet"), "image"
    ),
    "dataset": lambda folder: image_column(HuggingFaceDataset(FILES), "image"),
    "column": lambda folder: HuggingFaceDataset(FILES)["image"],
}


@pytest.fixture(autouse=True)
def store(monkeypatch):
    return empty_store(monkeypatch)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(SmallNetwork)


@pytest.fixture(params=SOURCES)
def images(request, tmp_path):
    return SOURCES[request.param](tmp_path)


def test_features_are_those_of_files_and_computed_once(images, backbone, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(FILES))]
    for path, data in zip(paths, FILES, strict=True):
        path.write_bytes(data)
    extractor = PretrainedFeatureExtractor(backbone)
    expected = extractor.fit(paths).transform(paths)
    forward_passes().clear()
    assert_equal(extractor.fit(images).transform(images), expected)
    assert not forward_passes()
    process_store().clear()
    assert_equal(extractor.fit(images).transform(images), expected)
    assert {*forward_passes().values()} == {len(FILES)}


def test_folds_and_parts_of_the_images(tmp_path, backbone):
    images, labels = image_tar(write_shards(tmp_path))
    extractor = PretrainedFeatureExtractor(backbone)
    model = make_pipeline(extractor, LogisticRegression())
    expected = cross_val_predict(model, FILES, LABELS, cv=2, method="decision_function")
    for X in (images, [*images]):
        found = cross_val_predict(model, X, labels, cv=2, method="decision_function")
        assert_equal(found, expected)
    _, test = train_test_split(images, shuffle=False, test_size=3)
    expected = extractor.fit_transform(FILES)
    assert_equal(extractor.transform(test), expected[5:])
    assert_equal(extractor.transform(pd.Series(images)[::2]), expected[::2])


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_pickles_hold_places_and_no_images(kind, tmp_path):
    images = SOURCES[kind](tmp_path)
    images[0].read()
    pickled = pickle.dumps([*images, *images])
    assert len(pickled) < 1000 + 40 * len(images)
    assert [image.read() for image in pickle.loads(pickled)] == FILES * 2


def test_images_that_cannot_be_read_are_named(tmp_path, backbone):
    path = write_parquet(tmp_path / "x.parquet", [*FILES[:4], None, b""])
    images = image_column(path, "image")
    extractor = PretrainedFeatureExtractor(backbone).fit(images[:4])
    with pytest.raises(UnreadableSampleError, match=rf"sample 4 \('{path}, row 4'\)"):
        extractor.transform(images)
    with pytest.warns(UserWarning, match="2 of 6 samples cannot be read") as caught:
        features = extractor.set_params(on_error="warn").transform(images)
    assert np.isnan(features).any(axis=1).tolist() == [False] * 4 + [True] * 2
    message = str(caught[0].message)
    assert f"('{path}, row 4'): the value is missing (None)" in message


def test_an_image_that_changes_is_told(tmp_path, backbone):
    dataset = HuggingFaceDataset([*FILES])
    samples = as_samples(image_column(dataset, "image"), PREPROCESSING)
    samples.digests = digest_samples(samples)
    dataset.rows[2] = FILES[3]
    with pytest.warns(UserWarning, match="Sample 2 .'row 2 of the dataset'"):
        [*iter_batches(samples, PREPROCESSING, 4)]


def test_one_image_decides_how_many_bits_there_are(tmp_path):
    deep = np.arange(4, dtype=np.uint16).reshape(2, 2) * 16000
    files = [None, encoded(deep), encoded(deep[::-1])]
    images = image_column(write_parquet(tmp_path / "x.parquet", files), "image")
    samples = as_samples(images, PREPROCESSING, on_error="warn")
    assert samples.value_range == (0, 65535)
    assert np.asarray(samples[2])[0, 0].tolist() == [125] * 3
    assert samples.digest(2) == as_samples(files[1:], PREPROCESSING).digest(1)
