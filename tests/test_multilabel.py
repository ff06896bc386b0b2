import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_predict

from tests.test_classifier import ROWS, ROWS_NEW, Y_NEW, X, Y, lite, tiny

# Round shapes, and straight ones: a sample may be both, or neither.
LABELS = np.stack([Y == 0, Y == 1, Y != 2, Y != 0], axis=1).astype(int)
LABELS_NEW = np.stack([Y_NEW == 0, Y_NEW == 1, Y_NEW != 2, Y_NEW != 0], axis=1)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_labels_are_independent(freeze):
    model = tiny(freeze=freeze, max_epochs=20, C=1e4).fit(ROWS, LABELS)
    scores, proba = model.decision_function(ROWS_NEW), model.predict_proba(ROWS_NEW)
    assert scores.shape == proba.shape == (100, 4) and proba.dtype == np.float64
    np.testing.assert_allclose(proba, expit(scores))
    assert abs(proba.sum(axis=1) - 1).max() > 0.1
    predicted = model.predict(ROWS_NEW)
    np.testing.assert_array_equal(predicted, (proba > 0.5).astype(int))
    assert predicted.dtype == int and model.classes_.tolist() == [0, 1, 2, 3]
    assert (predicted == LABELS_NEW).mean() > 0.75
    score = model.score(ROWS_NEW, LABELS_NEW)
    assert score == accuracy_score(LABELS_NEW, predicted) > 0.4


def test_probe_is_a_logistic_regression_for_each_label():
    probe = tiny(freeze="all", C=3.0).fit(ROWS, LABELS)
    features, new = probe.transform(ROWS), probe.transform(ROWS_NEW)
    proba = probe.predict_proba(ROWS_NEW)
    for column, y in enumerate(LABELS.T):
        reference = LogisticRegression(C=3.0, tol=1e-8, max_iter=5000).fit(features, y)
        expected = reference.predict_proba(new)[:, 1]
        np.testing.assert_allclose(proba[:, column], expected, atol=1e-4)


def test_strength_is_chosen():
    model = tiny(freeze="all", C="auto").fit(ROWS, LABELS)
    assert model.C_ != 1.0
    fixed = tiny(freeze="all", C=model.C_).fit(ROWS, LABELS)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), fixed.predict_proba(ROWS_NEW)
    )


def test_log_of_probabilities():
    model = tiny(freeze="all").fit(ROWS, LABELS)
    np.testing.assert_allclose(
        np.exp(model.predict_log_proba(ROWS_NEW)), model.predict_proba(ROWS_NEW)
    )


def test_labels_that_the_first_part_lacks_are_learned():
    order = np.lexsort(LABELS.T)
    full, model = tiny(freeze="all").fit(ROWS, LABELS), tiny(freeze="all")
    for rows in np.array_split(order, 6):
        model.partial_fit(ROWS[rows], LABELS[rows])
    right = [(m.predict(ROWS) == LABELS).mean() for m in (full, model)]
    assert right[1] >= right[0] - 0.05


def test_training_starts_from_the_probe():
    probe = tiny(freeze="all").fit(ROWS, LABELS)
    model = tiny(freeze=1, lr=1e-9).fit(ROWS, LABELS)
    np.testing.assert_allclose(
        model.predict_proba(ROWS_NEW), probe.predict_proba(ROWS_NEW), atol=1e-5
    )


@pytest.mark.parametrize("freeze", ["all", 1])
def test_forms_of_y_give_the_same_model(freeze):
    expected = tiny(freeze=freeze).fit(ROWS, LABELS)
    forms = [
        scipy.sparse.csr_matrix(LABELS),
        LABELS.astype(bool),
        LABELS.astype(float),
    ]
    for y in forms:
        model = tiny(freeze=freeze).fit(ROWS, y)
        np.testing.assert_array_equal(
            model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
        )
        assert model.score(ROWS, y) == expected.score(ROWS, LABELS)


def test_sparse_y_of_images():
    model = lite(freeze="all").fit(X, scipy.sparse.coo_matrix(LABELS))
    assert model.score(X, scipy.sparse.csr_matrix(LABELS)) > 0.9


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize("value", [0, 1])
def test_column_with_one_value_is_always_predicted_so(freeze, value):
    labels = LABELS.copy()
    labels[:, 2] = value
    model = tiny(freeze=freeze, C=100).fit(ROWS, labels)
    assert (model.predict(ROWS_NEW)[:, 2] == value).all()
    rest = tiny(freeze="all", C=100).fit(ROWS, LABELS[:, [0, 1, 3]])
    if freeze == "all":
        np.testing.assert_allclose(
            model.predict_proba(ROWS_NEW)[:, [0, 1, 3]],
            rest.predict_proba(ROWS_NEW),
            atol=1e-5,
        )


def test_all_columns_with_one_value():
    labels = np.tile([0, 1], (36, 1))
    model = tiny(freeze=1).fit(ROWS, labels)
    np.testing.assert_array_equal(model.predict(ROWS_NEW), np.tile([0, 1], (100, 1)))


