import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTunedClassifier, FineTunedRegressor
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.adaptation._methods import resolve_method
from sktransfer.backbones import load_backbone
from sktransfer.fitting import LEVELS, LITERATURE, Probed, choose_level
from sktransfer.fitting._boundary import resolve_freeze
from sktransfer.training import lda_predictions
from tests._networks import SmallNetwork

DIGITS = load_digits(n_class=3)
N = 150
X, Y = DIGITS.images[:N], DIGITS.target[:N]
# Two classes of images that any probe tells apart.
BRIGHT = np.arange(N) % 2
EASY = X / 2 + 8 * BRIGHT[:, None, None]
BACKBONE = load_backbone(SmallNetwork)
RIGHT, SOME_WRONG = np.ones(130, bool), np.arange(130) > 4


def probed(right, n_classes=2):
    return Probed(right, np.arange(len(right)) % n_classes)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", image_size=32)


def small(kind=FineTunedClassifier, **settings):
    settings = {"max_epochs": 1, "value_range": (0, 16), "random_state": 0, **settings}
    return kind(BACKBONE).set_params(**settings)


# Levels


@pytest.mark.parametrize(("n", "level"), [(2, 1), (9_999, 1), (10_000, 0)])
def test_few_samples_freeze_the_early_stages(n, level):
    assert choose_level(n) == (level, f"{n:,} samples")


@pytest.mark.parametrize(
    ("n", "level"), [(499, 3), (500, 2), (1_999, 2), (2_000, 1), (10_000, 0)]
)
def test_rules_of_the_literature_freeze_more(n, level):
    assert choose_level(n, rules=LITERATURE)[0] == level


@pytest.mark.parametrize("n", [150, 20_000])
def test_nearly_perfect_probe_freezes_everything(n):
    why = "a linear probe predicts 130 of 130 correctly"
    assert choose_level(n, probed=probed(RIGHT)) == (3, why)


@pytest.mark.parametrize("right", [SOME_WRONG, RIGHT[:19], ~RIGHT, RIGHT[:0]], ids=str)
def test_other_probes_decide_nothing(right):
    assert choose_level(150, probed=probed(right)) == choose_level(150)


def test_a_few_errors_among_many_samples_are_nearly_perfect():
    assert choose_level(5_000, probed=probed(np.arange(1_000) >= 15))[0] == 3
    assert choose_level(5_000, probed=probed(np.arange(1_000) >= 16))[0] == 1


def test_training_is_expected_to_remove_a_share_of_the_errors():
    found = probed(np.arange(200) >= 50)  # a quarter is wrong
    removed = ((0.4, 0.0), (0.2, 0.1), (0.1, 0.0))
    scores, errors = zip(*(found.expected(i, removed) for i in range(4)), strict=True)
    np.testing.assert_allclose(scores, [0.85, 0.8, 0.775, 0.75])
    assert errors[1] > errors[3] > errors[0]


def test_the_largest_class_is_no_evidence():
    codes = (np.arange(100) >= 98).astype(int)
    assert choose_level(100, probed=Probed(codes == 0, codes))[0] == 1
    assert choose_level(100, probed=Probed(codes >= 0, codes))[0] == 3
    one = np.zeros(100, int)
    assert choose_level(100, probed=Probed(one == 0, one))[0] == 1


def test_levels_go_from_nothing_frozen_to_all():
    shares = [level.share for level in LEVELS]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1


# Searches


@pytest.mark.parametrize(
    ("n", "n_splits", "depths"), [(40, 4, [3, 3, 3, 9]), (60, 2, [3, 3])]
)
def test_search_is_told_of_folds_that_train_other_stages_than_its_refit(
    n, n_splits, depths
):
    search = GridSearchCV(
        small(augment=None),
        {"lr": [1e-4]},
        cv=n_splits,
        scoring={"depth": lambda model, X, y: model.freeze_depth_},
        refit="depth",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X[:n], Y[:n])
    results = search.cv_results_
    of_folds = [results[f"split{i}_test_depth"][0] for i in range(n_splits)]
    assert (of_folds, search.best_estimator_.freeze_depth_) == (depths, 3)
    told = [str(w.message) for w in caught if "in the refit" in str(w.message)]
    text = (
        "`freeze='auto'` froze up to '2' in the refit of this search and up to '8' in "
        "folds, whose scores are thus those of another training. Set `freeze`, or "
        "search over it, to train the same stages in all fits."
    )
    assert told == [text] * (9 in depths)


# Values of `freeze`


@pytest.mark.parametrize(
    ("freeze", "boundary"),
    [
        (0, "input"),
        (1, "stem"),
        (9, "conv_head"),
        (-1, "blocks.6"),
        (-9, "input"),
        (np.int64(3), "blocks.1"),
        (0.5, "blocks.2"),
        (np.float32(0.34), "blocks.1"),
        (0.999, "conv_head"),
        (0.001, "input"),
        ("blocks.4", "blocks.4"),
        ("blocks.4.1", "blocks.4.1"),
        ("all", "conv_head"),
        ("none", "input"),
    ],
)
def test_freeze_is_resolved_to_a_boundary(backbone, freeze, boundary):
    assert resolve_freeze(freeze, backbone) == boundary


