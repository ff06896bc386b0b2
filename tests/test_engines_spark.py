"""Workers of Spark, in its local mode."""

import os
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sktransfer import PretrainedFeatureExtractor, config_context
from tests._guide import run_block

N = 24
X, _ = load_digits(n_class=3, return_X_y=True)
X = np.uint8(X[:N].reshape(N, 8, 8) * 15)

pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    # Spark 4 knows pandas 2 and works with pandas 3.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully:FutureWarning"),
]


@pytest.fixture(scope="module")
def spark():
    """Start Spark with one thread, which tries a task twice."""
    from pyspark.sql import SparkSession

    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        builder = SparkSession.builder.master("local[1, 2]").config(map=options)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


@pytest.fixture
def paths(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(N)]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def extractor(paths):
    return PretrainedFeatureExtractor(image_size=32, stage="blocks.1").fit(paths)


@pytest.fixture
def names(spark, extractor, paths):
    """Return the names of the guide after it has defined features of Spark."""
    with config_context(slim_pickles=True):
        names = {"spark": spark, "extractor": extractor, "paths": paths}
        return run_block("engines", "pandas_udf", names)


def by_path(rows):
    rows = {row["path"].removeprefix("file:"): row["features"] for row in rows}
    return {path: np.float32(features) for path, features in rows.items()}


def test_features_of_spark(names, spark, extractor, paths, tmp_path):
    expected = dict(zip(paths, extractor.transform(paths), strict=True))
    found = by_path(names["images"].collect())
    files = spark.read.format("binaryFile").load(str(tmp_path / "*.png"))
    read = files.withColumn("features", names["features"]("content"))
    for rows in (found, by_path(read.select("path", "features").collect())):
        assert rows.keys() == expected.keys()
        assert all(np.array_equal(rows[path], expected[path]) for path in paths)


class DiesOnce:
    """Transformer that kills the worker in the first call."""

    def __init__(self, extractor, marker):
        self.extractor, self.marker = extractor, marker

    def transform(self, X):
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return self.extractor.transform(X)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_worker_of_spark_that_dies_costs_its_task(spark, extractor, paths, tmp_path):
    dies = DiesOnce(extractor, str(tmp_path / "marker"))
    names = {"spark": spark, "extractor": dies, "paths": paths}
    found = by_path(run_block("engines", "pandas_udf", names)["images"].collect())
    assert (tmp_path / "marker").exists()
    got = np.vstack([found[path] for path in paths])
    assert np.array_equal(got, extractor.transform(paths))
