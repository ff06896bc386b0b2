"""Accuracy of the defaults, beside a probe, logistic regression and other depths.

Each data set is split by several seeds into training images, the same number per class,
and test images. Every method is fitted on the same images; photographs have the image
size of the weights. Learning rates, epochs, views and depths were chosen on the data
sets marked "development"; the others were looked at once. The table has the mean over
the seeds of the accuracy in percent and of its difference to that of the probe, with
the standard error of the latter, and the median of the seconds of a fit. Each result is
appended to a file, from which another run continues.

    python benchmarks/defaults.py [--groceries FOLDER] [--pacs FOLDER] [--data NAMES]
        [--ways NAMES] [--seeds 5] [--image-size 0] [--file defaults.jsonl]

`--groceries` has the folders train and test with one subfolder per class [1]_, `--pacs`
the folders photo and cartoon [2]_. `--image-size` replaces the size of photographs.

References
----------
.. [1] M. Klasson et al. (2019). A Hierarchical Grocery Store Image Dataset with Visual
   and Semantic Labels. https://arxiv.org/abs/1901.00711
.. [2] D. Li et al. (2017). Deeper, Broader and Artier Domain Generalization.
   https://arxiv.org/abs/1710.03077
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import FASHION, STAMPS, fashion_images, image_files
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.datasets import ImageFolder

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.advice import TransferAdvisor

OWN = 224  # pixels, the image size of the weights
MOST_HELD_OUT = 1_000


def folder_images(folder):
    """Return paths and labels of a folder with one subfolder per class."""
    data = ImageFolder(folder)
    paths = np.array([path for path, _ in data.samples])
    return paths, np.array(data.classes)[data.targets]


def groceries(folder, part):
    """Return training and test images of every other class, or of all ("all")."""
    train, held = (folder_images(folder / name) for name in ("train", "test"))
    classes = np.unique(train[1])
    chosen = {"even": classes[::2], "odd": classes[1::2], "all": classes}[part]
    rows = [np.isin(y, chosen) for _, y in (train, held)]
    return [(X[r], y[r]) for (X, y), r in zip((train, held), rows, strict=True)]


def pacs(folder):
    """Return the images of a style."""
    return [folder_images(folder)]


def datasets(arguments):
    """Return by name: a function without arguments, image size, images per class.

    The function returns training and test images with their labels; of a single pair,
    the images that are not trained on are for the test.
    """
    size, found = arguments.image_size or OWN, {}
    digits = load_digits()
    for n in (10, 50):
        found[f"digits {n}"] = lambda: [(digits.images / 16, digits.target)], 64, n
    if FASHION.is_dir():
        for n in (10, 50, 200):
            found[f"fashion {n}"] = _fashion, 64, n
    if STAMPS.is_dir():
        for n in (10, 30):
            found[f"stamps {n}"] = lambda: [image_files(None, 480)], 96, n
    if arguments.groceries:
        for part, n in (("even", 5), ("odd", 5), ("odd", 20), ("all", 5), ("all", 20)):
            make = partial(groceries, Path(arguments.groceries), part)
            found[f"groceries {part} {n}"] = make, size, n
    if arguments.pacs:
        for part in ("cartoon", "photo"):
            for n in (10, 30):
                make = partial(pacs, Path(arguments.pacs) / part)
                found[f"{part} {n}"] = make, size, n
    return found


DEVELOPMENT = ("digits", "fashion", "groceries even", "cartoon", "photo")


def _fashion():
    return fashion_images(4_000), fashion_images(1_000, part="t10k")


def split(pairs, n, seed):
    """Return training images and labels, and test images and labels."""
    rng, (X, y) = np.random.RandomState(seed), pairs[0]
    chosen = [rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)]
    rows = rng.permutation(np.concatenate(chosen))
    X_test, y_test = pairs[-1]
    others = np.arange(len(y_test))
    if len(pairs) == 1:
        others = np.setdiff1d(others, rows)
    others = rng.permutation(others)[:MOST_HELD_OUT]
    return X[rows], y[rows], X_test[others], y_test[others]


def regression_on_features(size, seed):
    """Return the pipeline that users write by hand."""
    extractor = PretrainedFeatureExtractor(image_size=size)
    return make_pipeline(extractor, StandardScaler(), LogisticRegression(max_iter=1000))


def fine_tuned(**settings):
    """Return a function that makes a classifier with these settings."""
    return lambda size, seed: FineTunedClassifier(
        image_size=size, random_state=seed, **settings
    )


class Advised:
    """Fits what the advisor recommends."""

    def __init__(self, size, seed):
        self.advisor = TransferAdvisor(image_size=size, random_state=seed)

    def fit(self, X, y):
        self.model = self.advisor.fit(X, y).recommended_.fit(X, y)
        return self

    def score(self, X, y):
        return self.model.score(X, y)


WAYS = {
    "regression": regression_on_features,
    "probe": fine_tuned(freeze="all"),
    "default": fine_tuned(),
    "advised": Advised,
    "freeze 0": fine_tuned(freeze=0),
    "freeze 3": fine_tuned(freeze=3),
    "freeze 6": fine_tuned(freeze=6),
}


def main():
    """Fit every way on every data set, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("groceries", "pacs", "data", "ways"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--file", default="defaults.jsonl")
    arguments = parser.parse_args()
    found = datasets(arguments)
    names = arguments.data.split(",") if arguments.data else [*found]
    ways = arguments.ways.split(",") if arguments.ways else [*WAYS]
    path = Path(arguments.file)
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["data"], row["size"], row["seed"], row["way"]) for row in rows}
    for seed in range(arguments.seeds):
        for name in names:
            for way in ways:
                if (name, found[name][1], seed, way) not in done:
                    rows.append(measure(*found[name], name, seed, way))
                    with path.open("a") as file:
                        print(json.dumps(rows[-1]), file=file)
    print(table(pd.DataFrame(rows)).to_string(index=False))


def measure(make, size, n, name, seed, way):
    """Fit one way on one split (dict)."""
    X, y, X_test, y_test = split(make(), n, seed)
    process_store().clear()
    began = time.perf_counter()
    model = WAYS[way](size, seed).fit(X, y)
    seconds = time.perf_counter() - began
    accuracy = 100 * model.score(X_test, y_test)
    print(f"{name}, seed {seed}, {way}: {accuracy:.1f} in {seconds:.1f} s", flush=True)
    row = {"data": name, "size": size, "samples": len(y), "seed": seed, "way": way}
    return {**row, "accuracy": accuracy, "seconds": seconds}


def table(rows):
    """Return one line per data set and way."""
    probe = rows[rows["way"] == "probe"].set_index(["data", "seed"])["accuracy"]
    keys = pd.MultiIndex.from_frame(rows[["data", "seed"]])
    rows = rows.assign(
        gain=rows["accuracy"].to_numpy() - probe.reindex(keys).to_numpy()
    )
    groups = rows.groupby(["data", "samples", "size", "way"], sort=False)
    found = groups.agg(
        seeds=("seed", "size"),
        accuracy=("accuracy", "mean"),
        gain=("gain", "mean"),
        error=("gain", "sem"),
        seconds=("seconds", "median"),
    ).reset_index()
    is_development = found["data"].str.startswith(DEVELOPMENT)
    return found.assign(use=np.where(is_development, "development", "test")).round(1)


if __name__ == "__main__":
    main()
