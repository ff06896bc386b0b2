"""The command line: a classifier from a folder of images, without writing code.

``python -m sktransfer photos`` compares baselines, features and fine-tuning on the
images in ``photos``, which has one subfolder per class, and saves a classifier. Then
``python -m sktransfer predict sktransfer-model new.jpg`` predicts other images, and
``explain`` draws what a prediction looks at.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.backbones import load_backbone
from sktransfer.inputs import MODALITIES, image_folder
from sktransfer.utils import import_optional

_MODEL = "model.joblib"
_FEWEST, _FEWEST_TO_TRAIN = 4, 2  # images per class
_COMMANDS = ("train", "predict", "explain")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Those after ``python -m sktransfer``; by default those of the process.

    Returns
    -------
    int
        The status of the process: 0, or 1 after an error, which is printed.
    """
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    if given and given[0] not in (*_COMMANDS, "-h", "--help"):
        given = ["train", *given]
    options = _parser().parse_args(given)
    try:
        options.run(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sktransfer", description=__doc__.partition("\n")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    train = commands.add_parser(
        "train", help="compare methods on a folder of images, and save a classifier"
    )
    train.add_argument("folder", help="folder with one subfolder of images per class")
    train.add_argument("--output", default="sktransfer-model", help="folder to write")
    train.add_argument("--backbone", default="efficientnet_lite0", help="its name")
    train.add_argument("--image-size", type=int, help="pixels; default: the weights'")
    train.add_argument("--held-out", type=float, default=0.25, help="share to test on")
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(run=_train)
    predict = commands.add_parser(
        "predict", help="print paths, classes and probabilities as CSV"
    )
    predict.set_defaults(run=_predict)
    explain = commands.add_parser("explain", help="draw what predictions look at")
    explain.add_argument("--output", default="explanations.png", help="file to write")
    explain.set_defaults(run=_explain)
    for command in (predict, explain):
        command.add_argument("model", help="folder that `train` wrote")
        command.add_argument("images", nargs="+", help="image files")
    return parser


def _train(options):
    """Compare methods on held-out images, and save the classifier and figures."""
    import_optional("matplotlib", feature="The figure of `train`", extra="plot")
    paths, labels = image_folder(options.folder)
    split = _split(paths, labels, options.held_out, options.seed)
    X, X_held_out, y, y_held_out = split
    print(f"{len(y)} images to train on, {len(y_held_out)} held out", flush=True)
    load_backbone(options.backbone, image_size=options.image_size)  # or an error
    models, rows = _methods(options), []
    for name, model in models.items():
        began = time.perf_counter()
        score = model.fit(X, y).score(X_held_out, y_held_out)
        seconds = time.perf_counter() - began
        n = len(y_held_out)
        wrong = ((1 - score) * n + 1) / (n + 2)  # none of few is not none of all
        error = np.sqrt(wrong * (1 - wrong) / n)
        rows.append((name, f"{score:.1%}", f"{error:.1%}", f"{seconds:.1f}"))
        print(f"{name}: {score:.1%}", flush=True)
    columns = ["method", "accuracy", "standard error", "seconds"]
    print("\n" + pd.DataFrame(rows, columns=columns).to_string(index=False))
    model = models["fine-tuned"]
    print(f"It trains above {model.boundary_!r}: {model.freeze_reason_}.\n")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    saved = clone(model).fit(paths, labels).set_params(verbose=0)
    joblib.dump(saved, folder / _MODEL)
    figures = _draw(model, X, y, X_held_out, y_held_out, folder)
    print(
        f"{folder} holds the classifier, trained on all {len(labels)} images, and "
        f"{' and '.join(figures)}. Predict other images with\n\n"
        f"    python -m sktransfer predict {folder} new.jpg"
    )


