import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    TrainingRecipe,
    TransferWarning,
)
from sktransfer.fitting import _phases
from sktransfer.fitting._diagnosis import (
    Snapshot,
    check_drift,
    check_overfitting,
    check_start,
    drift,
    has_risen,
    take_snapshot,
)
from sktransfer.model import ClassOutputs
from sktransfer.training import cross_entropy
from tests._recipes import resolved_recipe

DIGITS = load_digits()
X, Y = DIGITS.images / 16, DIGITS.target
OUTPUTS = ClassOutputs(np.arange(2))


def describe(quality):
    return f"{quality:.0%} right"


def rotation(d):
    return np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]


def test_drift_disregards_rotation_scale_and_shift():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 6))
    assert drift(A, A) == pytest.approx(0, abs=1e-12)
    assert drift(A, 3 * A @ rotation(6) + 5) == pytest.approx(0, abs=1e-12)
    assert 0.5 < drift(A, rng.normal(size=(40, 6))) <= 1
    assert drift(A, np.full((40, 6), 1 / 3)) == 1  # they have collapsed
    assert drift(np.zeros((40, 6)), np.full((40, 6), 1 / 3)) == 0


def test_drift_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(30, 4)), rng.normal(size=(30, 7))
    A, B = A - A.mean(axis=0), B - B.mean(axis=0)
    top = np.linalg.norm(B.T @ A) ** 2
    expected = top / np.linalg.norm(A.T @ A) / np.linalg.norm(B.T @ B)
    assert drift(A + 1, B) == pytest.approx(1 - expected)


def test_check_drift_warns_if_drift_and_loss_of_quality_are_large():
    features = np.zeros((64, 2))
    before = Snapshot(features, 0.9, 0.1)
    text = "undid the pretrained features: 90% right on 64 "
    with pytest.warns(TransferWarning, match=text):
        check_drift(before, Snapshot(features, 0.4, 1.0), 0.8, 0.1, describe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_drift(
            before, Snapshot(features, 0.4, 1.0), 0.3, 0.1, describe
        )  # it moved little
        check_drift(
            before, Snapshot(features, 0.88, 0.1), 0.9, 0.1, describe
        )  # it got hardly worse
        few = Snapshot(features[:31], 0.9, 0.1), Snapshot(features[:31], 0.2, 2.0)
        check_drift(*few, 0.9, 0.1, describe)


def test_fit_that_undoes_the_features_warns():
    settings = {"image_size": 32, "random_state": 0, "max_epochs": 2}
    model = FineTunedClassifier(
        freeze=5,
        lr=0.3,
        training=TrainingRecipe(backbone_lr_ratio=1.0, max_grad_norm=None),
        **settings,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X[:100], Y[:100])
    said = [w for w in caught if issubclass(w.category, TransferWarning)]
    assert len(said) == 1
    assert "Take a lower `lr` (it is 0.3)" in str(said[0].message)
    assert said[0].filename == __file__
    assert model.feature_drift_ > 0.5


def test_fit_that_ends_below_its_probe_warns():
    model = FineTunedClassifier(
        freeze=3, image_size=64, max_epochs=1, lr=1e-3, augment=None, random_state=0
    )
    message = (
        r"^The training ended below the linear probe that it began with: 100% right on "
        r"64 training samples and a loss of .*, \d+% right and .* now. Raise "
        r"`max_epochs` \(it is 1\), take a lower `lr` \(it is 0.001\), or "
        r"keep the probe with `freeze='all'`.$"
    )
    with pytest.warns(TransferWarning, match=message) as caught:
        model.fit(X[:120], Y[:120])
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("changed", "after"),
    [
        ({"views": None}, Snapshot(np.zeros((64, 2)), 0.96, 0.12)),
        ({"mixup": 0.2}, Snapshot(np.zeros((64, 2)), 1.0, 0.5)),
        ({"views": "light"}, Snapshot(np.zeros((64, 2)), 1.0, 0.5)),
        ({"views": "auto"}, Snapshot(np.zeros((64, 2)), 1.0, 0.5)),
    ],
    ids=["noise", "mixup", "views", "mirrored"],
)
def test_fit_no_worse_than_the_probe_does_not_warn(changed, after):
    before = Snapshot(np.zeros((64, 2)), 1.0, 0.1)
    check_start(before, after, 0.1, 10, resolved_recipe(**changed), describe)
    # Another epoch may follow one of `partial_fit`.
    worse = Snapshot(np.zeros((64, 2)), 0.2, 2.0)
    check_start(before, worse, 0.1, 1, resolved_recipe(**changed), describe)


def test_higher_loss_is_worse_than_the_probe():
    before, after = (Snapshot(np.zeros((64, 2)), 1.0, loss) for loss in (0.1, 0.2))
    with pytest.warns(TransferWarning, match="ended below the linear probe"):
        check_start(before, after, 0.1, 10, resolved_recipe(views=None), describe)


@pytest.mark.filterwarnings("error")
def test_ordinary_fits_do_not_warn():
    for settings in ({"freeze": 7, "max_epochs": 8}, {"freeze": "all"}):
        model = FineTunedClassifier(image_size=32, random_state=0, **settings)
        model.fit(X[:100], Y[:100], X_val=X[100:130], y_val=Y[100:130])
        assert 0 <= model.feature_drift_ < 0.9


