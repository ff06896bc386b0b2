"""Workers of a cluster of Dask."""

import os
import signal
from functools import partial

import joblib
import numpy as np
import pytest
from dask import array, bag
from dask.distributed import Client, LocalCluster
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
    get_config,
    set_config,
)
from sktransfer.activations import forward_passes

N = 24
X, Y = load_digits(n_class=3, return_X_y=True)
X, Y = np.uint8(X[:N].reshape(N, 8, 8) * 15), Y[:N]


@pytest.fixture(scope="module")
def client():
    """Start two worker processes, as on a machine of a cluster."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def extractor():
    return PretrainedFeatureExtractor(image_size=32, stage="blocks.1").fit(X)


@pytest.fixture
def slim():
    """Send estimators without frozen weights, which each worker loads itself."""
    with config_context(slim_pickles=True):
        yield


def settings_of(model):
    return get_config()


def count_samples():
    counts = forward_passes().items()
    return sum(n for (_, start, _), n in counts if start == "input")


def test_workers_of_dask_share_the_store_and_the_settings(client, tmp_path):
    model = FineTunedClassifier(image_size=32, freeze="all", memory=tmp_path)
    settings = {"cv": 3, "refit": False}
    search = GridSearchCV(model, {"C": [0.1, 1.0]}, **settings)
    with config_context(activation_dtype="float32"):
        with joblib.parallel_config(backend="dask"):
            search.fit(X, Y)
        sent = client.gather(client.map(settings_of, [model] * 4, pure=False))
        assert [found["activation_dtype"] for found in sent] == ["float32"] * 4
        assert sum(client.run(count_samples).values()) == N
        alone = GridSearchCV(model, {"C": [0.1, 1.0]}, **settings).fit(X, Y)
    for key in ("split0_test_score", "split1_test_score", "split2_test_score"):
        assert np.array_equal(search.cv_results_[key], alone.cv_results_[key])


def test_settings_of_all_workers(client):
    def precisions():
        found = client.map(settings_of, range(4), pure=False)
        return {settings["precision"] for settings in client.gather(found)}

    for precision in ("float32", "auto"):
        client.run(set_config, precision=precision)
        assert precisions() == {precision}


@pytest.mark.usefixtures("client", "slim")
def test_features_of_collections_of_dask(extractor, tmp_path):
    expected = extractor.transform(X)
    blocks = array.from_array(X, chunks=(8, 8, 8))
    features = blocks.map_blocks(
        extractor.transform,
        drop_axis=2,
        chunks=(blocks.chunks[0], expected.shape[1]),
        dtype=expected.dtype,
        meta=np.empty((0, 0), expected.dtype),
    )
    assert features.shape == expected.shape
    assert np.array_equal(features.compute(), expected)
    paths = [str(tmp_path / f"{i}.png") for i in range(N)]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    parts = bag.from_sequence(paths, npartitions=2).map_partitions(
        lambda part: extractor.transform(list(part))
    )
    assert np.array_equal(
        np.vstack(parts.to_delayed()[0].compute()), expected[: N // 2]
    )


def _transform_or_die(extractor, part, marker):
    """Kill the worker in the first call."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return extractor.transform(part)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_worker_of_dask_that_dies_costs_its_task_only(
    client, extractor, slim, tmp_path
):
    run = partial(_transform_or_die, extractor, marker=str(tmp_path / "marker"))
    parts = client.map(run, [X[:8], X[8:16], X[16:]], pure=False)
    assert np.array_equal(np.vstack(client.gather(parts)), extractor.transform(X))
