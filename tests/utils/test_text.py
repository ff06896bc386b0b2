import pytest

from sktransfer.utils import near_matches

STAGES = ["stem", "layer1", "layer2", "layer3", "head"]


@pytest.mark.parametrize(
    ("word", "candidates", "text"),
    [
        ("layr3", ["stem", "layer3"], " Did you mean 'layer3'?"),
        ("Stem", STAGES, " Did you mean 'stem'?"),
        ("resnet18", ["ResNet18"], " Did you mean 'ResNet18'?"),
        ("steam", ["stem", "team"], " Did you mean 'team' or 'stem'?"),
        ("xyz", STAGES, ""),
        ("", STAGES, ""),
        ("stem", [], ""),
    ],
)
def test_near_matches_text(word, candidates, text):
    assert near_matches(word, candidates) == text


def test_near_matches_three_names_are_listed():
    text = near_matches("layer", ["layer1", "layer2", "layer3"])
    assert text == " Did you mean 'layer3', 'layer2' or 'layer1'?"


def test_near_matches_n_limits_the_names():
    assert near_matches("layer", STAGES, n=1).count("layer") == 1


def test_near_matches_accepts_an_iterator():
    assert near_matches("hed", iter(STAGES)) == " Did you mean 'head'?"
