import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.fitting import _trainer
from tests.test_classifier import lite


def arrows(n, labels):
    """Return images of arrows to the right (0), to the left (1) and down (2)."""
    rng, images = np.random.RandomState(0), []
    for i in range(n):
        image = Image.new("L", (48, 48))
        draw, (x, y) = ImageDraw.Draw(image), rng.randint(4, 12, 2)
        draw.line([(x, y + 8), (x + 28, y + 8)], fill=255, width=4)
        draw.polygon([(x + 33, y + 8), (x + 22, y), (x + 22, y + 16)], fill=255)
        turned = np.asarray(image)
        label = labels[i % len(labels)]
        images.append((turned, turned[:, ::-1], turned.T)[label] / 16)
    return np.stack(images), np.resize(labels, n)


@pytest.fixture
def mirrored(monkeypatch):
    """Return a list of whether each training draws views."""
    seen, run = [], _trainer.run_phases

    def watch(trainer, suffix, data, training, validation):
        seen.append(training.views is not None)
        return run(trainer, suffix, data, training, validation)

    monkeypatch.setattr(_trainer, "run_phases", watch)
    return seen


@pytest.mark.parametrize(
    ("labels", "is_mirrored"), [([0, 1, 2], False), ([0, 2], True)]
)
def test_classes_that_mirrors_exchange_are_not_mirrored(
    capsys, mirrored, labels, is_mirrored
):
    X, y = arrows(36, labels)
    names = np.array(["right", "left", "down"])[y]
    lite(freeze=6, verbose=1).fit(X, names)
    assert mirrored == [is_mirrored]
    text = "augment='auto' does not mirror, as 'left' would look like 'right'"
    assert (text in capsys.readouterr().out) != is_mirrored


class Own(nn.Sequential):
    """Network with random weights, which has seen no mirror images."""

    pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.3,) * 3, "std": (0.3,) * 3}

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
        )


def test_digits_are_mirrored_for_a_network_that_recognises_them(capsys, mirrored):
    X, y = load_digits().images[:200], load_digits().target[:200]
    for model in (FineTunedClassifier(Own), lite()):
        model.set_params(freeze=1, max_epochs=1, verbose=1, random_state=0)
        model.set_params(value_range=(0, 16)).fit(X, y)
    assert mirrored == [False, True]
    text = r"as the network recognises 2\d% of the mirror images, and 9\d% of"
    assert re.search(text, capsys.readouterr().out)


def test_views_that_were_asked_for_are_drawn(monkeypatch):
    monkeypatch.setattr(_trainer, "why_not_mirrored", None)  # it is not called
    X, y = arrows(12, [0, 1])
    lite(freeze=6, augment="crop_flip").fit(X, y)
    lite(freeze=6, augment=None).fit(X, y)
