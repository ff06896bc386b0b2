"""What displays draw, compared with pictures of it that were looked at.

Where a picture differs on purpose, copy the new one, whose path the test gives, over
the old one in the folder `drawings`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

from sktransfer.inspection import (
    EmbeddingDisplay,
    ErrorGalleryDisplay,
    Explanation,
    ExplanationDisplay,
    FreezeDepthDisplay,
    GapDisplay,
    LearningCurveDisplay,
    RankingDisplay,
    StageProbeDisplay,
    TrainingHistoryDisplay,
)

DRAWINGS = Path(__file__).parent / "drawings"
TOLERANCE = 2  # root mean square, of 255; a line of another colour has more
STAGES = ["stem", "layer1", "layer2", "layer3"]
RISING, FALLING = np.array([0.6, 0.8, 0.9, 0.7]), np.array([0.9, 0.8, 0.7, 0.75])
SPREAD = np.array([-0.05, 0.05])


def freeze_depth():
    return FreezeDepthDisplay(
        STAGES * 2,
        [*RISING, *FALLING],
        [0.02] * 8,
        fit_times=[4, 3, 2, 1, 5, 4, 3, 2],
        labels=["a"] * 4 + ["b"] * 4,
        best=2,
    )


def stage_probes():
    return StageProbeDisplay(STAGES, RISING[:, None] + SPREAD, chance=0.1)


def training_history():
    losses = [1.0, 0.5, 0.2, 0.1]
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_loss": losses,
            "valid_loss": [1.1, 0.7, 0.6, 0.65],
            "train_accuracy": RISING,
            "lr": [1e-3, 1e-4, 1e-3, 1e-4],
            "boundary": ["layer2", "layer2", "layer1", "layer1"],
        }
    )
    return TrainingHistoryDisplay(history, best_epoch=3)


def embedding():
    points = np.random.default_rng(0).normal(size=(40, 2))
    labels = np.arange(40) % 4
    points += 4 * np.column_stack([labels % 2, labels // 2])
    return EmbeddingDisplay(
        points,
        labels=labels,
        domains=np.repeat(["source", "target"], 20),
        is_error=np.arange(40) % 9 == 0,
        pictures={i: np.eye(8) for i in (3, 8)},
    )


def error_gallery():
    pictures = [np.eye(8), np.tri(8), np.ones((8, 4, 3)) * [1, 0.5, 0]]
    return ErrorGalleryDisplay(
        pictures, [0, 1, 2], [1, 2, 0], [0.1, 0.2, 0.3], [0.9, 0.8, 0.7]
    )


def learning_curve():
    scores = {"network": RISING[:, None] + SPREAD, "raw": FALLING[:, None] + SPREAD}
    return LearningCurveDisplay([10, 20, 40, 80], scores)


def gap():
    return GapDisplay(
        STAGES, a_distance=[2, 1.5, 1, 0.2], p_value=[0.005, 0.005, 0.005, 0.5]
    )


def ranking():
    rows = {"backbone": ["a"] * 4 + ["b"] * 4, "stage": STAGES * 2}
    costs = [1e6, 2e6, 3e6, 4e6, 2e6, 4e6, 6e6, 8e6]
    scores = pd.DataFrame(
        {**rows, "score": [*RISING, *FALLING], "multiply_adds": costs}
    )
    return RankingDisplay(scores)


def explanation():
    rows, columns = np.indices((16, 24))
    bump = np.exp(-((rows - 5) ** 2 + (columns - 15) ** 2) / 20)
    shown = np.dstack([rows * 15, columns * 10, rows * 0]).astype(np.uint8)
    signed = bump - bump[:, ::-1]
    return ExplanationDisplay(
        [
            Explanation(bump, "gradcam", "a", 1.0, shown, seen=(2, 2, 14, 22)),
            Explanation(signed, "occlusion", "b", 1.0, shown),
        ]
    )


KINDS = [
    freeze_depth,
    stage_probes,
    training_history,
    embedding,
    error_gallery,
    learning_curve,
    gap,
    ranking,
    explanation,
]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_drawing_is_as_it_was_looked_at(make, tmp_path, monkeypatch):
    figure = make().plot().figure_
    figure.set_layout_engine("none")  # fonts, and so layouts, differ between machines
    for kind in (Text, Legend):
        monkeypatch.setattr(kind, "draw", lambda *_: None)
    drawn = tmp_path / f"{make.__name__}.png"
    figure.savefig(drawn, dpi=60)
    difference = compare_images(DRAWINGS / drawn.name, drawn, TOLERANCE)
    assert difference is None
