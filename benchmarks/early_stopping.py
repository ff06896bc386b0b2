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


def measure(make, name, seed, n_epochs):
    """Fit every method on one split (list of dicts)."""
    X, y, *held = split(make(), PER_CLASS[name], seed)
    rows = []
    for method, settings in METHODS.items():
        model = FineTunedClassifier(image_size=SIZE, random_state=seed)
        if method != "probe":
            model.set_params(max_epochs=n_epochs)
        model.set_params(**settings).fit(X, y)
        row = {"data": name.rsplit(" ", 1)[0], "samples": len(y), "seed": seed}
        row |= {"at most": n_epochs, "method": method}
        row |= {"accuracy": 100 * model.score(*held), "epochs": len(model.history_)}
        print(row, flush=True)
        rows.append(row)
    return rows


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
    done = {(r["data"], r["seed"], r["at most"]) for r in results}
    for seed in range(arguments.seeds):
        for name in filter(found.get, names):
            if (name.rsplit(" ", 1)[0], seed, arguments.epochs) in done:
                continue
            rows = measure(found[name][0], name, seed, arguments.epochs)
            results += rows
            with path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    print(summary(results).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
