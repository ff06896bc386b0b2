import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torchvision import tv_tensors
from torchvision.transforms import v2

from sktransfer import Augmentation, FineTunedClassifier
from sktransfer.activations import forward_passes, name_of, process_store
from sktransfer.adaptation import TargetStyle
from tests.adaptation._photographs import CROPS, SIDE, blurred, noisy, whole

SOURCE, OTHERS = CROPS[::2], CROPS[1::2]


def spoilt(crop):
    """Darken, tint and blur an image, and add noise."""
    return noisy(blurred(0.45 * crop * np.array([1.0, 0.85, 0.6]), 2), 6)


TARGET = [spoilt(crop) for crop in OTHERS]
STYLE = TargetStyle().fit(TARGET, X_source=SOURCE)


def drawn(style, images=SOURCE, seed=0):
    torch.manual_seed(seed)
    return [np.asarray(style(Image.fromarray(image))) for image in images]


def test_the_distance_to_the_target_is_at_least_halved():
    moved = TargetStyle().fit(drawn(STYLE)).statistics_["target"]
    source, target = STYLE.statistics_["source"], STYLE.statistics_["target"]
    for name in (
        *("brightness", "contrast", "lightness_mean", "lightness_std"),
        *("green_red_std", "blue_yellow_std", "blur", "noise"),
    ):
        before, after = (
            abs(source[name] - target[name]),
            abs(moved[name] - target[name]),
        )
        assert after < 0.5 * before, name


def test_brightness_of_the_same_photographs():
    for crop, factor in zip(SOURCE[:4], (0.3, 0.4, 0.5, 0.6), strict=True):
        style = TargetStyle(shift="lighting").fit([whole(factor * crop)])
        (found,) = drawn(style, [crop])
        assert found.mean() == pytest.approx(factor * crop.mean(), rel=0.1)


def test_statistics_show_the_differences():
    table = STYLE.statistics_
    assert list(table) == ["target", "target_std", "source", "source_std", "difference"]
    assert table.loc["brightness", "difference"] < -1.5
    assert table.loc["blur", "difference"] > 2 and table.loc["noise", "difference"] > 2
    assert np.isnan(table.loc["side", "difference"])
    assert list(TargetStyle().fit(TARGET).statistics_) == ["target", "target_std"]
    np.testing.assert_allclose(STYLE.target_rows_.mean(axis=0), table["target"])
    assert STYLE.source_rows_.shape == (len(SOURCE), len(table))


def test_strength_is_the_share_of_the_way():
    bright = np.mean(SOURCE) / 255
    goal = STYLE.statistics_.loc["brightness", "target"]
    for strength in (0.5, 1.0):
        images = drawn(TargetStyle(strength).fit(TARGET))
        expected = bright + strength * (goal - bright)
        assert np.mean(images) / 255 == pytest.approx(expected, abs=0.03)


def test_equal_domains_leave_images_nearly_as_they_are():
    style = TargetStyle().fit(SOURCE, X_source=SOURCE)
    for found, image in zip(drawn(style), SOURCE, strict=True):
        assert abs(np.float32(found) - image).mean() < 2
    mixed = [
        *SOURCE[:4],
        *(noisy(whole(128 + 0.2 * (c - 128.0)), 14) for c in OTHERS[:2]),
    ]
    mixed += [crop[:48, :48] for crop in OTHERS]
    style = TargetStyle().fit(mixed, X_source=mixed)
    for found, image in zip(drawn(style, mixed), mixed, strict=True):
        assert abs(np.float32(found) - image).mean() < 4
    shuffled = drawn(TargetStyle().fit(SOURCE))  # knows nothing of the source
    assert abs(np.float32(shuffled) - np.float32(SOURCE)).mean() > 10