class Scores(nn.Module):
    """A network whose head says what its input holds."""

    def __init__(self):
        super().__init__()
        self.head = nn.Identity()

    def features(self, activations, batch_size):
        return activations


def held(share, n=100):
    """Scores that are right for a share of n samples, and their labels."""
    y = torch.arange(n) % 2
    right = torch.arange(n) < share * n
    return torch.eye(2)[torch.where(right, y, 1 - y)], y


def snapshot_of(data, most=256):
    settings = {"loss": cross_entropy, "batch_size": 8, "most": most}
    return take_snapshot(Scores(), *data, quality=OUTPUTS.quality, **settings)


def test_snapshot_takes_samples_evenly():
    seen = snapshot_of(held(0.5), most=10)
    assert seen.features.shape == (10, 2)
    assert seen.quality == pytest.approx(0.5, abs=0.11)


def test_check_overfitting_warns_if_loss_and_gap_are_large():
    rising = [{"valid_loss": v} for v in (1.0, 0.8, 1.5)]
    text = (
        "The training overfits: 100% right on training samples, 60% right on 100 of "
        "validation, whose loss has risen from 0.8 to 1.5. Set `early_stopping=True`"
    )
    assert has_risen(rising, 100)
    with pytest.warns(TransferWarning, match=text):
        check_overfitting(
            snapshot_of(held(1.0)), snapshot_of(held(0.6)), 100, rising, describe
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_overfitting(
            snapshot_of(held(1.0)), snapshot_of(held(0.9)), 100, rising, describe
        )


def test_validation_loss_that_has_hardly_risen_does_not_warn():
    assert not has_risen([{"valid_loss": v} for v in (1.0, 0.8, 0.9)], 100)
    assert not has_risen([{"valid_loss": v} for v in (1.0, 0.8, 1.5)], 20)
    assert not has_risen([{}, {}], 100)


def test_freezing_too_much_warns():
    model = FineTunedClassifier(freeze="all", image_size=64, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X[:600], Y[:600])
    (said,) = (w for w in caught if issubclass(w.category, TransferWarning))
    text = str(said.message)
    assert text.startswith("`freeze='all'` freezes too much: of 150 samples")
    assert "set `freeze='auto'`" in text
    assert said.filename == __file__


def test_depth_that_is_not_too_deep_does_not_warn():
    for settings in ({"freeze": 3}, {"freeze": "auto"}):
        model = FineTunedClassifier(
            image_size=32, max_epochs=1, lr=1e-5, augment=None, **settings
        )
        model.fit(X[:500], Y[:500])


def test_views_that_nothing_is_drawn_for_excuse_no_higher_loss(monkeypatch):
    seen = []
    monkeypatch.setattr(
        _phases, "check_start", lambda *args: seen.append(args[4].views)
    )
    model = FineTunedClassifier(stages_of_several_widths, freeze=1, max_epochs=1)
    model.fit(*rows_of_noise(40, 0))
    model.set_params(augment__mixup=0.1).fit(*rows_of_noise(40, 0))
    assert seen == [None, None]


def rows_of_noise(n, seed):
    rng = np.random.RandomState(seed)
    rows = rng.normal(size=(n, 5)).astype(np.float32)
    return rows, rng.randint(0, 2, n)


def stages_of_several_widths():
    sizes = zip((5, 12, 8, 6), (12, 8, 6, 4), strict=True)
    return nn.Sequential(*(nn.Linear(*pair) for pair in sizes))


def test_gradual_unfreezing_that_ends_early_is_diagnosed_at_its_last_boundary():
    (rows, y), (new, y_new) = rows_of_noise(40, 0), rows_of_noise(60, 1)
    model = FineTunedClassifier(
        stages_of_several_widths,
        freeze="none",
        training=TrainingRecipe(unfreeze_every=1),
        max_epochs=2,
        lr=2.0,
        random_state=0,
    )
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        model.fit(rows, y, X_val=new, y_val=y_new)
    losses = model.history_["valid_loss"]
    assert losses.iloc[-1] > 1.2 * losses.min()  # so that it is looked at
    assert model.predict(new).shape == (60,)


def test_training_an_upper_quantile_does_not_warn():
    rng = np.random.RandomState(0)
    rows = rng.normal(size=(200, 5)).astype(np.float32)
    y = rows[:, 0] + rng.normal(size=200)
    model = FineTunedRegressor(
        stages_of_several_widths,
        freeze="none",
        loss="quantile",
        quantile=0.99,
        max_epochs=40,
        lr=0.01,
        random_state=0,
    ).fit(rows, y)
    assert np.mean(y <= model.predict(rows)) > 0.9


def test_drift_is_measured_in_the_first_training_only():
    rows, y = rows_of_noise(40, 0)
    model = FineTunedClassifier(stages_of_several_widths, freeze=1, random_state=0)
    assert model.fit(rows, y).feature_drift_ > 0
    assert not hasattr(model.partial_fit(rows, y), "feature_drift_")
    trained = model.model_card_.to_dict()["trained"]
    assert trained["samples"] == 40 and trained["samples_later"] == 40
