import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import FineTunedClassifier, FineTunedRegressor, config_context
from sktransfer.backbones import load_backbone
from tests.test_classifier import ROWS, ROWS_NEW, X, Y, lite, make_network, tiny


@pytest.mark.parametrize("freeze", [1, "none"])
def test_warm_start_trains_further(freeze):
    model = tiny(freeze=freeze, warm_start=True, max_epochs=5).fit(ROWS, Y)
    first = model.predict_proba(ROWS_NEW)
    module, loss = model.module_, model.history_["train_loss"].iloc[0]
    model.set_params(max_epochs=20).fit(ROWS, Y)
    assert model.module_ is module
    assert model.history_["epoch"].tolist() == [*range(1, 26)]
    assert model.history_["train_loss"].iloc[-1] < loss
    assert abs(model.predict_proba(ROWS_NEW) - first).max() > 1e-2


def test_warm_start_continues_from_the_fitted_weights():
    model = tiny(freeze=1, warm_start=True, max_epochs=5).fit(ROWS, Y)
    before = model.predict_proba(ROWS_NEW)
    model.set_params(lr=1e-9).fit(ROWS, Y)
    np.testing.assert_allclose(model.predict_proba(ROWS_NEW), before, atol=1e-5)
    model.set_params(warm_start=False, max_epochs=2, lr=1e-2).fit(ROWS, Y)
    expected = tiny(freeze=1).fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


def test_warm_start_of_a_probe_solves_it_again():
    model = tiny(freeze="all", warm_start=True).fit(ROWS[:18], Y[:18]).fit(ROWS, Y)
    expected = tiny(freeze="all").fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize(
    "settings", [{}, {"training__adapter": "lora"}, {"training__batch_norm": "train"}]
)
def test_further_training_keeps_the_frozen_tensors(settings):
    model = tiny(freeze=1, **settings).fit(ROWS, Y)
    before = {k: v.clone() for k, v in model.backbone_.module.state_dict().items()}
    model.partial_fit(ROWS, Y)
    after = model.backbone_.module.state_dict()
    assert {k for k in after if not torch.equal(after[k], before[k])} <= {
        "2.weight",
        "2.bias",
    }
    assert not torch.equal(after["2.weight"], before["2.weight"])


def test_adapters_continue_from_the_adapted_weights():
    model = tiny(freeze=1, training__adapter="lora", lr=1e-2, warm_start=True).fit(
        ROWS, Y
    )
    losses = model.set_params(max_epochs=5).fit(ROWS, Y).history_["train_loss"]
    assert losses.iloc[-5:].max() < losses.iloc[0]


def test_what_adapters_froze_can_be_trained_later():
    model = tiny(freeze=1, training__adapter="lora").fit(ROWS, Y)
    before = model.backbone_.module.state_dict()["2.weight"].clone()
    model.set_params(training__adapter=None).partial_fit(ROWS, Y)
    assert (model.backbone_.module.state_dict()["2.weight"] != before).all()
    assert not any(p.requires_grad for p in model.module_.prefix.parameters())


def test_further_training_uses_other_random_numbers():
    orders = []

    class Order(Callback):
        def on_batch_end(self, net, batch, training, **kwargs):
            orders.append(batch[1].tolist())

    model = tiny(freeze=1, batch_size=8, callbacks=[Order()])
    for _ in range(3):
        model.partial_fit(ROWS, Y)
    first, second, third = orders[:5], orders[5:10], orders[10:]
    assert len(third) == 5 and first != second != third != first


def test_partial_fit_holds_nothing_out():
    settings = {"freeze": 1, "training__lr_schedule": "constant"}
    model = tiny(**settings, early_stopping=True)
    expected = tiny(**settings)
    for _ in range(2):
        model.partial_fit(ROWS, Y)
        expected.partial_fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


def test_warm_start_with_another_network():
    model = tiny(freeze=1, warm_start=True).fit(ROWS, Y)
    message = (
        "^`freeze` must not change .* further. Got freeze='none' after freeze=1; set"
    )
    with pytest.raises(ValueError, match=message):
        model.set_params(freeze="none").fit(ROWS, Y)
    pickle.loads(pickle.dumps(model)).set_params(freeze=1).fit(ROWS, Y)
    model.set_params(warm_start=False).fit(ROWS, Y)
    assert model.boundary_ == "input"


def test_partial_fit_with_another_network():
    model = tiny(freeze=1).partial_fit(ROWS, Y)
    before = model.predict_proba(ROWS_NEW)
    message = (
        "^`pooling` must not change in `partial_fit`, which trains the fitted network "
        "further. Got pooling='max' after pooling='auto'; use "
        "`sklearn.base.clone` to start again.$"
    )
    with pytest.raises(ValueError, match=message):
        model.set_params(pooling="max").partial_fit(ROWS, Y)
    np.testing.assert_array_equal(model.predict_proba(ROWS_NEW), before)


def test_further_training_with_a_changed_backbone():
    module = make_network()
    module(torch.zeros(2, 64))  # lazy layers
    model = tiny(backbone=module, freeze=1, warm_start=True).fit(ROWS, Y)
    pickle.loads(pickle.dumps(model)).partial_fit(ROWS, Y)
    module[2].weight.data += 1
    message = (
        "^`backbone` must not change .*. Got backbone=<Sequential> whose content is "
        "not that of the first training; "
    )
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message):
            go_on(ROWS, Y)
    module[2].weight.data -= 1
    with pytest.raises(ValueError, match="Got backbone=<lite> after backbone=<Seq"):
        model.set_params(backbone=lite).fit(ROWS, Y)


