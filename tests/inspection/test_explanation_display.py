import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps

from sktransfer.inspection import Explanation, ExplanationDisplay, explain


def image(seen=(0, 0, 4, 6), low=0.0):
    values = np.linspace(low, 1, 24).reshape(4, 6)
    shown = np.full((4, 6, 3), 100, np.uint8)
    return Explanation(values, "gradcam", "cat", 1.5, shown=shown, seen=seen)


def text(tokens, values):
    found = np.array(values)
    return Explanation(
        found, "integrated_gradients", "good", -0.5, shown="", tokens=tokens
    )


def test_heat_maps_lie_over_gray_images():
    display = ExplanationDisplay([image(), image(low=-1)]).plot(alpha=0.5)
    positive, signed = display.maps_
    np.testing.assert_array_equal(positive.get_array(), image().values)
    assert positive.get_clim()[0] == 0
    assert signed.get_clim()[0] == -signed.get_clim()[1]
    assert positive.get_alpha() == 0.5
    below, _ = display.axes_[0, 0].images
    assert below.get_array()[0, 0] == pytest.approx(100)
    assert display.axes_[0, 0].get_title(loc="left") == "cat (+1.50)"
    heading = display.figure_.get_suptitle()
    assert heading == "Grad-CAM (red: for it, blue: against)"


def test_what_was_not_seen_has_no_colour():
    (drawn,) = ExplanationDisplay([image(seen=(1, 0, 3, 6))]).plot().maps_
    mask = np.ma.getmaskarray(drawn.get_array())
    assert mask[[0, 3]].all()
    assert not mask[1:3].any()
    (box,) = drawn.axes.patches
    assert box.get_bbox().bounds == (-0.5, 0.5, 6, 2)


def test_tokens_have_background_colours_and_are_wrapped():
    tokens = ["[CLS]", "un", "##like", *["word"] * 20, "▁last"]
    values = [0, 1, -1, *[0.0] * 20, 0.5]
    (drawn,) = ExplanationDisplay([text(tokens, values)]).plot().texts_
    assert [t.get_text() for t in drawn[:4]] == ["[CLS]", "un", "like", "word"]
    assert drawn[-1].get_text() == "last"
    colors = [t.get_bbox_patch().get_facecolor() for t in drawn]
    assert colors[1] == pytest.approx(colormaps["RdBu_r"](0.75))
    assert colors[2] == pytest.approx(colormaps["RdBu_r"](0.25))
    ends = [t.xyann[0] + 8 * 0.602 * len(t.get_text()) for t in drawn]
    assert max(ends) <= 4.8 * 72
    assert len({t.xyann[1] for t in drawn}) == 2
    first, second = drawn[1:3]  # of one word
    assert second.xyann[0] == pytest.approx(first.xyann[0] + 2 * 8 * 0.602)


def test_other_values_are_bars_or_pictures():
    bars = Explanation(np.array([1.0, -2]), "integrated_gradients", 0, 1, shown="")
    sound = Explanation(np.ones((5, 3)), "integrated_gradients", 0, 1, shown="")
    display = ExplanationDisplay([bars, sound]).plot()
    heights = [bar.get_height() for bar in display.axes_[0, 0].patches]
    assert heights == [1, -2]
    assert display.maps_[0].get_array().shape == (3, 5)


def test_given_axes():
    _, axes = plt.subplots(2)
    display = ExplanationDisplay([image()]).plot(axes)
    assert display.figure_ is axes[0].figure
    assert not axes[1].axison
    with pytest.raises(ValueError, match="one Axes per explanation, 3. Got 1."):
        ExplanationDisplay([image()] * 3).plot(axes[0])


def test_from_estimator_explains(probe, digits):
    X = digits[0][:2]
    display = ExplanationDisplay.from_estimator(probe, X, method="gradcam++")
    for drawn, found in zip(
        display.explanations, explain(probe, X, method="gradcam++"), strict=True
    ):
        np.testing.assert_array_equal(drawn.values, found.values)
    assert display.figure_.get_suptitle() == "Grad-CAM++"
