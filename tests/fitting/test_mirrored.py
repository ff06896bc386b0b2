import numpy as np
import pytest
from PIL import Image, ImageDraw

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


@pytest.mark.parametrize(
    ("labels", "is_mirrored"), [([0, 1, 2], False), ([0, 2], True)]
)
def test_classes_that_mirrors_exchange_are_not_mirrored(
    capsys, monkeypatch, labels, is_mirrored
):
    seen, run = [], _trainer.run_phases

    def watch(trainer, suffix, data, training, validation):
        seen.append(training.views is not None)
        return run(trainer, suffix, data, training, validation)

    monkeypatch.setattr(_trainer, "run_phases", watch)
    X, y = arrows(36, labels)
    names = np.array(["right", "left", "down"])[y]
    lite(freeze=6, verbose=1).fit(X, names)
    assert seen == [is_mirrored]
    text = "augment='auto' does not mirror, as 'left' would look like 'right'"
    assert (text in capsys.readouterr().out) != is_mirrored


def test_views_that_were_asked_for_are_drawn(monkeypatch):
    monkeypatch.setattr(_trainer, "find_exchanged", None)  # it is not called
    X, y = arrows(12, [0, 1])
    lite(freeze=6, augment="crop_flip").fit(X, y)
    lite(freeze=6, augment=None).fit(X, y)
