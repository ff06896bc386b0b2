import numpy as np
import pytest
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store
from sktransfer.advice import (
    BackboneRanker,
    h_score,
    knn_score,
    lda_score,
    leep,
    logme,
    n_leep,
)
from sktransfer.backbones import load_backbone

COLUMNS = "backbone stage score parameters multiply_adds license".split()


def test_scores_are_those_of_the_features(make_small, digits):
    X, y = digits
    backbone = make_small()
    for name, score in {
        "lda": lda_score,
        "logme": logme,
        "h_score": h_score,
        "knn": knn_score,
        "n_leep": n_leep,
    }.items():
        table = BackboneRanker([backbone], scorer=name).fit(X, y).scores_
        assert list(table) == COLUMNS
        assert table["stage"].tolist() == backbone.stage_names
        for stage, found in zip(table["stage"], table["score"], strict=True):
            extractor = PretrainedFeatureExtractor(backbone, stage=stage)
            expected = score(extractor.fit_transform(X), y)
            assert found == pytest.approx(expected, rel=1e-5)


def test_labels_are_scored_by_the_discriminant(make_small, digits):
    backbone = make_small()
    ranker = BackboneRanker([backbone]).fit(*digits)
    assert ranker.scorer == "auto" and ranker.scorer_ == "lda"
    named = BackboneRanker([backbone], scorer="lda").fit(*digits)
    assert ranker.scores_["score"].tolist() == named.scores_["score"].tolist()


def test_ranking_has_the_best_first(make_small, digits):
    X, y = digits
    good, other = make_small(0), make_small(1)
    good.name, other.name = "one", "two"
    ranker = BackboneRanker([good, other], scorer="logme").fit(X, y)
    best = ranker.scores_.groupby("backbone")["score"].max()
    assert ranker.ranking_ == best.sort_values(ascending=False).index.tolist()
    assert ranker.best_backbone_.name == ranker.ranking_[0]
    assert ranker.best_score_ == best.max()
    row = ranker.scores_.loc[ranker.scores_["score"].idxmax()]
    assert ranker.best_stage_ == row["stage"]


def test_costs_of_the_stages(make_small, digits):
    backbone = make_small()
    ranker = BackboneRanker([backbone]).fit(*digits)
    table = ranker.scores_
    # They do not depend on what is stored already.
    assert table.equals(ranker.fit(*digits).scores_)
    n = backbone.n_parameters
    assert table["parameters"].is_monotonic_increasing
    assert table["parameters"].iloc[-1] == n
    assert table["multiply_adds"].iloc[0] == backbone.multiply_adds(
        "input", backbone.stage_names[0]
    )
    assert {*table["license"]} == {"not stated"}


def test_stages_come_from_one_pass(make_small, digits):
    X, y = digits
    backbone = make_small()
    process_store().clear()
    forward_passes().clear()
    BackboneRanker([backbone]).fit(X, y)
    starts = [start for (_, start, _) in forward_passes()]
    assert starts.count("input") == 1
    assert sum(n for (_, s, _), n in forward_passes().items() if s == "input") == 120


def test_some_stages(make_small, digits):
    backbone = make_small()
    names = backbone.stage_names
    table = BackboneRanker([backbone], stages="last").fit(*digits).scores_
    assert table["stage"].tolist() == names[-1:]
    ranker = BackboneRanker([backbone], stages=[1, names[1]])
    assert ranker.fit(*digits).scores_["stage"].tolist() == names[:2]


def test_regression_targets_are_recognised(make_small, digits):
    X, _ = digits
    target = X.mean(axis=(1, 2)) + 0.01
    backbone = make_small()
    ranker = BackboneRanker([backbone]).fit(X, target)
    assert ranker.best_score_ > -1 and ranker.scorer_ == "knn"
    for name, score in (("logme", logme), ("knn", knn_score)):
        found = BackboneRanker([backbone], scorer=name, stages="last").fit(X, target)
        F = PretrainedFeatureExtractor(backbone).fit_transform(X)
        expected = score(F, target, regression=True)
        assert found.best_score_ == pytest.approx(expected, rel=1e-5)


def test_multilabel_targets_are_scored_as_numbers(make_small, digits):
    y = np.stack([digits[1] % 2, digits[1] > 4], axis=1).astype(int)
    backbone = make_small()
    ranker = BackboneRanker([backbone], stages="last").fit(digits[0], y)
    F = PretrainedFeatureExtractor(backbone).fit_transform(digits[0])
    expected = knn_score(F, y.astype(float), regression=True)
    assert ranker.scorer_ == "knn"
    assert ranker.best_score_ == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="for regression targets and multilabel y"):
        BackboneRanker([backbone], scorer="lda").fit(digits[0], y)


