from unittest.mock import patch

import numpy as np
import pytest

from sktransfer.advice import (
    BackboneRanker,
    lda_score,
    list_scores,
    register_score,
)
from sktransfer.advice._registry import SCORES, find_score
from sktransfer.inspection import RankingDisplay


@pytest.fixture(autouse=True)
def _registered():
    with patch.dict(SCORES):
        yield


def spread(features, y, regression=False):
    return features.std() + 100 * regression


def test_registered_score_ranks_by_name(make_small, digits):
    register_score("spread", spread, regression=True)
    assert {"spread", "lda", "leep"} < {*list_scores()}
    X, y = digits
    ranker = BackboneRanker([make_small()], scorer="spread").fit(X, y)
    direct = BackboneRanker([make_small()], scorer=spread).fit(X, y)
    assert ranker.scores_["score"].tolist() == direct.scores_["score"].tolist()
    assert RankingDisplay.from_estimator(ranker).score_name == "spread"
    assert RankingDisplay.from_estimator(direct).score_name == "spread"
    ranker.fit(X, y + 0.5)
    assert ranker.scores_["score"].min() > 100
    register_score("spread", lambda features, y: 7)  # as when a cell is run again
    assert ranker.fit(X, y).best_score_ == 7


def test_score_of_probabilities_gets_those_of_the_classifier(digits):
    def surest(probabilities, y):
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        return probabilities.max()

    register_score("surest", surest, of="probabilities")
    settings = {"scorer": "surest", "image_size": 32}
    ranker = BackboneRanker(["efficientnet_lite0"], **settings)
    table = ranker.fit(digits[0][:8], digits[1][:8]).scores_
    assert table["stage"].tolist() == ["output"] and 0 < table["score"][0] <= 1


def test_auto_depends_on_the_targets():
    assert find_score("auto", False).function is lda_score
    assert find_score("auto", True).name == "knn"


@pytest.mark.parametrize("name", ["lda", "auto", "two words", "", None])
def test_invalid_names_raise(name):
    with pytest.raises(ValueError, match="`name` must be an identifier other than"):
        register_score(name, spread)


def test_invalid_scores_raise():
    with pytest.raises(TypeError, match="`function` must be a callable, .* Got 3."):
        register_score("three", 3)
    with pytest.raises(ValueError, match="`of` must be 'features' or .* Got 'images'"):
        register_score("three", spread, of="images")