@pytest.mark.parametrize("freeze", [10, -10, "blocks.9", "bloks.4", True, ""])
def test_freeze_without_a_boundary(backbone, freeze):
    with pytest.raises(ValueError, match="`freeze` must be one of") as info:
        resolve_freeze(freeze, backbone)
    text = str(info.value)
    assert "['all', 'none', 'auto'], a share in (0, 1), an int in [-9, 9]" in text
    names = backbone.stage_names
    assert f"block of efficientnet_lite0: {names}. Got {freeze!r}." in text


@pytest.mark.parametrize(
    ("freeze", "near"), [("bloks.4", "blocks.4"), ("al", "all"), ("atuo", "auto")]
)
def test_freeze_without_a_boundary_names_near_ones(backbone, freeze, near):
    with pytest.raises(ValueError, match=f"Did you mean .*'{near}'"):
        resolve_freeze(freeze, backbone)


# How "auto" chooses in a fit


@pytest.fixture(scope="module")
def easy():
    """A fit of features that a linear probe finds nearly perfect."""
    return small().fit(EASY, BRIGHT)


def test_auto_freezes_all_where_a_probe_is_nearly_perfect(easy):
    assert (easy.boundary_, easy.freeze_depth_) == ("8", 9)
    n = len(np.unique(EASY.reshape(N, -1), axis=0))
    assert easy.freeze_reason_ == f"a linear probe predicts {n} of {n} correctly"
    explicit = small(freeze="all").fit(EASY, BRIGHT)
    np.testing.assert_array_equal(
        easy.predict_proba(EASY), explicit.predict_proba(EASY)
    )


def test_auto_trains_for_few_samples_however_good_the_probe():
    model = small().fit(EASY[:19], BRIGHT[:19])
    assert (model.boundary_, model.freeze_depth_) == ("2", 3)
    assert model.freeze_reason_.endswith(" samples")


def test_auto_trains_where_the_probe_errs():
    y = np.random.RandomState(0).randint(2, size=N)
    features = small(freeze="all").fit(X, y).transform(X)
    assert (lda_predictions(features, y) == y).mean() < 0.9
    model = small().fit(X, y)
    assert (model.freeze_depth_, model.freeze_reason_) == (3, f"{N} samples")


@pytest.mark.parametrize(
    ("kind", "y"),
    [(FineTunedRegressor, BRIGHT / 1.0), (FineTunedClassifier, np.c_[BRIGHT, BRIGHT])],
    ids=["regression", "multilabel"],
)
def test_auto_probes_classes_alone(kind, y):
    target = y.astype(int) if kind is FineTunedClassifier else y
    assert small(kind).fit(EASY, target).freeze_depth_ == 3


def test_method_that_needs_stages_gets_some_however_good_the_probe():
    method = resolve_method("coral")
    model = small().fit(EASY, BRIGHT, X_target=EASY[:20] / 2, adaptation=method)
    assert model.freeze_depth_ == 3
    assert model.freeze_reason_.endswith(" samples")


def test_reason_is_printed(capsys):
    small(verbose=1, augment=None).fit(X[:30], Y[:30])
    assert "freeze='auto' freezes up to '2': 30 samples\n" in capsys.readouterr().out
    small(verbose=1, freeze=8, augment=None).fit(X[:30], Y[:30])
    small(verbose=0, augment=None).fit(X[:30], Y[:30])
    assert "freeze" not in capsys.readouterr().out


def test_reason_belongs_to_a_fit_with_auto(easy):
    assert pickle.loads(pickle.dumps(easy)).freeze_reason_ == easy.freeze_reason_
    model = clone(easy)
    assert not hasattr(model, "freeze_reason_")
    model.fit(X[:30], Y[:30])
    assert model.freeze_reason_ == "30 samples"
    model.set_params(freeze="all").fit(X[:30], Y[:30])
    assert not hasattr(model, "freeze_reason_")


@pytest.mark.parametrize(("images", "depth"), [(EASY, 9), (X, 3)])
def test_the_probe_computes_nothing_twice(images, depth, monkeypatch):
    def keep_all(measured, n_samples, budget):
        return [replace(cost, kept=True) for cost in measured]

    monkeypatch.setattr(_pass, "choose", keep_all)
    process_store().clear()
    passed = forward_passes()
    passed.clear()
    model = small(augment=None).fit(images, BRIGHT)
    assert model.freeze_depth_ == depth
    n = len(np.unique(images.reshape(N, -1), axis=0))
    ends = {
        stop: sum(passed[key] for key in passed if key[2] == stop)
        for *_, stop in passed
    }
    assert {"2", "8"} <= ends.keys() and {*ends.values()} == {n}


def test_first_part_does_not_decide_that_nothing_is_trained():
    model = small().partial_fit(X[Y == 0][:30], Y[Y == 0][:30], classes=[0, 1, 2])
    assert (model.freeze_depth_, model.freeze_reason_) == (3, "30 samples")
    easy = small().partial_fit(EASY, BRIGHT)
    assert easy.freeze_depth_ == 3
