"""Compare early stopping with training for all epochs, on few samples.

Each data set is split by several seeds into training images, the same number per class,
and test images. All methods are fitted on the same images, with the first third of the
stages frozen: "all epochs" trains for `--epochs`, "early stopping" chooses a number up
to that, and "probe" trains the head alone. What is held out and when a training stops
was chosen on the data sets marked "development"; the others were looked at once.

The table has, per data set and method, the mean over the seeds of the accuracy in
percent, that of its difference to the accuracy after all epochs, its standard error,
and the epochs of a fit, those of its trial included. Results are appended to a file,
from which another run continues.

    python benchmarks/early_stopping.py [--groceries FOLDER] [--data NAMES]
        [--seeds 3] [--epochs 80] [--file early_stopping.jsonl]

The folder is that of `defaults.py`.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import pandas as pd
from defaults import datasets, split, use_of

from sktransfer import FineTunedClassifier

SIZE = 48  # pixels
# Images per class of the data sets, by their names in `defaults.py`.
PER_CLASS = {"digits 10": 10, "fashion 10": 10, "stamps 10": 13, "groceries odd 5": 5}
METHODS = {
    "probe": {"freeze": "all"},
    "all epochs": {"freeze": 3},
    "early stopping": {"freeze": 3, "early_stopping": True},
}


def measure(train, held, method, seed, n_epochs):
    """Fit a method; return its accuracy in percent and its number of epochs."""
    model = FineTunedClassifier(image_size=SIZE, random_state=seed)
    if method != "probe":
        model.set_params(max_epochs=n_epochs)
    model.set_params(**METHODS[method]).fit(*train)
    return 100 * model.score(*held), len(model.history_)


def summary(rows):
    """Return one line per data set and method."""
    table = pd.DataFrame(rows)
    keys = ["data", "samples", "at most", "seed"]
    wide = table.pivot(index=keys, columns="method", values="accuracy")
    gains = wide.sub(wide["all epochs"], axis=0).stack().rename("gain")
    table = table.merge(gains.reset_index(), on=[*keys, "method"])
    found = table.groupby(["data", "samples", "at most", "method"], sort=False).agg(
        accuracy=("accuracy", "mean"),
        gain=("gain", "mean"),
        error=("gain", "sem"),
        epochs=("epochs", "mean"),
    )
    found = found.reset_index()
    return found.assign(use=use_of(found["data"]))


def main():
    """Fit every method on every data set, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("groceries", "data"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--file", default="early_stopping.jsonl")
    arguments = parser.parse_args()
    arguments.image_size, arguments.pacs = SIZE, None
    found = datasets(arguments)
    names = arguments.data.split(",") if arguments.data else PER_CLASS
    path = Path(arguments.file)
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    keys = ("data", "samples", "at most", "seed", "method")
    done = {tuple(result[key] for key in keys) for result in results}
    for seed, name in product(range(arguments.seeds), filter(found.get, names)):
        X, y, *held = split(found[name][0](), PER_CLASS[name], seed)
        for method in METHODS:
            values = name.rsplit(" ", 1)[0], len(y), arguments.epochs, seed, method
            if values in done:
                continue
            found_here = measure((X, y), held, method, seed, arguments.epochs)
            row = dict(zip(("accuracy", "epochs"), found_here, strict=True))
            results.append(dict(zip(keys, values, strict=True)) | row)
            print(results[-1], flush=True)
            with path.open("a") as file:
                print(json.dumps(results[-1]), file=file)
    print(summary(results).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
