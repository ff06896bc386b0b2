import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sktransfer import FineTunedClassifier
from sktransfer.activations import Pool
from sktransfer.backbones import load_backbone
from sktransfer.fitting._split_backbone import LabelledSamples, sort_by_content
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing, as_samples
from sktransfer.model import ClassOutputs

DIGITS = load_digits(n_class=3)
X, Y = DIGITS.images[:24], DIGITS.target[:24]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", image_size=32)


def fit(backbone, **settings):
    settings = {"max_epochs": 1, "freeze": 7, "random_state": 0, **settings}
    model = FineTunedClassifier(backbone, value_range=(0, 16))
    return model.set_params(**settings).fit(X, Y)


def test_target_is_pooled_where_only_the_head_is_left(backbone):
    probe = fit(backbone, freeze="all", pooling="max")
    assert isinstance(probe.model_.taps[probe.boundary_], Pool)
    assert isinstance(probe.module_.network.suffix, torch.nn.Identity)
    trained = fit(backbone, pooling="max")
    (tap,) = trained.model_.taps.values()
    assert isinstance(tap, torch.nn.Identity)
    assert trained.module_.network.suffix.start == "blocks.5"


@pytest.mark.parametrize("settings", [{}, {"freeze": "all"}, {"pooling__grid": 2}])
def test_transform_gives_what_the_head_sees(backbone, settings):
    model = fit(backbone, **settings)
    features = model.transform(X)
    head = model.module_.network.head
    assert features.shape == (24, head.in_features)
    assert features.dtype == np.float32
    with torch.inference_mode():
        scores = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(scores, model._scores(X), rtol=1e-4, atol=1e-4)


def test_names_of_features(backbone):
    names = fit(backbone, freeze="all").get_feature_names_out()
    assert [names[0], names[-1]] == ["finetunedclassifier0", "finetunedclassifier1279"]


def test_scores_of_views_are_averaged(backbone):
    calls = []

    def blacken(image):
        calls.append(image.size)
        return image.point(lambda value: 0)

    model = fit(backbone, augment=blacken, augment__n_views=1)
    plain, calls[:] = model.decision_function(X[:5]), []
    black = model.decision_function(0 * X[:5])
    both = model.set_params(augment__tta=3).decision_function(X[:5])
    assert len(calls) == 15
    np.testing.assert_allclose(both, (plain + 3 * black) / 4, rtol=1e-3, atol=1e-3)


def test_views_need_an_augmentation(backbone):
    model = fit(backbone).set_params(augment__tta=2)
    message = "^`augment__tta` needs `augment__views`. Got None.$"
    with pytest.raises(ValueError, match=message):
        model.predict(X[:2])


@pytest.mark.parametrize(
    "settings", [{"head": "mlp"}, {"pooling__grid": 2, "head": "mlp"}]
)
def test_cutmix_of_pooled_features_averages(backbone, settings):
    model = fit(backbone, freeze="all", augment__cutmix=1.0, **settings)
    assert np.isfinite(model.predict_proba(X)).all()


SMALL = ImagePreprocessing(
    size=(12, 12), resize=12, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


def layers(*between):
    first, last = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3)
    module = torch.nn.Sequential(first, *between, torch.nn.ReLU(), last)
    return load_backbone(module, preprocessing=SMALL, random_state=0)


def predictions(backbone, **settings):
    model = fit(backbone, memory=None, **settings)
    return model, model.predict_proba(X)


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_predictions_of_impure_stages_that_are_trained_depend_on_no_company():
    norm = torch.nn.BatchNorm2d(4, track_running_stats=False)
    model, together = predictions(layers(norm, torch.nn.Dropout2d(0.5)), freeze="none")
    alone = [model.predict_proba(X[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(together[:4], alone)


class SharedNorm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3)
        self.c, self.d = torch.nn.Conv2d(4, 4, 3), torch.nn.Conv2d(4, 4, 3)
        self.norm, self.last = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        z = self.norm(self.c(self.norm(self.b(self.norm(self.a(x))))))
        return self.last(self.d(z.relu()))


@pytest.mark.parametrize("settings", [{}, {"training__ema": 0.9}])
def test_frozen_stages_stay_bit_identical_where_a_norm_is_shared(settings):
    backbone = load_backbone(SharedNorm(), preprocessing=SMALL, random_state=0)
    before = backbone.section("input", "b").state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    model = fit(backbone, freeze=1, training__batch_norm="train", **settings)
    after = model.backbone_.section("input", model.boundary_).state_dict()
    for name in after:
        assert torch.equal(after[name], before[name]), name
    assert "norm.running_mean" in after
    assert model.backbone_.module.last.num_batches_tracked > 0


def test_users_settings_of_torch_change_nothing():
    given = layers()
    _, expected = predictions(given, freeze=0)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        _, found = predictions(given, freeze=0)
    np.testing.assert_array_equal(found, expected)
    model, _ = predictions(given, freeze="all")
    features = model.transform(X)
    with torch.no_grad(), torch.device("meta"):
        np.testing.assert_array_equal(model.transform(X), features)


# Labelled samples

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def labelled(rows, y, weight=None):
    samples = as_samples(rows, VectorPreprocessing(rows.shape[1]))
    outputs = ClassOutputs.learn(y)
    return LabelledSamples.of(
        samples, y, weight, outputs, lambda y, weight, outputs: weight
    )


def test_equal_samples_are_merged_and_those_without_weight_left_out():
    rows = np.concatenate([ROWS, ROWS[:1]])
    data = labelled(rows, [0, 1, 0, 1, 0], np.array([1.0, 2.0, 3.0, 0.0, 4.0]))
    assert len(data.samples) == 3 and sorted(data.weight) == [2, 3, 5]
    assert sorted(data.y) == [0, 0, 1]


def test_taken_samples_keep_their_digests():
    data = labelled(ROWS, [0, 1, 0, 1])
    rest, held = data.hold_out(np.array([1, 3]))
    assert held.samples.digests == [data.samples.digests[i] for i in (1, 3)]
    assert rest.samples.digests == [data.samples.digests[i] for i in (0, 2)]
    assert held.y.tolist() == data.y[[1, 3]].tolist() and len(rest.samples) == 2


def test_order_of_contents_does_not_depend_on_that_of_the_samples():
    one, other = (
        sort_by_content(as_samples(rows, VectorPreprocessing(3)))
        for rows in (ROWS, ROWS[::-1])
    )
    assert one.digests == other.digests == sorted(one.digests)


def test_equal_samples_are_warned_of():
    with pytest.warns(UserWarning, match="^All 2 samples are equal, so nothing"):
        labelled(np.ones((2, 3), dtype=np.float32), [0, 1])
