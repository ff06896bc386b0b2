import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.training import AdaptationMethod, AdaptationResult, Data, cross_entropy
from sktransfer.utils import spawn_seed

DIGITS = load_digits(n_class=3)
X, Y = DIGITS.data[:40] / 16, DIGITS.target[:40]
TARGET, NEW = 1 - DIGITS.data[40:70] / 16, DIGITS.data[100:120] / 16


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU())


def model(**settings):
    settings = {"freeze": 1, "max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(Network, **settings)


class Means(AdaptationMethod):
    name = "means"
    needs_stages = True
    lr_schedule = "annealed"

    def __init__(self, *, weight=1.0, seen=None):
        super().__init__(weight=weight)
        self.seen = seen

    def make_objective(self, n_features, n_outputs, is_multilabel, seed):
        assert (n_features, n_outputs, is_multilabel) == (8, 3, False)
        return self.distance

    def distance(self, source, target, progress):
        self.seen.append((len(source.features), len(target.scores), progress))
        return (source.features.mean(0) - target.features.mean(0)).square().sum()


class Relabelled(AdaptationMethod):
    """Method that trains on the predictions for the target."""

    name = "relabelled"
    needs_source = False

    def __init__(self, *, weight=1.0, contexts=None):
        super().__init__(weight=weight)
        self.contexts = contexts

    def before_training(self, context):
        assert context.network.head is None and context.source is None

    def after_training(self, context):
        self.contexts.append(context)
        if context.target is None:
            return AdaptationResult({"calls": 1})
        features = context.network.features(context.target, context.batch_size)
        labels = context.network.head(features).argmax(1).detach()
        data = Data(context.target_views, labels, np.ones(len(labels)))
        net = context.train(data, loss=cross_entropy)
        return AdaptationResult(
            {"calls": (context.state or {"calls": 0})["calls"] + 1}, net
        )


class Failing(AdaptationMethod):
    needs_source = False

    def after_training(self, context):
        with torch.no_grad():
            context.network.head.weight.zero_()
        raise RuntimeError("no")


def test_parameters_of_methods_are_cloneable():
    method = Means(weight=0.5, seen=None)
    assert clone(method).get_params() == {"weight": 0.5, "seen": None}


def test_objective_is_minimised_on_source_and_target():
    seen = []
    plain = model().fit(X, Y)
    adapted = model().fit(X, Y, X_target=TARGET, adaptation=Means(weight=5, seen=seen))
    assert seen[0][:2] == (32, 32) and [p for *_, p in seen] == [0, 0.25, 0.5, 0.75]
    assert abs(plain.predict_proba(NEW) - adapted.predict_proba(NEW)).max() > 1e-3
    assert adapted.history_["objective"].notna().all()
    trained = adapted.model_card_.trained
    assert (trained["method"], trained["target_samples"]) == ("means", 30)
    again = model().fit(
        X, Y, X_target=TARGET[::-1], adaptation=Means(weight=5, seen=[])
    )
    np.testing.assert_array_equal(again.predict_proba(NEW), adapted.predict_proba(NEW))


def test_weight_zero_is_no_adaptation():
    recipe = {"training__lr_schedule": "cosine"}
    plain = model().fit(X, Y)
    method = Means(weight=0.0, seen=[])
    adapted = model().set_params(**recipe).fit(X, Y, X_target=TARGET, adaptation=method)
    np.testing.assert_allclose(
        plain.predict_proba(NEW), adapted.predict_proba(NEW), atol=1e-5
    )


def test_progress_is_that_of_the_whole_training():
    seen = []
    gradual = model(freeze=0, max_epochs=4).set_params(training__unfreeze_every=2)
    gradual.fit(X[:32], Y[:32], X_target=TARGET, adaptation=Means(seen=seen))
    assert [p for *_, p in seen] == [0, 0.25, 0.5, 0.75]


def test_auto_leaves_stages_to_a_method_that_needs_some():
    auto = model(freeze="auto").fit(X, Y, X_target=TARGET, adaptation=Means(seen=[]))
    assert auto.freeze_depth_ < len(auto.backbone_.stages)
    message = "`method='means'` changes the stages that are trained. Got `freeze='all'`"
    with pytest.raises(ValueError, match=message):
        model(freeze="all").fit(X, Y, X_target=TARGET, adaptation=Means(seen=[]))


def test_method_that_cannot_change_the_stages_gets_all():
    class Choosy(Means):
        def can_adapt(self, suffix):
            return False

    found = model(freeze="auto").fit(X, Y, X_target=TARGET, adaptation=Choosy(seen=[]))
    assert found.boundary_ == "input"


def test_method_without_what_it_needs_raises():
    with pytest.raises(ValueError, match="`method='means'` needs target samples"):
        model().fit(X, Y, adaptation=Means(seen=[]))

    class Exclusive(Means):
        needs_classes = True

    labels = np.stack([Y > 0, Y > 1], axis=1).astype(int)
    with pytest.raises(ValueError, match="needs classes that exclude each other"):
        model().fit(X, labels, X_target=TARGET, adaptation=Exclusive(seen=[]))


@pytest.mark.parametrize("freeze", [1, "all"])
def test_method_without_the_source_trains_after_the_training(freeze):
    plain, contexts = model(freeze=freeze).fit(X, Y), []
    method = Relabelled(contexts=contexts)
    adapted = model(freeze=freeze).fit(X, Y, X_target=TARGET, adaptation=method)
    (context,) = contexts
    assert len(context.source) == 40 and len(context.target) == 30
    assert len({*context.target_digests}) == 30 and context.state is None
    assert abs(plain.predict_proba(NEW) - adapted.predict_proba(NEW)).max() > 1e-4
    n_epochs = len(plain.history_) + 2
    assert adapted.history_["epoch"].tolist() == [*range(1, n_epochs + 1)]
    assert adapted.adaptation_state_ == {"calls": 1}


def test_fitted_network_is_adapted_later():
    contexts = []
    method = Relabelled(contexts=contexts)
    found = model().fit(X, Y, adaptation=method)
    before = found.predict_proba(NEW)
    assert found.adaptation_state_ == {"calls": 1} and contexts[0].target is None
    found.adapt(TARGET, method)
    assert found.adaptation_state_ == {"calls": 2} and contexts[1].source is None
    assert spawn_seed(0) not in [context.seed for context in contexts]
    assert abs(found.predict_proba(NEW) - before).max() > 1e-4
    assert found.model_card_.trained["target_samples"] == 30
    assert not hasattr(found, "feature_drift_")
    assert found.net_.module_ is found.module_.network


def test_method_that_fails_leaves_the_network_as_it_was():
    found = model().fit(X, Y)
    before = found.predict_proba(NEW)
    with pytest.raises(RuntimeError, match="no"):
        found.adapt(TARGET, Failing())
    np.testing.assert_array_equal(found.predict_proba(NEW), before)


def test_views_for_the_source_alone_are_not_applied_to_the_target():
    class Bright:
        for_source_only = True

        def __call__(self, image):
            return image.point(lambda value: min(255, value + 60))

    contexts = []
    images = DIGITS.images[:60] / 16
    tuned = FineTunedClassifier(
        freeze=8, max_epochs=1, image_size=32, augment=Bright(), random_state=0
    )
    method = Relabelled(contexts=contexts)
    tuned.fit(images[:40], Y, X_target=images[40:], adaptation=method)
    assert contexts[0].target_views is contexts[0].target
