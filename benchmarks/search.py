"""Compare FineTunedClassifierCV with a grid search over the same depths.

Both sides have the same estimator, depths, folds and seed, and each begins with an
empty store. The sides alternate, seed by seed. `lost` is the difference of the grid
search's own scores, which are those of all folds, between the depth that it chose and
the one that the other side chose. With `--skorch`, which needs the image size of the
weights, the recipe of `grid_search_freezing.py` is a third side, without a last fit.
"""

import time
from collections import defaultdict

import numpy as np
from common import image_files, parser, print_table
from grid_search_freezing import search_plain
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import LabelEncoder

from sktransfer import FineTunedClassifier, FineTunedClassifierCV
from sktransfer.activations import process_store

DEPTHS = [5, 6, 7, 8, 9]


def searches(model, cv):
    return {
        "GridSearchCV": GridSearchCV(model, {"freeze": DEPTHS}, cv=cv),
        "halving": FineTunedClassifierCV(model, freeze=DEPTHS, cv=cv),
        "all folds": FineTunedClassifierCV(model, freeze=DEPTHS, cv=cv, halving=False),
    }


def run(search, paths, y, n_train):
    """Return the seconds and the accuracy on images that the search did not see."""
    process_store().clear()
    began = time.perf_counter()
    search.fit(paths[:n_train], y[:n_train])
    seconds = time.perf_counter() - began
    return seconds, search.score(paths[n_train:], y[n_train:])


def compare(options, seed, rows):
    """Run all sides with one seed, and add what they found to the rows."""
    paths, labels = image_files(options.folder, 2 * options.n_images, seed)
    y, n_train = LabelEncoder().fit_transform(labels), len(labels) // 2
    cv = StratifiedKFold(options.folds, shuffle=True, random_state=seed)
    size = options.image_size or None
    model = FineTunedClassifier(
        image_size=size, max_epochs=options.epochs, random_state=seed
    )
    every = {}
    for name, search in searches(model, cv).items():
        seconds, accuracy = run(search, paths, y, n_train)
        results = search.cv_results_
        every = every or dict(zip(DEPTHS, results["mean_test_score"], strict=True))
        depth = search.best_params_["freeze"]
        rows[name] += [(seconds, depth, max(every.values()) - every[depth], accuracy)]
        print(f"seed {seed}, {name}: {seconds:.0f} s, freeze={depth}", flush=True)
    if options.skorch:
        began = time.perf_counter()
        found = search_plain(
            paths[:n_train], y[:n_train], DEPTHS, cv, options.epochs, seed
        )
        depth, seconds = (
            found.best_params_["module__freeze"],
            time.perf_counter() - began,
        )
        rows["skorch"] += [(seconds, depth, max(every.values()) - every[depth], np.nan)]


def main():
    defaults = {"n_images": 240, "image_size": 64, "epochs": 10, "folds": 5, "seeds": 1}
    options = parser(__doc__, **defaults, skorch=0).parse_args()
    if options.skorch and options.image_size:
        raise SystemExit("`--skorch 1` needs `--image-size 0`, that of the weights.")
    rows = defaultdict(list)
    for seed in range(options.seeds):
        compare(options, seed, rows)
    first = np.sum([seconds for seconds, *_ in rows["GridSearchCV"]])
    print_table(
        {
            "side": name,
            "seconds": np.sum([seconds for seconds, *_ in found]),
            "GridSearchCV takes": first / np.sum([seconds for seconds, *_ in found]),
            "depths": " ".join(str(depth) for _, depth, *_ in found),
            "lost": np.mean([lost for *_, lost, _ in found]),
            "held-out accuracy": np.mean([accuracy for *_, accuracy in found]),
        }
        for name, found in rows.items()
    )


if __name__ == "__main__":
    main()