def test_light_and_dark_are_swapped_if_backgrounds_are():
    dark = np.uint8(load_digits().images[:30] * 255 / 16)
    style = TargetStyle().fit(255 - dark[:15], X_source=dark[15:])
    assert style.turned_
    images = [np.repeat(image[..., None], 3, axis=2) for image in dark[15:]]
    for found, image in zip(drawn(style, images), images, strict=True):
        assert np.corrcoef(found.ravel(), image.ravel())[0, 1] < -0.9
    (kept,) = drawn(style, [255 - images[0]])  # that is turned already
    assert abs(np.float32(kept) - (255.0 - images[0])).mean() < 2
    half = TargetStyle(0.5).fit(255 - dark[:15], X_source=dark[15:])
    (halfway,) = drawn(half, images[:1])
    assert halfway.std() > 20
    assert not TargetStyle(shift="lighting").fit(255 - dark, X_source=dark).turned_
    assert not TargetStyle().fit(255 - dark[:7], X_source=dark[15:]).turned_
    assert not TargetStyle().fit(255 - dark[:15]).turned_
    assert not TargetStyle().fit(dark[:15], X_source=dark[15:]).turned_
    negatives = [255 - crop for crop in CROPS]
    assert not TargetStyle().fit(negatives, X_source=CROPS).turned_


def test_sizes_beyond_those_that_were_measured():
    sides = [Image.fromarray(SOURCE[0]).resize((n, n)) for n in (60, 64, 70, 80, 90)]
    small = Image.fromarray(SOURCE[0]).resize((12, 12))
    for shift in ("measured", "lighting"):
        style = TargetStyle(shift=shift).fit([small] * 3, X_source=sides)
        assert style(sides[0].resize((40, 40))).size == (40, 40)


def test_images_that_are_not_swapped_still_lose_resolution():
    dark = np.uint8(load_digits().images[:30] * 255 / 16).repeat(8, 1).repeat(8, 2)
    images = [Image.fromarray(image).convert("RGB") for image in dark]
    target = [Image.fromarray(255 - np.asarray(im)).resize((12, 12)) for im in images]
    style = TargetStyle(0.4).fit(target[:15], X_source=images[15:])
    assert style.turned_
    found = np.asarray(style(images[20]))  # at 0.4 of the way, of 34 pixels from 64
    small = Image.fromarray(found).resize((44, 44), Image.Resampling.BOX)
    back = small.resize((64, 64), Image.Resampling.BILINEAR)
    lost = [
        np.abs(np.float32(a) - np.float32(back)).mean() for a in (found, images[20])
    ]
    assert lost[0] < 0.5 * lost[1]


def test_content_is_not_mistaken_for_noise_or_blur():
    flat = [np.full_like(SOURCE[0], 128)] * 2
    checked = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255
    rough = [np.uint8(np.repeat(checked[..., None], 3, axis=2))] * 2
    style = TargetStyle(shift="cameras").fit([*SOURCE, *flat, *rough], X_source=SOURCE)
    for found, image in zip(drawn(style), SOURCE, strict=True):
        assert abs(np.float32(found) - image).mean() < 2


def test_strength_or_probability_zero_changes_nothing():
    for style in (TargetStyle(0), TargetStyle(p=0)):
        for found, image in zip(drawn(style.fit(TARGET[:2])), SOURCE, strict=True):
            np.testing.assert_array_equal(found, image)
    half = TargetStyle(p=0.5, shift="lighting").fit(TARGET[:2])
    half = drawn(half, [SOURCE[0]] * 40)
    kept = sum(np.array_equal(found, SOURCE[0]) for found in half)
    assert 10 < kept < 30


