import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.advice import TransferAdvisor, _advisor, lda_score
from sktransfer.advice._costs import Cost
from sktransfer.fitting import LEVELS

COLUMNS = "strategy freeze rule score error seconds megabytes taken why".split()


def test_report_has_the_choice_and_the_reasons(make_small, digits):
    advisor = TransferAdvisor(make_small(), random_state=0).fit(*digits)
    report = advisor.report_
    assert list(report) == COLUMNS
    assert report["strategy"].tolist() == [level.name for level in LEVELS]
    assert report["freeze"].tolist() == [0, 1, 2, 3]
    (taken,) = report[report["taken"]].to_dict("records")
    assert taken["strategy"] == advisor.strategy_
    assert taken["freeze"] == advisor.freeze_depth_
    assert taken["why"].startswith("120 samples")
    assert (report["seconds"] > 0).all() and (report["megabytes"] > 0).all()
    assert report["why"].str.len().min() > 0


def test_recommended_estimator_can_be_fitted(make_small, digits):
    advisor = TransferAdvisor(make_small(), max_epochs=2, random_state=0).fit(*digits)
    recommended = advisor.recommended_
    assert isinstance(recommended, FineTunedClassifier)
    assert recommended.max_epochs == 2
    assert not hasattr(recommended, "module_")
    recommended.fit(*digits)
    assert recommended.freeze_depth_ == advisor.freeze_depth_


def test_regression_targets_get_a_regressor(make_small, digits):
    target = digits[0].mean(axis=(1, 2)) + 0.01
    advisor = TransferAdvisor(make_small(), random_state=0).fit(digits[0], target)
    assert isinstance(advisor.recommended_, FineTunedRegressor)
    assert len(advisor.probes_) == 3
    assert "classes" not in advisor.evidence_


def test_evidence(make_small, digits):
    X, y = digits
    evidence = TransferAdvisor(make_small()).fit(X, y == 3).evidence_
    share = (y == 3).mean()
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert evidence["samples"] == 120 and evidence["classes"] == 2
    assert evidence["smallest_class"] == (y == 3).sum()
    assert evidence["balance"] == pytest.approx(entropy)
    assert evidence["image_sizes"] == (8, 8)
    assert 0 <= evidence["similarity"] <= 1
    assert evidence["device"] in ("cpu", "cuda:0", "cuda", "mps")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_choice_is_that_of_freeze_auto(make_small, digits, share):
    X, y = digits
    y = np.where(np.arange(120) < 120 * share, 0, y)  # classes of uneven sizes
    advisor = TransferAdvisor(make_small(), random_state=0).fit(X, y)
    model = FineTunedClassifier(make_small(), max_epochs=1, random_state=0).fit(X, y)
    assert model.freeze_depth_ == advisor.freeze_depth_
    (taken,) = advisor.report_.loc[advisor.report_["taken"], "why"]
    assert taken == model.freeze_reason_


def test_expected_scores_begin_with_the_probe(make_small, digits):
    advisor = TransferAdvisor(make_small(), random_state=0).fit(*digits)
    report, accuracy = advisor.report_, advisor.probes_["score"].iloc[-1]
    assert 0.2 < accuracy < 0.95
    assert report["score"].iloc[-1] == pytest.approx(accuracy)
    error = np.sqrt(accuracy * (1 - accuracy) / 120)
    assert report["error"].iloc[-1] == pytest.approx(error, rel=0.03)
    assert (report["score"].iloc[:-1] > accuracy).all()
    assert (report["error"].iloc[:-1] > 0).all()
    unprobed = TransferAdvisor(make_small(), scoring=None).fit(*digits)
    assert unprobed.probes_ is None
    assert unprobed.report_[["score", "error"]].isna().all(axis=None)


def test_literature_freezes_more(make_small, digits, monkeypatch):
    monkeypatch.setattr(TransferAdvisor, "_probe", lambda *args: (None, None))
    strategies = [
        TransferAdvisor(make_small(), rules=rules).fit(*digits).strategy_
        for rules in ("measured", "literature")
    ]
    assert strategies == ["freeze early stages", "extract features"]


def costs(prices):
    """Replace `measure` by given costs per boundary, in seconds and bytes."""

    def found(backbone, samples, boundaries, device):
        return {
            name: Cost(0.0, seconds / 2400, memory, 1)
            for name, (seconds, memory) in zip(boundaries, prices, strict=True)
        }

    return found


def test_budget_of_time(make_small, digits, monkeypatch):
    prices = [(100, 1), (50, 1), (20, 1), (5, 1)]
    monkeypatch.setattr(_advisor, "measure", costs(prices))
    monkeypatch.setattr(TransferAdvisor, "_probe", lambda *args: (None, None))
    for budget, strategy in [
        (None, "freeze early stages"),
        (30, "freeze early and middle stages"),
        (10, "extract features"),
        (1, "extract features"),
    ]:
        advisor = TransferAdvisor(make_small(), budget=budget).fit(*digits)
        assert advisor.strategy_ == strategy
    why = advisor.report_.set_index("strategy")["why"]
    assert why["train all"] == "100 s exceed the budget of 1 s"
    assert "without that, freeze early stages" in why["extract features"]
    assert why["extract features"].startswith(
        "5 s exceed the budget of 1 s, but nothing takes less; "
    )


