import matplotlib.pyplot as plt
import pytest

from sktransfer.inspection._figures import COLORS, legend, name_stages, panels, style
from sktransfer.utils import import_optional


def test_panels_are_one_below_the_other_and_share_the_depths():
    upper, lower = panels(None, [2, 1], feature="It")
    assert upper.figure is lower.figure
    assert upper.get_shared_x_axes().joined(upper, lower)
    assert tuple(upper.figure.get_size_inches()) == (4.8, 3)


def test_given_axes_are_used():
    _, axes = plt.subplots(2)
    assert panels(axes, [2, 1], feature="It") == [*axes]
    assert panels(axes[0], [2, 1], feature="It") == [axes[0]]
    with pytest.raises(ValueError, match="`ax` of It must be one Axes or up to 1 of"):
        panels(axes, [2], feature="It")


def test_missing_matplotlib_raises(monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(module, name="matplotlib")

    monkeypatch.setattr(f"{import_optional.__module__}.import_module", absent)
    with pytest.raises(
        ImportError, match=r"It needs matplotlib\. Install it with: pip"
    ):
        panels(None, [2], feature="It")


def test_styles_differ_in_colour_and_marker():
    styles = [style(number) for number in range(7)]
    assert [s["color"] for s in styles] == [*COLORS]
    assert len({s["marker"] for s in styles}) == 7
    assert style(7) == style(0)


def test_long_names_of_stages_are_sloped():
    _, axes = plt.subplots(2)
    for ax, names in zip(axes, (["0", "1"], ["stem", "blocks.0"]), strict=True):
        name_stages(ax, names)
    slopes = [[t.get_rotation() for t in ax.get_xticklabels()] for ax in axes]
    assert slopes == [[0, 0], [45, 45]]
    assert [t.get_text() for t in axes[1].get_xticklabels()] == ["stem", "blocks.0"]


def test_a_single_thing_needs_no_legend():
    _, ax = plt.subplots()
    ax.plot([0], label="a")
    legend(ax)
    assert ax.get_legend() is None
    ax.plot([1], label="b")
    legend(ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