def test_further_training_with_a_changed_file_of_weights(tmp_path):
    def write(seed):
        module = load_backbone("timm/test_resnet", weights=None, random_state=seed)
        torch.save(module.module.state_dict(), path)

    path = tmp_path / "weights.pt"
    write(0)
    common = {"weights": path, "freeze": "all", "C": 1.0, "image_size": 32}
    common["value_range"] = (0, 16)
    model = FineTunedClassifier("timm/test_resnet", **common).partial_fit(X, Y)
    write(0)
    model.partial_fit(X, Y)
    write(1)
    with pytest.raises(ValueError, match="`weights` must not change in `partial_f"):
        model.partial_fit(X, Y)
    path.unlink()
    model.partial_fit(X, Y)  # what was read is there


@pytest.mark.parametrize("freeze", ["all", 1])
def test_partial_fit_is_an_epoch(freeze):
    model = tiny(freeze=freeze).partial_fit(ROWS, Y)
    assert len(model.history_) == 1
    for n_epochs in (2, 3):
        assert model.partial_fit(ROWS[::-1], Y[::-1]) is model
        assert len(model.history_) == n_epochs
    assert model.score(ROWS, Y) > 0.5


def test_pickling_in_between_changes_nothing():
    model = tiny(freeze=1).partial_fit(ROWS, Y)
    copy = pickle.loads(pickle.dumps(model)).partial_fit(ROWS, Y)
    model.partial_fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), copy.predict_proba(ROWS_NEW)
    )
    assert len(copy.history_) == 2


@pytest.mark.parametrize("freeze", ["all", 1])
def test_classes_that_come_later_are_learned(freeze):
    model = tiny(freeze=freeze, lr=0.1, C=1.0)
    known = Y < 2
    model.partial_fit(ROWS[known], Y[known], classes=[0, 1, 2])
    assert model.classes_.tolist() == [0, 1, 2]
    assert not np.isin(2, model.predict(ROWS[known]))
    for _ in range(40):
        model.partial_fit(ROWS, Y)
    assert model.score(ROWS, Y) > 0.8


def test_labels_that_are_no_classes():
    message = r"`y` holds labels that are not among the classes: \[2\]. The classes are"
    with pytest.raises(ValueError, match=message):
        tiny().partial_fit(ROWS, Y, classes=[0, 1])
    known = Y < 2
    model = tiny(freeze=1, warm_start=True).fit(ROWS[known], Y[known])
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message):
            fit(ROWS, Y)


def test_classes_of_a_failed_call_are_forgotten():
    model = tiny(freeze=1)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.partial_fit(ROWS, Y[1:], classes=[0, 1, 2, 3])
    assert model.fit(ROWS, Y).classes_.tolist() == [0, 1, 2]


# Another estimator's network


def test_network_of_a_fitted_estimator():
    source = tiny(freeze="none", max_epochs=5).fit(ROWS, Y)
    before = {k: v.clone() for k, v in source.backbone_.module.state_dict().items()}
    probe = tiny(backbone=source, freeze="all", C=1.0).fit(ROWS, Y % 2)
    features, new = source.transform(ROWS), source.transform(ROWS_NEW)
    np.testing.assert_array_equal(probe.transform(ROWS), features)
    reference = LogisticRegression(tol=1e-6).fit(features, Y % 2)
    np.testing.assert_allclose(
        probe.predict_proba(ROWS_NEW), reference.predict_proba(new), atol=1e-3
    )
    tiny(backbone=source, freeze="none").fit(ROWS, Y % 2)
    after = source.backbone_.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_network_goes_from_a_regressor_to_a_classifier():
    source = FineTunedRegressor(make_network, freeze="none", random_state=0)
    source.fit(ROWS, ROWS.sum(axis=1))
    model = tiny(backbone=source, freeze="all").fit(ROWS, Y)
    np.testing.assert_array_equal(model.transform(ROWS), source.transform(ROWS))


def test_network_of_images():
    with config_context(precision="float32"):
        source = lite(freeze=8).fit(X, Y)
        model = lite(backbone=source, freeze="all").set_params(image_size=None)
        model.fit(X, Y)
    # Once all stages are frozen, each is rounded to 16 bits at its end.
    np.testing.assert_allclose(
        model.transform(X[:4]), source.transform(X[:4]), rtol=3e-3, atol=1e-3
    )


def test_estimator_that_is_not_fitted():
    with pytest.raises(
        NotFittedError, match="`backbone` is a FineTunedClassifier that"
    ):
        tiny(backbone=tiny()).fit(ROWS, Y)
    source = tiny(freeze="none").fit(ROWS, Y)
    with pytest.raises(NotFittedError, match="wrap it in sklearn.frozen.FrozenEstim"):
        clone(tiny(backbone=source)).fit(ROWS, Y)


def test_frozen_estimator_in_a_search():
    source = tiny(freeze="none", max_epochs=5).fit(ROWS, Y)
    model = tiny(backbone=FrozenEstimator(source))
    search = GridSearchCV(model, {"freeze": [1, "all"]}, cv=2, error_score="raise")
    search.fit(ROWS, Y % 2)
    best = search.best_estimator_
    assert isinstance(best, FineTunedClassifier)
    first = best.backbone_.module.state_dict()["0.weight"]
    assert torch.equal(first, source.backbone_.module.state_dict()["0.weight"])