@pytest.mark.parametrize("freeze", ["all", 1])
def test_weights_of_one_change_nothing(freeze):
    plain = tiny(freeze=freeze).fit(ROWS, LABELS)
    weighted = tiny(freeze=freeze).fit(ROWS, LABELS, sample_weight=np.ones(36))
    np.testing.assert_array_equal(
        plain.predict_proba(ROWS_NEW), weighted.predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize("freeze", ["all", 1])
def test_weight_zero_removes_and_weight_two_repeats_a_sample(freeze):
    weight = np.random.RandomState(0).randint(0, 3, len(Y))
    weighted = tiny(freeze=freeze, batch_size=8)
    weighted.fit(ROWS, LABELS, sample_weight=weight)
    repeated = tiny(freeze=freeze, batch_size=8)
    repeated.fit(ROWS.repeat(weight, axis=0), LABELS.repeat(weight, axis=0))
    plain = tiny(freeze=freeze, batch_size=8).fit(ROWS, LABELS)
    proba = weighted.predict_proba(ROWS_NEW)
    np.testing.assert_allclose(proba, repeated.predict_proba(ROWS_NEW), rtol=1e-5)
    assert abs(proba - plain.predict_proba(ROWS_NEW)).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"training__label_smoothing": 0.2},
        {"augment__mixup": 0.4},
        {"early_stopping": True, "early_stopping__validation_fraction": 0.3},
        {"head": "mlp"},
        {"head": "cosine"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_training(settings):
    settings = {"freeze": 1, "max_epochs": 40, "C": 1e4, "lr": 0.03, **settings}
    first, again = (tiny(**settings).fit(ROWS, LABELS) for _ in range(2))
    proba = first.predict_proba(ROWS_NEW)
    np.testing.assert_array_equal(proba, again.predict_proba(ROWS_NEW))
    assert ((proba > 0.5) == LABELS_NEW).mean() > 0.75


def test_probabilities_in_cross_validation():
    model = tiny(freeze="all", C=1e4)
    proba = cross_val_predict(model, ROWS, LABELS, cv=3, method="predict_proba")
    assert proba.shape == (36, 4)
    assert ((proba > 0.5) == LABELS).mean() > 0.85


def test_partial_fit_trains_further():
    model = tiny(freeze=1, training__lr_schedule="constant").partial_fit(ROWS, LABELS)
    before = model.history_["train_loss"].iloc[-1]
    for _ in range(40):
        model.partial_fit(ROWS, scipy.sparse.csr_matrix(LABELS))
    assert len(model.history_) == 41
    assert model.history_["train_loss"].iloc[-1] < 0.8 * before


def test_probe_of_the_estimator_is_that_of_training():
    model = tiny(freeze="all", C=2.0).fit(ROWS, LABELS)
    row = model.history_.iloc[0]
    proba = model.predict_proba(ROWS)
    loss = -np.log(np.where(LABELS, proba, 1 - proba)).mean()
    assert row["train_loss"] == pytest.approx(loss, rel=1e-5)


WEIGHT = np.random.RandomState(0).uniform(0.5, 2, len(LABELS))
CLASS_WEIGHT = [{0: 2.0, 1: 1.0}, {1: 5.0}, {0: 0.5}, {}]


def weigh(labels, class_weight=CLASS_WEIGHT):
    """Return the weight of each entry of labels."""
    weights = [[w.get(value, 1.0) for value in (0, 1)] for w in class_weight]
    return np.array(weights)[np.arange(labels.shape[1]), labels.astype(int)]


def test_class_weight_of_the_probe_is_that_of_a_logistic_regression():
    probe = tiny(freeze="all", C=3.0, class_weight=CLASS_WEIGHT)
    probe.fit(ROWS, LABELS, sample_weight=WEIGHT)
    features, new = probe.transform(ROWS), probe.transform(ROWS_NEW)
    proba = probe.predict_proba(ROWS_NEW)
    for column, (y, weights) in enumerate(zip(LABELS.T, CLASS_WEIGHT, strict=True)):
        reference = LogisticRegression(
            C=3.0, tol=1e-8, max_iter=5000, class_weight={0: 1.0, 1: 1.0, **weights}
        ).fit(features, y, sample_weight=WEIGHT)
        expected = reference.predict_proba(new)[:, 1]
        np.testing.assert_allclose(proba[:, column], expected, atol=1e-4)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_class_weight_multiplies_the_losses(freeze):
    settings = {"C": 3.0, "lr": 1e-9, "max_epochs": 1, "class_weight": CLASS_WEIGHT}
    model = tiny(freeze=freeze, **settings)
    model.fit(ROWS, LABELS, WEIGHT, X_val=ROWS_NEW, y_val=LABELS_NEW)
    row = model.history_.iloc[-1]
    proba, new = model.predict_proba(ROWS), model.predict_proba(ROWS_NEW)
    losses = -np.log(np.where(LABELS, proba, 1 - proba)) * weigh(LABELS)
    expected = np.average(losses.mean(axis=1), weights=WEIGHT)
    assert row["train_loss"] == pytest.approx(expected, rel=1e-4)
    losses = -np.log(np.where(LABELS_NEW, new, 1 - new)) * weigh(LABELS_NEW)
    assert row["valid_loss"] == pytest.approx(losses.mean(), rel=1e-4)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_forms_of_class_weight(freeze):
    table = pd.DataFrame(LABELS, columns=["round", "straight", "not 2", "not 0"])
    by_list = tiny(freeze=freeze, class_weight=[{}, {1: 4.0}, {}, {}])
    by_name = tiny(freeze=freeze, class_weight={"straight": 4.0})
    by_position = tiny(freeze=freeze, class_weight={1: 4.0})
    plain = tiny(freeze=freeze).fit(ROWS, LABELS).predict_proba(ROWS_NEW)
    expected = by_list.fit(ROWS, LABELS).predict_proba(ROWS_NEW)
    assert expected[:, 1].mean() > plain[:, 1].mean() + 0.01
    for model, y in ((by_name, table), (by_position, LABELS)):
        found = model.fit(ROWS, y).predict_proba(ROWS_NEW)
        np.testing.assert_array_equal(found, expected)


def test_balanced_labels_are_weighted_by_the_weights_of_samples():
    ones, total = WEIGHT @ LABELS, WEIGHT.sum()
    by_hand = [{0: total / 2 / (total - n), 1: total / 2 / n} for n in ones]
    proba = [
        tiny(freeze=1, class_weight=class_weight)
        .fit(ROWS, LABELS, sample_weight=WEIGHT)
        .predict_proba(ROWS_NEW)
        for class_weight in ("balanced", by_hand, None)
    ]
    np.testing.assert_allclose(proba[0], proba[1], atol=1e-5)
    assert abs(proba[0] - proba[2]).max() > 1e-3


def test_class_weight_in_partial_fit():
    order = np.random.RandomState(0).permutation(36)
    settings = {"freeze": "all", "C": 0.1}
    heavy = [{1: 5.0}, {1: 5.0}, {0: 5.0}, {0: 5.0}]
    full = tiny(class_weight=heavy, **settings).fit(ROWS, LABELS)
    expected, plain = full.predict_proba(ROWS_NEW), tiny(**settings).fit(ROWS, LABELS)
    model = tiny(class_weight=heavy, **settings)
    for rows in np.array_split(order, 3):
        model.partial_fit(ROWS[rows], LABELS[rows])
    error = abs(model.predict_proba(ROWS_NEW) - expected).mean()
    assert error < 0.3 * abs(plain.predict_proba(ROWS_NEW) - expected).mean()


def test_class_weight_needs_the_cross_entropy():
    def loss(scores, y):
        return (scores - y).square().mean(1)

    text = "`class_weight` must be None for multilabel targets with another `loss` than"
    with pytest.raises(ValueError, match=text + ".* Got 'balanced'; weight the labels"):
        tiny(freeze=1, loss=loss, class_weight="balanced").fit(ROWS, LABELS)


def test_values_other_than_zero_and_one():
    message = r"several labels per sample must hold 0 and 1 only. Got \[-1.0, 1.0\]"
    with pytest.raises(ValueError, match=message):
        tiny().fit(ROWS, 2 * LABELS - 1)


def test_other_number_of_columns_later():
    model = tiny(freeze=1).fit(ROWS, LABELS)
    message = r"`y` must have a column for each of the 4 labels. Got shape \(36, 2\)"
    with pytest.raises(ValueError, match=message):
        model.partial_fit(ROWS, LABELS[:, :2])
    with pytest.raises(ValueError, match=r"the 4 labels. Got shape \(36,\)"):
        model.partial_fit(ROWS, Y)
    with pytest.raises(ValueError, match=r"the 4 labels. Got shape \(36, 3\)"):
        tiny(freeze=1).fit(ROWS, LABELS, X_val=ROWS, y_val=LABELS[:, :3])


def test_all_weights_are_zero():
    with pytest.raises(ValueError, match="at least one non-zero|have weight zero"):
        tiny(freeze=1).fit(ROWS, LABELS, sample_weight=np.zeros(36))


@pytest.mark.parametrize("freeze", ["all", 1])
def test_labels_have_the_names_of_the_columns(freeze):
    table = pd.DataFrame(LABELS, columns=["round", "straight", "not 2", "not 0"])
    named = tiny(freeze=freeze).fit(ROWS, table)
    assert named.classes_.tolist() == list(table.columns)
    assert named.model_card_.trained["classes"] == list(table.columns)
    plain = tiny(freeze=freeze).fit(ROWS, LABELS)
    np.testing.assert_array_equal(plain.predict(ROWS_NEW), named.predict(ROWS_NEW))
    copy = pickle.loads(pickle.dumps(named))
    assert copy.to_torch().classes_.tolist() == list(table.columns)


def test_one_hot_targets_are_asked_about():
    text = r"^Each row of `y` has exactly one 1 .* pass `np.argmax\(y, axis=1\)`"
    with pytest.warns(UserWarning, match=text):
        model = tiny(freeze="all").fit(ROWS, np.eye(3, dtype=int)[Y])
    assert model.predict(ROWS_NEW).shape == (100, 3)  # as multilabel targets