@pytest.mark.parametrize("shift", ["measured", "lighting"])
def test_views_depend_on_the_seed(shift):
    style = TargetStyle(shift=shift).fit(TARGET[:4])
    first, again, other = (drawn(style, SOURCE[:3], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(np.float32(first) - np.float32(other)).max() > 5
    assert abs(np.float32(first) - np.float32(SOURCE[:3])).max() > 5


def test_image_in_its_own_style_is_unchanged():
    shifts = ["lighting", "cameras", "colour"]
    for image in SOURCE[:3]:
        style = TargetStyle(shift=["lighting", "colour"]).fit([image])
        (found,) = drawn(style, [image])
        assert abs(found.astype(int) - image).max() <= 2
        (found,) = drawn(TargetStyle(shift="cameras").fit([image]), [image])
        assert abs(found.astype(int) - image).mean() < 3
    assert TargetStyle(shift=shifts).fit(SOURCE)._steps[0] == "resolution"


def test_tensors_labels_boxes_and_compose():
    pixels = torch.tensor(SOURCE[0]).permute(2, 0, 1)
    (expected,) = drawn(STYLE, SOURCE[:1])
    torch.manual_seed(0)
    found = STYLE(pixels)
    np.testing.assert_array_equal(found.permute(1, 2, 0), expected)
    image, boxes = (
        tv_tensors.Image(pixels),
        tv_tensors.BoundingBoxes(
            [[0, 0, 9, 9]], format="XYXY", canvas_size=(SIDE, SIDE)
        ),
    )
    torch.manual_seed(0)
    found, same, label = STYLE(image, boxes, 3)
    assert isinstance(found, tv_tensors.Image) and same is boxes and label == 3
    np.testing.assert_array_equal(found.permute(1, 2, 0), expected)
    both = v2.Compose([STYLE, v2.CenterCrop(50)])(Image.fromarray(SOURCE[0]))
    assert both.size == (50, 50)


@pytest.mark.parametrize("leading", [(0,), (3,), (2, 1)])
def test_batches_of_tensors(leading):
    n = int(np.prod(leading))
    pixels = torch.tensor(np.array(SOURCE))[:n]
    pixels = pixels.permute(0, 3, 1, 2).reshape(*leading, 3, SIDE, SIDE)
    style = TargetStyle(shift="lighting").fit(TARGET[:1])
    for batch in (pixels, tv_tensors.Image(pixels)):
        found = style(batch)
        assert type(found) is type(batch) and found.shape == pixels.shape
        found = found.reshape(n, 3, SIDE, SIDE).permute(0, 2, 3, 1)
        expected = np.reshape(drawn(style, SOURCE[:n]), (n, SIDE, SIDE, 3))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_stay_on_their_device():
    pixels = torch.tensor(SOURCE[0]).permute(2, 0, 1)
    torch.manual_seed(0)
    expected = STYLE(pixels)
    torch.manual_seed(0)
    found = STYLE(pixels.to("cuda"))
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.uint8)]
)
def test_other_tensors(pixels):
    with pytest.raises(TypeError, match=r"TargetStyle takes PIL images or uint8 ten"):
        STYLE(pixels)


@pytest.mark.parametrize("p", [0, 1])
def test_images_of_any_mode_and_size(p):
    style = TargetStyle(shift=["measured", "lighting"], p=p).fit(TARGET)
    for image in (Image.new("L", (1, 1)), Image.new("RGBA", (5, 300), "red")):
        found = style(image)
        assert (found.size, found.mode) == (image.size, "RGB")


def test_key_is_stable_and_depends_on_the_statistics():
    target, source = TARGET[:3], SOURCE[:2]
    style = TargetStyle().fit(target, X_source=source)
    twins = style, copy.deepcopy(style), pickle.loads(pickle.dumps(style))
    again = TargetStyle().fit(target, X_source=source)
    for twin in (*twins, again):
        assert name_of(twin) == name_of(style)
        assert (twin.key(), repr(twin)) == (style.key(), repr(style))
    others = [
        TargetStyle().fit(target),
        TargetStyle().fit(target, X_source=source[:-1]),
        TargetStyle().fit(target[:-1]),
        TargetStyle(0.5).fit(target),
        TargetStyle(shift="cameras").fit(target),
        TargetStyle(p=0.5).fit(target),
        TargetStyle(shift=["measured", "lighting"]).fit(target),
    ]
    assert len({one.key() for one in (style, *others)}) == 8
    assert len({name_of(one) for one in (style, *others)}) == 8
    assert name_of(v2.Compose([style])) == name_of(v2.Compose([again]))
    assert style.key().startswith("target-style-v5;strength=1.0;p=1.0;steps=resolution")


def test_repr_of_unfitted():
    assert repr(TargetStyle(0.5)) == (
        "TargetStyle(strength=0.5, shift='measured', p=1.0)"
    )
    assert "target=9 images" in repr(STYLE)


def test_only_some_images_are_measured():
    assert len(TargetStyle(max_images=4).fit(TARGET).target_rows_) == 4


@pytest.mark.parametrize(
    "ask", [lambda s: s(Image.new("RGB", (9, 9))), TargetStyle.key]
)
def test_unfitted_style_raises(ask):
    with pytest.raises(NotFittedError, match="This TargetStyle is not fitted. Call"):
        ask(TargetStyle())


