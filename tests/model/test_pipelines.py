import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, config_context
from sktransfer.model import to_onnx, to_torch
from tests._networks import SmallNetwork

X = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
Y = np.arange(24) % 3


@pytest.fixture(autouse=True)
def _exact():
    with config_context(activation_dtype="float32", precision="float32"):
        yield


def fit(*steps, y=Y):
    return make_pipeline(PretrainedFeatureExtractor(SmallNetwork), *steps).fit(X, y)


TWO = np.array([*"ab"] * 12)
STEPS = {
    "classes": ([StandardScaler(), LogisticRegression()], Y),
    "two classes": ([StandardScaler(with_mean=False), LogisticRegression()], TWO),
    "discriminant": ([PCA(4, whiten=True), LinearDiscriminantAnalysis()], Y),
    "regression": ([MinMaxScaler(clip=True), "passthrough", Ridge()], Y / 2),
    "two targets": ([MaxAbsScaler(), Ridge()], np.stack([Y, -Y], axis=1)),
    "features": ([RobustScaler(with_scaling=False), PCA(3)], Y),
    "extractor": ([], Y),
}


@pytest.mark.parametrize(("steps", "y"), STEPS.values(), ids=STEPS)
def test_module_computes_what_the_pipeline_does(steps, y):
    pipeline = fit(*steps, y=y)
    names = ("predict_proba", "predict", "transform")
    name = next(name for name in names if hasattr(pipeline, name))
    expected = getattr(pipeline, name)(X)
    module = to_torch(pipeline)
    found = module(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == expected.shape
    classes = getattr(pipeline, "classes_", None) if name == "predict_proba" else None
    assert (module.classes_ is None) == (classes is None)
    if classes is not None:
        assert module.classes_.tolist() == classes.tolist()
        assert module.output_name == "probabilities"


def test_pipeline_as_an_onnx_file(tmp_path):
    import onnxruntime

    pipeline = fit(StandardScaler(), LogisticRegression())
    path = to_onnx(pipeline, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {"images": X[:5]})
    np.testing.assert_allclose(found, pipeline.predict_proba(X[:5]), atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["classes"] == "[0, 1, 2]"


def test_estimator_alone_is_exported():
    model = FineTunedClassifier(SmallNetwork, freeze="all").fit(X, Y)
    images = torch.from_numpy(X)
    assert torch.equal(to_torch(model)(images), model.to_torch()(images))


def test_steps_that_cannot_be_exported():
    with pytest.raises(TypeError, match="must be one of .*PCA.* Got Normalizer"):
        to_torch(fit(Normalizer()))
    with pytest.raises(TypeError, match="a linear regressor .* Got SVC"):
        to_torch(fit(SVC()))
    scaled = make_pipeline(StandardScaler()).fit(X.reshape(24, -1))
    with pytest.raises(TypeError, match="begins with one. Got StandardScaler"):
        to_torch(scaled)


def test_steps_that_are_not_linear_or_not_last_are_refused():
    with pytest.raises(TypeError, match="linear regressor .* Got PoissonRegressor"):
        to_torch(fit(StandardScaler(), PoissonRegressor(), y=Y / 2))
    between = fit(LinearDiscriminantAnalysis(), LogisticRegression())
    with pytest.raises(TypeError, match="Only the last step .* Got LinearDiscr"):
        to_torch(between)
