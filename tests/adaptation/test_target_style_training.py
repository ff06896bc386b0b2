import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torchvision.transforms import v2

from sktransfer import FineTunedClassifier
from sktransfer.activations import forward_passes, process_store
from sktransfer.adaptation import TargetStyle
from tests.adaptation._photographs import whole

SIDE, N = 32, 150


def enlarged(row):
    image = Image.fromarray(whole(row.reshape(8, 8) * 255 / 16))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def spoilt(images):
    """Darken, blur and add noise."""
    noise = 12 * np.random.RandomState(0).normal(size=images.shape)
    return whole(0.4 * ndimage.gaussian_filter(images * 1.0, (0, 1.5, 1.5)) + noise)


DIGITS, LABELS = load_digits(return_X_y=True)
IMAGES = np.stack([enlarged(row) for row in DIGITS[: 3 * N]])
X, Y = IMAGES[:N], LABELS[:N]
X_TARGET = spoilt(IMAGES[N : 2 * N])
X_NEW, Y_NEW = spoilt(IMAGES[2 * N :]), LABELS[2 * N : 3 * N]
STYLE = TargetStyle().fit(X_TARGET)


def classifier(**settings):
    return FineTunedClassifier(
        freeze=5, image_size=64, max_epochs=3, random_state=0, **settings
    )


def test_training_towards_the_target_helps_there():
    plain = classifier().fit(X, Y).score(X_NEW, Y_NEW)
    styled = classifier(augment=STYLE, n_views=2).fit(X, Y).score(X_NEW, Y_NEW)
    assert styled > 0.5 > plain + 0.1


def test_views_are_kept_for_clones_and_for_styles_fitted_alike():
    process_store().clear()
    model = FineTunedClassifier(
        freeze="all", image_size=64, random_state=0, augment=STYLE, n_views=2
    )
    first = model.fit(X[:20], Y[:20]).predict_proba(X_NEW[:5])
    forward_passes().clear()
    again = TargetStyle().fit(X_TARGET)
    twin = clone(model.set_params(augment=again)).fit(X[:20], Y[:20])
    np.testing.assert_allclose(twin.predict_proba(X_NEW[:5]), first, atol=1e-6)
    assert sum(forward_passes().values()) == 0
    assert repr(model.augment) in repr(model)


@pytest.mark.parametrize("shift", ["styles", "backgrounds", "histogram"])
def test_other_shifts_train(shift):
    style = TargetStyle(shift=shift).fit(X_TARGET[:20])
    model = FineTunedClassifier(freeze="all", image_size=64, augment=style, n_views=1)
    assert model.fit(X[:60], Y[:60]).score(X[:60], Y[:60]) > 0.5


@pytest.mark.parametrize("wrap", [lambda style: style, lambda s: v2.Compose([s])])
@pytest.mark.parametrize("n_views", [None, 1])
def test_unfitted(wrap, n_views):
    model = classifier(augment=wrap(TargetStyle()), n_views=n_views)
    with pytest.raises(NotFittedError, match="^This TargetStyle is not fitted. Call"):
        model.fit(X[:20], Y[:20])
