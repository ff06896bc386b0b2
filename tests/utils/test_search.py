import gc

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from sktransfer.utils import (
    _search,
    nearest_search,
    searched_parameters,
    told_in_search,
)

X = np.arange(12.0)[:, None]
SEEN = []


class Watcher(BaseEstimator):
    """Estimator that notes in `SEEN` what its fits see of a search."""

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y=None):
        told = told_in_search("topic")
        SEEN.append((len(told), *nearest_search()))
        told.add(len(SEEN))
        self.is_fitted_ = True
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y=None):
        return self.C


@pytest.fixture(autouse=True)
def is_part_of_the_package(monkeypatch):
    ours = (_search.__file__, __file__)
    monkeypatch.setattr(_search, "is_ours", lambda path: path in ours)
    SEEN.clear()


def counts():
    return [n for n, *_ in SEEN]


def test_fits_by_hand_are_in_no_search():
    for _ in range(2):
        Watcher().fit(X)
    assert SEEN == [(0, None, False)] * 2


@pytest.mark.parametrize("function", [cross_val_score, cross_val_predict])
def test_each_search_from_a_line_is_told_anew(function):
    for _ in range(2):
        function(Watcher(), X, cv=2)
    assert SEEN == [(0, None, False), (1, None, False)] * 2


def test_folds_and_refit_of_a_search_are_told_apart():
    search = GridSearchCV(make_pipeline(Watcher()), {"watcher__C": [1.0, 2.0]}, cv=2)
    search.fit(X)
    assert counts() == [0, 1, 2, 3, 4]
    assert [search_ is search for _, search_, _ in SEEN] == [True] * 5
    assert [is_refit for *_, is_refit in SEEN] == [False] * 4 + [True]


def test_nested_search_is_told_once_and_has_searches_of_its_own():
    cross_val_score(GridSearchCV(Watcher(), {"C": [1.0]}, cv=2), X, cv=2)
    assert counts() == [0, 1, 2, 3, 4, 5]
    assert [is_refit for *_, is_refit in SEEN] == [False, False, True] * 2
    first, second = ({id(search) for _, search, _ in SEEN[i : i + 3]} for i in (0, 3))
    assert len(first) == len(second) == 1 and first != second


def test_other_threads_know_no_search_but_each_is_told_once():
    with joblib.parallel_config("threading", n_jobs=2):
        GridSearchCV(Watcher(), {"C": [1.0]}, cv=3, refit=False).fit(X)
    assert sorted(counts()) == [0, 1, 2]
    assert {search for _, search, _ in SEEN} == {None}


class Curious(Watcher):
    """Estimator that notes which parameters are searched."""

    def fit(self, X, y=None):
        SEEN.append(searched_parameters())
        self.is_fitted_ = True
        return self


def test_names_of_searched_parameters():
    Curious().fit(X)
    cross_val_score(Curious(), X, cv=2)
    assert SEEN == [set()] * 3
    SEEN.clear()
    pipeline = make_pipeline(Curious())
    GridSearchCV(pipeline, {"curious__C": [1.0, 2.0]}, cv=2).fit(X)
    assert SEEN == [{"curious__C"}] * 5
    SEEN.clear()
    with joblib.parallel_config("threading", n_jobs=2):
        GridSearchCV(Curious(), {"C": [1.0]}, cv=3).fit(X)
    assert SEEN == [{"C"}] * 4


def test_searches_are_not_kept():
    search = GridSearchCV(Watcher(), {"C": [1.0]}, cv=2).fit(X)
    n = len(_search._told)
    SEEN.clear()
    del search
    gc.collect()
    assert len(_search._told) < n
