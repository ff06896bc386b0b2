import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.inspection._differentiable import Differentiable
from sktransfer.inspection._unwrap import read

EXACT = {"precision": "float32", "activation_dtype": "float32"}


def scores_of(estimator, X):
    found, samples = Differentiable.of(estimator), read(estimator, X)
    inputs = [found.to_input(samples[i]) for i in range(len(samples))]
    whole = found.network()
    with torch.no_grad():
        scores = torch.cat([whole(x) for x in inputs]).numpy()
        for boundary in ("1", found.end):
            first, rest = found.cut(boundary)
            again = torch.cat([rest(first(x)) for x in inputs])
            np.testing.assert_allclose(scores, again, atol=1e-5)
    return scores, found


def extractor(network, stage="5"):
    return PretrainedFeatureExtractor(network, stage=stage)


def test_scores_are_those_of_the_estimator(network, digits):
    X, y = digits
    trained = {"freeze": 5, "max_epochs": 1, "augment": None, "random_state": 0}
    linear = make_pipeline(
        extractor(network), StandardScaler(), LogisticRegression(max_iter=50)
    )
    with config_context(**EXACT):
        probe = FineTunedClassifier(network, freeze="all").fit(X[:60], y[:60])
        tuned = FineTunedClassifier(network, **trained).fit(X[:60], y[:60])
        search = GridSearchCV(linear, {"logisticregression__C": [1]}, cv=2)
        search.fit(X[:60], y[:60])
        for model, end in ((probe, "8"), (tuned, "8"), (search, "5")):
            scores, found = scores_of(model, X[60:65])
            expected = model.decision_function(X[60:65])
            np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
            assert found.end == found.last_map() == end
            assert found.classes.tolist() == [*range(10)]


def test_scores_of_two_classes_and_of_targets(network, digits):
    X, y = digits
    is_even = y % 2 == 0
    with config_context(**EXACT):
        pair = make_pipeline(extractor(network), LogisticRegression(max_iter=50))
        scores, found = scores_of(pair.fit(X[:60], is_even[:60]), X[60:65])
        margin = pair.decision_function(X[60:65])
        np.testing.assert_allclose(scores[:, 1] - scores[:, 0], margin, atol=1e-4)
        assert found.classes.tolist() == [False, True]
        ridge = make_pipeline(extractor(network), Ridge()).fit(X[:60], y[:60] / 9)
        scores, found = scores_of(ridge, X[60:65])
        expected = ridge.predict(X[60:65])
        np.testing.assert_allclose(scores[:, 0], expected, atol=1e-4)
        model = FineTunedRegressor(network, freeze="all").fit(X[:60], y[:60] / 9)
        scores, found = scores_of(model, X[60:65])
        np.testing.assert_allclose(
            model.model_.outputs.to_units(scores.astype(float)),
            model.predict(X[60:65]),
            atol=1e-4,
        )
        assert found.classes is None


def test_the_estimator_is_not_changed(network, digits):
    X, y = digits
    model = FineTunedClassifier(network, freeze=7, max_epochs=1, augment=None)
    model.fit(X[:40], y[:40])
    before = {k: v.clone() for k, v in model.module_.state_dict().items()}
    wanted = [p.requires_grad for p in model.module_.parameters()]
    found = Differentiable.of(model)
    for parameter in found.network().parameters():
        torch.nn.init.normal_(parameter)
    for name, value in model.module_.state_dict().items():
        assert torch.equal(value, before[name])
    assert [p.requires_grad for p in model.module_.parameters()] == wanted


def test_stages_that_are_no_map_raise(network, digits):
    X, y = digits
    with_head = torch.nn.Sequential(
        network, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    with_head.pretrained_cfg = network.pretrained_cfg
    model = FineTunedClassifier(with_head, freeze="all").fit(X[:40], y[:40])
    found = Differentiable.of(model)
    assert found.layout(found.last_map()).kind == "channels_first"
    pooled = found.backbone.stage_names[-1]
    if pooled != found.last_map():
        with pytest.raises(ValueError, match="`stage` must be one whose activation is"):
            found.check_map(pooled)
    assert found.check_map(1) == found.backbone.stage_names[0]


def test_stages_after_the_features_raise(network, digits):
    X, y = digits
    model = make_pipeline(extractor(network, "2"), LogisticRegression(max_iter=20))
    found = Differentiable.of(model.fit(X[:40], y[:40]))
    assert found.check_map("2") == "2"
    with pytest.raises(ValueError, match="`stage` must not be after '2', .* Got '3'"):
        found.check_map("3")


def test_networks_without_maps_raise(digits):
    X, y = digits[0].reshape(120, -1).astype(np.float32), digits[1]
    net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU())
    model = FineTunedClassifier(net, freeze="all").fit(X, y)
    with pytest.raises(
        ValueError, match="Grad-CAM needs a stage whose activation is a"
    ):
        Differentiable.of(model).last_map()


def test_what_predicts_nothing_or_is_not_linear_raises(network, digits):
    X, y = digits[0][:40], digits[1][:40]
    with pytest.raises(NotFittedError):
        Differentiable.of(FineTunedClassifier(network))
    features = extractor(network).fit(X)
    with pytest.raises(
        TypeError, match="Got a PretrainedFeatureExtractor, which predi"
    ):
        Differentiable.of(features)
    nearest = make_pipeline(features, KNeighborsClassifier()).fit(X, y)
    with pytest.raises(TypeError, match="must be one of .* Got KNeighborsClassifier"):
        Differentiable.of(nearest)
    several = make_pipeline(extractor(network, ["1", "2"]), LogisticRegression())
    text = r"need the features of one stage. Got those of \['1', '2'\]; set `stage`"
    with pytest.raises(ValueError, match=text):
        Differentiable.of(several.fit(X, y))