def test_probes_are_those_of_the_stages(digits, monkeypatch):
    X, y = digits
    seen = []
    choose = _advisor.choose_level

    def watch(n, **known):
        seen.append(known["probed"])
        return choose(n, **known)

    monkeypatch.setattr(_advisor, "choose_level", watch)
    advisor = TransferAdvisor(image_size=32).fit(X, y)
    expected = []
    for stage in advisor.probes_["stage"]:
        extractor = PretrainedFeatureExtractor(stage=stage, image_size=32)
        expected.append(lda_score(extractor.fit_transform(X), y))
    assert advisor.probes_["score"].tolist() == pytest.approx(expected)
    assert max(expected) > seen[0].right.mean() == pytest.approx(expected[-1])


def test_nearly_perfect_probe_recommends_features(make_small, digits):
    y = np.arange(150) % 2
    noise = np.random.RandomState(0).uniform(size=(150, 8, 8))
    X = digits[0][0] / 5 + noise / 5 + y[:, None, None] / 2
    advisor = TransferAdvisor(make_small(), random_state=0).fit(X, y)
    assert advisor.strategy_ == "extract features"
    why = advisor.report_.set_index("strategy").loc["extract features", "why"]
    assert why == "a linear probe predicts 150 of 150 correctly"
    unprobed = TransferAdvisor(make_small(), scoring=None, random_state=0).fit(X, y)
    assert unprobed.strategy_ == "freeze early stages"
    fitted = FineTunedClassifier(make_small(), max_epochs=1, random_state=0).fit(X, y)
    assert fitted.freeze_depth_ == advisor.freeze_depth_


@pytest.mark.parametrize("n_stages", [1, 2])
def test_few_stages_have_few_strategies(n_stages):
    layers = [torch.nn.Linear(5, 5) for _ in range(n_stages)]
    X, y = np.random.default_rng(0).normal(size=(150, 5)), np.arange(150) % 2
    advisor = TransferAdvisor(torch.nn.Sequential(*layers)).fit(X, y)
    table = advisor.report_
    assert table["freeze"].tolist() == sorted({*table["freeze"]})
    assert table["strategy"].iloc[0] == "train all" and table["freeze"].iloc[0] == 0
    assert table["strategy"].iloc[-1] == "extract features"
    taken = table[table["taken"]]
    assert taken["strategy"].tolist() == [advisor.strategy_]
    assert taken["freeze"].tolist() == [advisor.freeze_depth_]


def test_several_columns_of_integers_are_regression_targets(make_small, digits):
    y = np.stack([digits[1], digits[1] + 3], axis=1)
    advisor = TransferAdvisor(make_small()).fit(digits[0], y)
    assert type(advisor.recommended_).__name__ == "FineTunedRegressor"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((20, 30), (20, 30)), ((20, 30, 3), (20, 30)), ((3, 20, 30), (20, 30))],
)
def test_image_sizes_of_arrays(make_small, shape, expected):
    X = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    advisor = TransferAdvisor(make_small(), scoring=None).fit(X, np.arange(12) % 2)
    assert advisor.evidence_["image_sizes"] == expected


def test_memory_of_the_device(make_small, digits, monkeypatch):
    prices = [(1, 900), (1, 900), (1, 90), (1, 9)]
    monkeypatch.setattr(_advisor, "measure", costs(prices))
    monkeypatch.setattr(_advisor, "free_memory", lambda device: 100)
    monkeypatch.setattr(TransferAdvisor, "_probe", lambda *args: (None, None))
    advisor = TransferAdvisor(make_small()).fit(*digits)
    assert advisor.strategy_ == "freeze early and middle stages"
    assert "900 bytes exceed the 100 that are free" in advisor.report_["why"][1]


def test_html(make_small, digits):
    advisor = TransferAdvisor(make_small())
    assert "TransferAdvisor" in advisor._repr_html_()
    html = advisor.fit(*digits)._repr_html_()
    assert f"<b>{advisor.strategy_}</b>" in html
    assert "FineTunedClassifier(" in html and "&lt;Backbone" in html


def test_paths_and_multilabel_targets(make_small, digits, tmp_path):
    paths = []
    for i, image in enumerate(digits[0][:20]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray((image * 15).astype(np.uint8)).resize((30, 20)).save(paths[-1])
    labels = np.stack([digits[1][:20] % 2, digits[1][:20] > 4], axis=1).astype(int)
    advisor = TransferAdvisor(make_small(), random_state=0).fit(paths, labels)
    assert advisor.evidence_["image_sizes"] == (20, 30)
    advisor.recommended_.set_params(max_epochs=1).fit(paths, labels)


def test_similarity_of_vectors_is_unknown():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), np.arange(40) % 2
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU())
    advisor = TransferAdvisor(module).fit(X, y)
    assert np.isnan(advisor.evidence_["similarity"])
    assert advisor.evidence_["image_sizes"] is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"budget": 0}, "'budget' parameter of TransferAdvisor must be"),
        ({"scoring": "accuracy"}, "'scoring' parameter of TransferAdvisor must be"),
    ],
)
def test_invalid_parameters_raise(make_small, digits, settings, text):
    with pytest.raises(ValueError, match=text):
        TransferAdvisor(make_small(), **settings).fit(*digits)
