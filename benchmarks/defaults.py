"""Accuracy of the defaults and of advice, beside a probe and every level of freezing.

Each data set is split by several seeds into training images, the same number per class,
and test images. Every method is fitted on the same images; photographs have the image
size of the weights. Learning rates, epochs, views and depths were chosen on the data
sets marked "development"; the others were looked at once. Results of one split are
appended to a file as they come, from which another run continues.

The first table has, per data set, the mean over the seeds of the accuracy in percent,
that of its difference to the probe's accuracy, its standard error, and the median of
the seconds of a fit, or of the advice. Fits of equal depth are made once, since they
are equal. The second table compares what the advisor expects of each strategy with what
it scores, and its time with that of a grid search over the levels in three folds, which
is twice that of fitting each level once. The third one is what these expectations are
made from.

    python benchmarks/defaults.py [--groceries FOLDER] [--pacs FOLDER] [--data NAMES]
        [--seeds 5] [--image-size 0] [--file defaults.jsonl]

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
MOST_HELD_OUT = 600


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
        for part, n in (("even", 5), ("odd", 5), ("all", 5), ("all", 20), ("all", 99)):
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


def regression_on_features(size):
    """Return the pipeline that users write by hand."""
    extractor = PretrainedFeatureExtractor(image_size=size)
    return make_pipeline(extractor, StandardScaler(), LogisticRegression(max_iter=1000))


DEPTHS = (0, 3, 6, 9)  # of nine stages


def main():
    """Fit every method on every data set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("groceries", "pacs", "data"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--file", default="defaults.jsonl")
    arguments = parser.parse_args()
    found = datasets(arguments)
    names = arguments.data.split(",") if arguments.data else [*found]
    path = Path(arguments.file)
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(result["data"], result["size"], result["seed"]) for result in results}
    for seed in range(arguments.seeds):
        for name in names:
            if (name, found[name][1], seed) not in done:
                results.append(measure(*found[name], name, seed))
                with path.open("a") as file:
                    print(json.dumps(results[-1]), file=file)
    print(accuracies(results).round(1).to_string(index=False))
    print(expectations(results).round(2).to_string(index=False))
    print(removed(results).round(2).to_string())


def measure(make, size, n, name, seed):
    """Fit every method on one split (dict)."""
    X, y, *held = split(make(), n, seed)
    result = {"data": name, "size": size, "samples": len(y), "seed": seed}
    scored = {"regression": timed(regression_on_features(size), (X, y), held)}
    model = FineTunedClassifier(image_size=size, random_state=seed)
    scored["default"] = timed(model, (X, y), held)
    chosen = model.freeze_depth_
    for depth in DEPTHS:
        way = f"freeze {depth}"
        scored[way] = scored["default"]
        if depth != chosen:
            scored[way] = timed(model.set_params(freeze=depth), (X, y), held)
    process_store().clear()
    began = time.perf_counter()
    advisor = TransferAdvisor(image_size=size, random_state=seed).fit(X, y)
    seconds = time.perf_counter() - began
    advised = scored[f"freeze {advisor.freeze_depth_}"]["accuracy"]
    scored["advised"] = {"accuracy": advised, "seconds": seconds}
    result |= {"chosen": chosen, "advised": advisor.freeze_depth_, "scored": scored}
    columns = ["freeze", "score", "error"]
    expected = advisor.report_[columns].to_dict("list")
    accuracy = {way: round(of["accuracy"], 1) for way, of in scored.items()}
    print(name, f"seed {seed}, freezes {chosen},", accuracy, flush=True)
    return {**result, "expected": expected}


def timed(model, train, held):
    """Fit and score a model (dict)."""
    process_store().clear()
    began = time.perf_counter()
    model.fit(*train)
    seconds = time.perf_counter() - began
    return {"accuracy": 100 * model.score(*held), "seconds": seconds}


def accuracies(results):
    """Return one line per data set and method."""
    rows = pd.DataFrame(
        {"data": result["data"], "samples": result["samples"], "method": way}
        | {"gain": of["accuracy"] - result["scored"]["freeze 9"]["accuracy"], **of}
        for result in results
        for way, of in result["scored"].items()
    )
    groups = rows.groupby(["data", "samples", "method"], sort=False)
    found = groups.agg(
        seeds=("gain", "size"),
        accuracy=("accuracy", "mean"),
        gain=("gain", "mean"),
        error=("gain", "sem"),
        seconds=("seconds", "median"),
    ).reset_index()
    return found.assign(use=use_of(found["data"]))


def expectations(results):
    """Return one line per data set: what the advisor expects, and its time."""
    rows = []
    for result in results:
        scored, expected = result["scored"], pd.DataFrame(result["expected"])
        found = [scored[f"freeze {depth}"]["accuracy"] for depth in expected["freeze"]]
        apart = np.array(found) - 100 * expected["score"]
        search = 2 * sum(scored[f"freeze {depth}"]["seconds"] for depth in DEPTHS)
        rows.append(
            {
                "data": result["data"],
                "samples": result["samples"],
                "too low": apart.mean(),
                "error": 100 * expected["error"].mean(),
                "within one error": (apart.abs() <= 100 * expected["error"]).mean(),
                "within two": (apart.abs() <= 200 * expected["error"]).mean(),
                "below the best": max(found) - scored["advised"]["accuracy"],
                "share of a search": scored["advised"]["seconds"] / search,
            }
        )
    groups = pd.DataFrame(rows).groupby(["data", "samples"], sort=False)
    found = groups.mean().reset_index()
    return found.assign(use=use_of(found["data"]))


def removed(results):
    """Return which share of the probe's errors each level removes, over the splits.

    Errors of less than 5% count as 5%. The advisor's estimates go by the mean and the
    deviation over the development data.
    """
    rows = []
    for result in results:
        scored = {way: of["accuracy"] for way, of in result["scored"].items()}
        probe = scored["freeze 9"]
        gains = {f"freeze {d}": scored[f"freeze {d}"] - probe for d in DEPTHS[:-1]}
        share = {way: gain / max(5, 100 - probe) for way, gain in gains.items()}
        rows.append({"data": result["data"], **share})
    table = pd.DataFrame(rows)
    return table.groupby(use_of(table.pop("data"))).agg(["mean", "std"])


def use_of(names):
    """Return what data sets are used for."""
    return np.where(names.str.startswith(DEVELOPMENT), "development", "test")


if __name__ == "__main__":
    main()