def test_labels_in_a_column(make_small, digits):
    X, y = digits[0], np.array(list("abcdefghij"))[digits[1]]
    backbone = make_small()
    one, other = (BackboneRanker([backbone]).fit(X, v) for v in (y, y[:, None]))
    assert one.scorer_ == other.scorer_ == "lda"
    assert one.best_score_ == other.best_score_


def test_callable_scorer(make_small, digits):
    ranker = BackboneRanker([make_small()], scorer=lambda F, y: F.shape[1])
    assert ranker.fit(*digits).scores_["score"].tolist() == [8, 16, 16]


def test_samples_are_subsampled(make_small, digits):
    seen = []
    ranker = BackboneRanker(
        [make_small()],
        scorer=lambda F, y: seen.append((len(F), len(np.unique(y)))) or 0,
        max_samples=30,
        random_state=0,
    )
    ranker.fit(*digits)
    assert {*seen} == {(30, 10)}


def test_leep_scores_the_pretrained_classifier(digits):
    X, y = digits
    ranker = BackboneRanker(["efficientnet_lite0"], scorer="leep", image_size=32)
    table = ranker.fit(X[:40], y[:40]).scores_
    assert table["stage"].tolist() == ["output"]
    backbone = load_backbone("efficientnet_lite0", image_size=32)
    extractor = PretrainedFeatureExtractor(backbone, stage=["conv_head"])
    F = extractor.fit_transform(X[:40]).astype(float)
    head = backbone.module.classifier
    scores = F @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    theta = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = leep(theta / theta.sum(axis=1, keepdims=True), y[:40])
    assert table["score"][0] == pytest.approx(expected, rel=0.05)


def test_leep_without_a_classifier_raises(make_small, digits):
    text = "`scorer='leep'` needs a backbone with the classifier that it was pretrained"
    with pytest.raises(ValueError, match=text):
        BackboneRanker([make_small()], scorer="leep").fit(*digits)


def test_backbones_with_equal_names_are_numbered(make_small, digits):
    ranker = BackboneRanker([make_small(0), make_small(1)], stages="last")
    names = ranker.fit(*digits).scores_["backbone"].tolist()
    assert names == ["Sequential", "Sequential #2"]


def test_rows_go_through_networks_of_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), np.arange(40) % 2
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    ranker = BackboneRanker([module], scorer="lda", random_state=0)
    table = ranker.fit(X + 2 * y[:, None], y).scores_
    assert table["score"].max() > 0.6


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"backbones": []}, "`backbones` must hold at least one backbone. Got none."),
        ({"stages": ["conv9"]}, "`stages` must be 'last', a number .* Got 'conv9'."),
        ({"stages": [7]}, "`stages` must be 'last', a number .* Got 7."),
        (
            {"scorer": "auc"},
            "`scorer` must be 'auto', one of .* or a callable. Got 'auc'.",
        ),
        ({"scorer": 3}, "'scorer' parameter of BackboneRanker must be"),
        ({"stages": []}, "`stages` must name at least one stage. Got none."),
    ],
)
def test_invalid_parameters_raise(make_small, digits, settings, text):
    with pytest.raises(ValueError, match=text):
        BackboneRanker(**{"backbones": [make_small()], **settings}).fit(*digits)


def test_scorer_for_classes_raises_for_regression_targets(make_small, digits):
    text = (
        "`scorer` must be one of \\['logme', 'knn'\\] or a callable for regression "
        "targets and multilabel y. Got 'lda'"
    )
    ranker = BackboneRanker([make_small()], scorer="lda")
    with pytest.raises(ValueError, match=text):
        ranker.fit(digits[0], digits[1] + 0.5)


def test_missing_targets_raise(make_small, digits):
    with pytest.raises(ValueError, match="`y` is needed, as the samples"):
        BackboneRanker([make_small()]).fit(digits[0])


def test_backbones_without_weights_are_left_out(make_small, digits, monkeypatch):
    def fail(*args):
        raise OSError("No network.")

    monkeypatch.setattr("sktransfer.backbones._torchvision.fetch_weights", fail)
    names = ["torchvision/resnet18", "torchvision/resnet34"]
    text = r"^1 of 2 .* left out, .*:\n- torchvision/resnet18: No network.$"
    with pytest.warns(UserWarning, match=text):
        ranker = BackboneRanker([names[0], make_small()]).fit(*digits)
    assert ranker.ranking_ == ["Sequential"]
    with pytest.raises(OSError, match=r"no backbone .*\n- .*18: No.*\n- .*34: No"):
        BackboneRanker(names).fit(*digits)
