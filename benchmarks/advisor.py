"""Compare the choice of the advisor with that of a grid search.

For ten combinations of data set and size, `freeze` is chosen by the advisor and by
three-fold cross-validation over the same four depths. All depths are fitted on all
training images and scored on held-out images. The table shows by how many points the
advisor's choice is below the best depth and below the choice of the grid search, and
the time of choosing. The rules were designed on three of the data sets
(`DEVELOPMENT`); means are over all data sets and over the others. Results are saved to
a file, from which an interrupted run continues.

    python benchmarks/advisor.py [--quick] [--results advisor.csv]
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from common import CURVED, FASHION, SHOES, STAMPS, fashion_images, image_files
from domains import printed_digits
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sktransfer import FineTunedClassifier, TransferWarning
from sktransfer.activations import process_store
from sktransfer.advice import TransferAdvisor
from sktransfer.backbones import shared_backbone
from sktransfer.training import LEVELS

N_STAGES = 9
DEPTHS = [round(level.share * N_STAGES) for level in LEVELS]
DEVELOPMENT = ("digits, 60", "fashion, 60", "stamps, 80")  # for the rules


def datasets():
    """Return images, labels, image size and number of training images, by name."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    X, y = digits.images[order] / 16, digits.target[order]
    found = {f"digits, {n}": (X[: n + 1000], y[: n + 1000], 64, n) for n in (60, 200)}
    rows = np.arange(1120)
    found["curved digits, 120"] = X[rows], np.isin(y[rows], CURVED), 64, 120
    found["printed digits, 200"] = *printed_digits(0, 1200), 64, 200
    if FASHION.is_dir():
        held = fashion_images(1000, part="t10k")
        for n in (60, 300, 1000):
            pairs = zip(fashion_images(n), held, strict=True)
            found[f"fashion, {n}"] = (*map(np.concatenate, pairs), 64, n)
        X, y, *_ = found["fashion, 300"]
        rows = np.r_[:120, 300 : len(y)]
        found["shoes, 120"] = X[rows], np.isin(y[rows], SHOES), 64, 120
    if STAMPS.is_dir():
        X, y = image_files(None, 480)
        for n in (80, 240):
            rows = np.r_[:n, 240 : len(y)]
            found[f"stamps, {n}"] = (X[rows], y[rows], 96, n)
    return found


def compare(name, X, y, size, n, epochs):
    """Choose a depth in both ways, and fit all depths (dict)."""
    train, held = (X[:n], y[:n]), (X[n:], y[n:])
    model = FineTunedClassifier(image_size=size, max_epochs=epochs, random_state=0)
    # Both sides use a network that is already loaded and traced.
    shared_backbone("efficientnet_lite0", weights="default", image_size=size, seed=0)
    process_store().clear()
    began = time.perf_counter()
    advisor = TransferAdvisor(image_size=size, max_epochs=epochs, random_state=0)
    advised = advisor.fit(*train).freeze_depth_
    advice_seconds = time.perf_counter() - began
    process_store().clear()
    began = time.perf_counter()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(model, {"freeze": DEPTHS}, cv=folds, refit=False).fit(*train)
    search_seconds = time.perf_counter() - began
    scores = {
        depth: 100 * model.set_params(freeze=depth).fit(*train).score(*held)
        for depth in DEPTHS
    }
    searched = search.best_params_["freeze"]
    return {
        "data": name,
        "advised": advised,
        "searched": searched,
        "accuracy": scores[advised],
        "lost to the best": max(scores.values()) - scores[advised],
        "lost to the search": scores[searched] - scores[advised],
        "seconds": advice_seconds,
        "share of the search's": advice_seconds / search_seconds,
        **{f"freeze={depth}": value for depth, value in scores.items()},
    }


def main():
    """Complete the file of results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smaller sizes")
    parser.add_argument("--results", default=None, help="file of results")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--data", default=None, help="names, with semicolons")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", TransferWarning)
    path = Path(arguments.results or f"advisor{'-quick' * arguments.quick}.csv")
    found = datasets()
    names = arguments.data.split(";") if arguments.data else list(found)
    if arguments.quick and not arguments.data:
        names = [name for name in names if int(name.split(", ")[1]) < 100]
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame({"data": []})
    for name in names:
        if name in {*table["data"]}:
            continue
        row = compare(name, *found[name], arguments.epochs)
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        table.to_csv(path, index=False)
        print(name, flush=True)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    columns = ["lost to the best", "lost to the search", "share of the search's"]
    others = table[~table["data"].isin(DEVELOPMENT)]
    means = {"all": table[columns].mean(), "others": others[columns].mean()}
    print(pd.DataFrame(means).T.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