def _split(paths, labels, held_out, seed):
    """Return training and held-out paths and labels."""
    if not 0 < held_out < 1:
        raise ValueError(f"`--held-out` must be a share in (0, 1). Got {held_out}.")
    counts = pd.Series(labels).value_counts()
    if len(counts) < 2:
        raise ValueError(
            f"There must be two subfolders of images or more. Got {counts.index[0]!r}."
        )
    if counts.min() < _FEWEST:
        raise ValueError(
            f"Each class needs at least {_FEWEST} images. Got {counts.min()} of "
            f"{counts.idxmin()!r}; add some, or move its subfolder away."
        )
    n_held_out = max(len(counts), round(held_out * len(labels)))
    if (1 - n_held_out / len(labels)) * counts.min() < _FEWEST_TO_TRAIN:
        raise ValueError(
            f"`--held-out` must leave at least {_FEWEST_TO_TRAIN} images per class to "
            f"train on. Got {held_out}, and {counts.min()} images of "
            f"{counts.idxmin()!r}."
        )
    return train_test_split(
        paths, labels, test_size=n_held_out, stratify=labels, random_state=seed
    )


def _methods(options):
    """Return the methods that are compared, by name."""
    how = {"backbone": options.backbone, "image_size": options.image_size}
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    raw, pixels = MODALITIES["image"].plain_features({})
    return {
        "most frequent class": DummyClassifier(),
        raw: make_pipeline(pixels, LogisticRegression(max_iter=1000)),
        "features": make_pipeline(PretrainedFeatureExtractor(**how), regression),
        "linear probe": FineTunedClassifier(**how, freeze="all"),
        "fine-tuned": FineTunedClassifier(
            **how, random_state=options.seed, verbose=int(sys.stderr.isatty())
        ),
    }


def _draw(model, X, y, X_held_out, y_held_out, folder):
    """Save figures of the stages' probes and of errors; return their names (list)."""
    from sktransfer.inspection import ErrorGalleryDisplay, StageProbeDisplay

    extractor = PretrainedFeatureExtractor(model.backbone, image_size=model.image_size)
    n_folds = min(3, pd.Series(y).value_counts().min())
    stages = StageProbeDisplay.from_estimator(extractor, X, y, cv=n_folds)
    stages.figure_.savefig(folder / "stages.png", dpi=150)
    (folder / "errors.png").unlink(missing_ok=True)  # of an earlier classifier
    if (model.predict(X_held_out) == y_held_out).all():
        return ["stages.png"]
    errors = ErrorGalleryDisplay.from_estimator(model, X_held_out, y_held_out)
    errors.figure_.savefig(folder / "errors.png", dpi=150)
    return ["stages.png", "errors.png"]


def _load(folder) -> Any:
    file = Path(folder) / _MODEL
    if not file.is_file():
        raise ValueError(
            f"There is no {_MODEL} in {str(folder)!r}; `python -m sktransfer FOLDER` "
            "writes it."
        )
    try:
        model = joblib.load(file)
    except Exception as error:  # whatever reading damaged bytes leads to
        raise ValueError(
            f"{str(file)!r} cannot be read ({type(error).__name__}: {error}). It may "
            "be damaged, or come from other versions of the libraries; "
            "`python -m sktransfer FOLDER` writes it again."
        ) from error
    if not isinstance(model, FineTunedClassifier):
        raise ValueError(
            f"{str(file)!r} holds a {type(model).__name__}, where `train` writes a "
            "FineTunedClassifier."
        )
    return model


def _predict(options):
    model = _load(options.model)
    probabilities = model.predict_proba(options.images)
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "class", "probability"])
    for path, row in zip(options.images, probabilities, strict=True):
        best = row.argmax()
        writer.writerow([path, model.classes_[best], f"{row[best]:.3f}"])


def _explain(options):
    import_optional("matplotlib", feature="`explain`", extra="plot")
    from sktransfer.inspection import ExplanationDisplay

    model = _load(options.model)
    display = ExplanationDisplay.from_estimator(model, options.images)
    display.figure_.savefig(options.output, dpi=150)
    print(f"{options.output} shows what the predictions look at")


if __name__ == "__main__":
    sys.exit(main())
