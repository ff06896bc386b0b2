"""Workers of a cluster of Ray."""

import os
import shutil
import signal
import tempfile

import joblib
import numpy as np
import pytest
from joblib.pool import PicklingPool
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
    get_config,
)
from sktransfer.activations import forward_passes
from tests._guide import run_block

N = 24
X, Y = load_digits(n_class=3, return_X_y=True)
X, Y = np.uint8(X[:N].reshape(N, 8, 8) * 15), Y[:N]


@pytest.fixture(scope="module")
def ray():
    """Start a cluster on this machine, which leaves nothing behind."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path, as it holds sockets
    bases = PicklingPool.__bases__  # which Ray's backend of joblib replaces for good
    settings = {
        "num_cpus": 2,
        "object_store_memory": 100 * 2**20,
        "include_dashboard": False,
        "log_to_driver": False,
        "_node_ip_address": "127.0.0.1",  # which it asks the network for otherwise
        "_temp_dir": folder,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TQDM_PATCH_PRINT", "0")  # other tests print, too
        patch.setenv("RAY_worker_niceness", "0")  # as tests beside it have
        import ray  # which reads these at import

        ray.init(**settings)
        yield ray
        ray.shutdown()
        PicklingPool.__bases__ = bases
    shutil.rmtree(folder, ignore_errors=True)


def scores(model, X, y):
    """Return a score, what this worker has computed so far, and a setting."""
    counts = forward_passes().items()
    return {
        "score": model.score(X, y),
        "worker": os.getpid(),
        "computed": sum(n for (_, start, _), n in counts if start == "input"),
        "budget": get_config()["memory_budget"],
    }


def column(search, name):
    """Return what `scores` returned for each candidate and fold, under one name."""
    return np.array([search.cv_results_[f"split{i}_test_{name}"] for i in range(3)])


def make_search(memory, scoring):
    model = FineTunedClassifier(image_size=32, freeze="all", memory=memory)
    settings = {"cv": 3, "refit": False}
    return GridSearchCV(model, {"C": [0.1, 1.0]}, scoring=scoring, **settings)


@pytest.mark.usefixtures("ray")
def test_workers_of_ray_share_the_store_and_the_settings(tmp_path):
    search = make_search(tmp_path, scores)
    with config_context(memory_budget=0):
        run_block("engines", "register_ray", {"search": search, "paths": X, "y": Y})
        alone = make_search(None, scores).fit(X, Y)
    assert (column(search, "budget") == 0).all()
    workers, computed = column(search, "worker"), column(search, "computed")
    assert sum(computed[workers == worker].max() for worker in {*workers.flat}) == N
    assert np.array_equal(column(search, "score"), column(alone, "score"))


# `ray.data` sets options that it has deprecated, and calls pandas as before.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")
@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")
@pytest.mark.usefixtures("ray")
def test_features_of_an_actor_pool_of_ray(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(N)]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    extractor = PretrainedFeatureExtractor(image_size=32, stage="blocks.1").fit(paths)
    with config_context(slim_pickles=True):
        names = {"extractor": extractor, "paths": paths}
        table = run_block("engines", "map_batches", names)["features"].to_pandas()
    rows = dict(zip(table["path"], table["features"], strict=True))
    got = np.vstack([rows[path] for path in paths])
    assert np.array_equal(got, extractor.transform(paths))


class DiesOnce:
    """Scoring that kills the worker in the first call."""

    def __init__(self, marker):
        self.marker = marker

    def __call__(self, model, X, y):
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return model.score(X, y)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_worker_of_ray_that_dies_costs_its_task_if_restarts_are_asked_for(
    ray, tmp_path
):
    search = make_search(tmp_path, DiesOnce(tmp_path / "marker"))
    run_block("engines", "register_ray", {"search": search, "paths": X, "y": Y})
    alone = make_search(None, None).fit(X, Y)
    name = "mean_test_score"
    assert np.array_equal(search.cv_results_[name], alone.cv_results_[name])
    search = make_search(tmp_path, DiesOnce(tmp_path / "another"))
    with joblib.parallel_config(backend="ray", n_jobs=2):
        with pytest.raises(ray.exceptions.ActorDiedError, match="died unexpectedly"):
            search.fit(X, Y)
