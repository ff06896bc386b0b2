import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.activations import Pool
from sktransfer.backbones import load_backbone
from sktransfer.fitting._split_backbone import (
    check_unchanged,
    describe_network,
    resolve_freeze,
)
from sktransfer.inputs import ImagePreprocessing

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
def test_transform_returns_the_features_of_the_head(backbone, settings):
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
def test_predictions_of_trained_impure_stages_do_not_depend_on_other_samples():
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
    assert resolve_freeze(freeze, backbone, 10) == boundary


@pytest.mark.parametrize(
    ("n_samples", "boundary"),
    [
        (1, "conv_head"),
        (99, "conv_head"),
        (100, "blocks.1"),
        (9_999, "blocks.1"),
        (10_000, "input"),
        (10**7, "input"),
    ],
)
def test_freeze_auto_goes_by_the_number_of_samples(backbone, n_samples, boundary):
    assert resolve_freeze("auto", backbone, n_samples) == boundary


@pytest.mark.parametrize("freeze", [10, -10, "blocks.9", "bloks.4", True, ""])
def test_freeze_without_a_boundary(backbone, freeze):
    with pytest.raises(ValueError, match="`freeze` must be one of") as info:
        resolve_freeze(freeze, backbone, 10)
    text = str(info.value)
    assert "['all', 'none', 'auto'], a share in (0, 1), an int in [-9, 9]" in text
    names = backbone.stage_names
    assert f"block of efficientnet_lite0: {names}. Got {freeze!r}." in text


@pytest.mark.parametrize(
    ("freeze", "near"), [("bloks.4", "blocks.4"), ("al", "all"), ("atuo", "auto")]
)
def test_freeze_without_a_boundary_names_near_ones(backbone, freeze, near):
    with pytest.raises(ValueError, match=f"Did you mean .*'{near}'"):
        resolve_freeze(freeze, backbone, 10)


# Whether a training may go on


def check_change(old, new):
    before, now = (describe_network({"head": value}) for value in (old, new))
    check_unchanged(before, now, "here", "do that")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mlp", "mlp"),
        (1, np.int64(1)),
        ((64, 64), [64, 64]),
        (None, None),
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.1)),
        (load_backbone(nn.Linear(2, 2)), None),
    ],
)
def test_equal_parameters_are_accepted(old, new):
    check_change(old, old if new is None else new)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "mlp",
            "linear",
            "Got head='linear' after head='mlp'; do that to start",
        ),
        (1, True, "Got head=True after head=1;"),
        (nn.ReLU(), "mlp", "Got head='mlp' after head=<ReLU>;"),
        (
            nn.LeakyReLU(0.1),
            nn.LeakyReLU(0.2),
            "Got head=<LeakyReLU> whose content is not that of the first training; do",
        ),
        (lambda: 1, lambda: 2, "Got head=<<lambda>> whose content is not that of the"),
        (
            load_backbone(nn.Linear(2, 2)),
            load_backbone(nn.Linear(2, 2), random_state=1),
            "Got head=<Backbone> whose content is not that",
        ),
    ],
)
def test_changed_parameters_are_refused(old, new, text):
    with pytest.raises(ValueError, match=f"^`head` must not change here, .* {text}"):
        check_change(old, new)


def test_files_are_compared_by_content(tmp_path):
    path, other = tmp_path / "a.pt", tmp_path / "b.pt"
    path.write_bytes(b"one")
    other.write_bytes(b"one")
    before = describe_network({"weights": path})

    def go_on(path):
        check_unchanged(before, describe_network({"weights": path}), "here", "do that")

    go_on(str(path)), go_on(other)
    path.write_bytes(b"two")
    with pytest.raises(ValueError, match="a.pt whose content is not that of the first"):
        go_on(path)
    path.unlink()
    go_on(path)  # what was in it is loaded
    with pytest.raises(ValueError, match="Got weights=.*c.pt after weights="):
        go_on(Path("c.pt"))


def test_objects_of_other_versions_of_libraries_are_accepted(monkeypatch):
    before = describe_network({"head": nn.LeakyReLU(0.1)})
    monkeypatch.setattr(sys, "version", "4.0")
    now = describe_network({"head": nn.LeakyReLU(0.2)})
    check_unchanged(before, now, "here", "do that")