def test_parameters_changed_after_fit_raise():
    style = TargetStyle().fit(TARGET[:2])
    for name, value in {
        **{"strength": 0.5, "shift": "lighting", "p": 0.5},
        **{"max_images": 3, "image_shape": (SIDE, SIDE, 3), "value_range": (0, 255)},
    }.items():
        before = getattr(style, name)
        setattr(style, name, value)
        message = rf"not fitted with the parameters .* Got {name}=.* after {name}=.*; c"
        for ask in (drawn, TargetStyle.key):
            with pytest.raises(NotFittedError, match=message):
                ask(style)
        assert "changed since `fit`" in repr(style)
        setattr(style, name, before)
    style.strength = 0.5
    assert TargetStyle.key(style.fit(TARGET[:2]))


def test_a_list_of_shifts_that_grows_after_fit():
    style = TargetStyle(shift=["blur"]).fit(TARGET)
    style.shift.append("noise")
    with pytest.raises(NotFittedError, match=r"Got shift=\['blur', 'noise'\] after"):
        style.key()


@pytest.mark.parametrize("value", [-0.1, 1.1, "much"])
def test_shares_out_of_range_raise(value):
    for name in ("strength", "p"):
        message = rf"`{name}` must be in \[0, 1\]\. Got {value!r}\."
        with pytest.raises(ValueError, match=message):
            TargetStyle(**{name: value}).fit(TARGET[:1])


@pytest.mark.parametrize("value", [0, 2.5, None])
def test_max_images_out_of_range_raises(value):
    message = rf"`max_images` must be an int of at least 1\. Got {value}\."
    with pytest.raises(ValueError, match=message):
        TargetStyle(max_images=value).fit(TARGET[:1])


@pytest.mark.parametrize("shift", ["camera", ["lighting", "camera"]])
def test_unknown_shift_raises(shift):
    message = r"`shift` must be one of \['measured', .* Got 'camera'\. Did you mean"
    with pytest.raises(ValueError, match=message):
        TargetStyle(shift=shift).fit(TARGET)


# In the training of an estimator, with the shipped weights

N = 60


def enlarged(row):
    image = Image.fromarray(whole(row.reshape(8, 8) * 255 / 16))
    return np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def digits():
    """Return X, y of the source, X of the target, and X, y of the test samples."""
    rows, labels = load_digits(return_X_y=True)
    images = np.stack([enlarged(row) for row in rows[: 3 * N]])
    noise = 12 * np.random.RandomState(0).normal(size=images.shape)
    dark = whole(0.4 * ndimage.gaussian_filter(images * 1.0, (0, 1.5, 1.5)) + noise)
    target, new = dark[N : 2 * N], dark[2 * N :]
    return images[:N], labels[:N], target, new, labels[2 * N : 3 * N]


def test_training_towards_the_target_helps_there(digits):
    X, y, target, new, y_new = digits
    model = FineTunedClassifier(freeze=8, image_size=48, max_epochs=2, random_state=0)
    plain = model.fit(X, y).score(new, y_new)
    model.set_params(augment=Augmentation(TargetStyle().fit(target), n_views=2))
    assert model.fit(X, y).score(new, y_new) > 0.5 > plain + 0.1


def test_views_are_kept_for_clones_and_for_styles_fitted_alike(digits):
    X, y, target, new, _ = digits
    process_store().clear()
    style, again = (TargetStyle().fit(target[:20]) for _ in range(2))
    model = FineTunedClassifier(freeze="all", image_size=32, random_state=0)
    model.set_params(augment=Augmentation(style, n_views=2))
    first = model.fit(X[:20], y[:20]).predict_proba(new[:5])
    forward_passes().clear()
    twin = clone(model.set_params(augment__views=again)).fit(X[:20], y[:20])
    np.testing.assert_allclose(twin.predict_proba(new[:5]), first, atol=1e-6)
    assert sum(forward_passes().values()) == 0
    assert repr(again) in repr(model)


@pytest.mark.parametrize("n_views", [None, 1])
def test_unfitted_styles_are_refused(n_views, digits):
    X, y, *_ = digits
    augment = Augmentation(v2.Compose([TargetStyle()]), n_views=n_views)
    model = FineTunedClassifier(freeze=5, image_size=32, augment=augment)
    with pytest.raises(NotFittedError, match="^This TargetStyle is not fitted. Call"):
        model.fit(X[:20], y[:20])
