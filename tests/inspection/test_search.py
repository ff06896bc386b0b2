import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection._search import read_search

FEATURES = "pretrainedfeatureextractor"


def fitted(search, params, *, refit=False, metric="score"):
    """Give a search results, as if it had been fitted."""
    n = len(params)
    search.cv_results_ = {
        "params": params,
        f"mean_test_{metric}": np.linspace(0.5, 0.9, n),
        f"std_test_{metric}": np.full(n, 0.1),
        "mean_fit_time": np.arange(n),
        "std_fit_time": np.zeros(n),
    }
    return search


def search_of(**grid):
    return GridSearchCV(FineTunedClassifier(), grid)


def test_depths_are_named_and_in_order():
    params = [{"freeze": v} for v in ("all", 2, "none", 0.5, "blocks.2.0", "auto", -1)]
    found = read_search(fitted(search_of(), params), None, None, "score")
    names = ["conv_head", "blocks.0", "nothing", "blocks.2", "blocks.2.0", "auto"]
    assert found.table["depth"].tolist() == [*names, "blocks.6"]
    assert found.stages == [
        *["nothing", "blocks.0", "blocks.2.0", "blocks.2", "blocks.6", "conv_head"],
        "auto",
    ]
    assert (found.score_name, found.depth_name) == ("accuracy", "Frozen up to")
    assert found.table["fit_time"].tolist() == [*range(7)]


def test_other_parameters_make_lines():
    params = [{"freeze": f, "lr": lr} for f in (1, 2) for lr in (0.1, 1e-5)]
    search = fitted(search_of(), params)
    search.best_index_ = 3
    found = read_search(search, None, None, "score")
    assert found.table["label"].tolist() == ["lr=0.1", "lr=1e-05"] * 2
    assert found.best == 3
    best = read_search(search, None, [], "score")  # one line, of the best at each depth
    assert best.table["score"].tolist() == pytest.approx([0.5 + 0.4 / 3, 0.9])
    assert best.best == 1
    with pytest.raises(ValueError, match=r"`lines` must be .* \['lr'\]. Got 'C'\."):
        read_search(search, None, ["C"], "score")


def test_many_other_values_are_one_line():
    params = [{"freeze": 1, "lr": lr} for lr in np.linspace(0.1, 0.2, 8)]
    found = read_search(fitted(search_of(), params), None, None, "score")
    assert found.table[["label", "score"]].to_numpy().tolist() == [["", 0.9]]


def test_stages_of_features_in_a_pipeline():
    pipeline = make_pipeline(PretrainedFeatureExtractor(), LogisticRegression())
    params = [{f"{FEATURES}__stage": s} for s in ("last", 1, ["blocks.1", "stem"])]
    search = GridSearchCV(pipeline, {}, scoring="neg_log_loss")
    found = read_search(fitted(search, params), None, None, "score")
    assert found.stages == ["stem", "blocks.1", "conv_head"]
    assert found.table["depth"].tolist() == ["conv_head", "stem", "blocks.1"]
    assert found.score_name == "negative log loss"
    assert found.depth_name == "Features after"


def test_several_backbones_have_numbers_of_stages():
    params = [
        {"backbone": b, "freeze": f}
        for b in ("efficientnet_lite0", "torchvision/resnet18")
        for f in ("all", 1, "auto")
    ]
    found = read_search(fitted(search_of(), params), None, ["backbone"], "score")
    depths = ["9", "1", "auto"], found.table["depth"][3:].tolist()
    assert found.table["depth"][:3].tolist() == depths[0]
    assert depths[1][1:] == ["1", "auto"]
    assert found.stages[0] == "1"
    assert found.stages[-1] == "auto"


def test_candidates_without_a_depth_have_that_of_the_estimator():
    search = GridSearchCV(FineTunedClassifier(freeze=1), {})
    found = read_search(fitted(search, [{"freeze": 2}, {"C": 3}]), None, None, "score")
    assert found.table["depth"].tolist() == ["blocks.0", "stem"]
    assert found.table["label"].tolist() == ["", "C=3"]


def test_names_of_scores():
    params = [{"freeze": 1}]
    search = fitted(search_of(), params, metric="top_k")
    assert read_search(search, None, None, "top_k").score_name == "top k"
    with pytest.raises(ValueError, match=r"`metric` must be one of \['top_k'\]"):
        read_search(search, None, None, "score")
    search = fitted(search_of(), params)
    search.scoring = max
    assert read_search(search, None, None, "score").score_name == "max"
    search.scoring = make_scorer(max)
    assert read_search(search, None, None, "score").score_name == "score"


def test_unclear_searches_raise():
    with pytest.raises(NotFittedError):
        read_search(search_of(), None, None, "score")
    search = fitted(search_of(), [{"C": 1}])
    with pytest.raises(ValueError, match=r"must vary `freeze` or .* over \['C'\]"):
        read_search(search, None, None, "score")
    search = fitted(search_of(), [{"freeze": 1, "a__stage": 1}])
    with pytest.raises(ValueError, match="`depth` must say which"):
        read_search(search, None, None, "score")
    with pytest.raises(ValueError, match=r"`depth` must be a searched parameter: .* x"):
        read_search(search, "x", None, "score")


def test_refitted_search_names_the_stages_of_its_network(probe, digits):
    search = GridSearchCV(probe, {"freeze": ["all"]}, cv=2)
    search.fit(digits[0][:60], digits[1][:60])
    found = read_search(search, None, None, "score")
    assert found.stages == ["8"]
    assert found.table["score"][0] == search.best_score_
