"""Compare FineTunedClassifierCV with a grid search over the same depths.

All sides have the same estimator, depths, folds and seed, and each begins with an empty
store. The sides alternate, seed by seed. "CPU seconds" are those of the process, which
other processes disturb less than the time on the clock. "lost" is the difference of the
grid search's own scores, which are those of all folds, between the depth that it chose
and the one that the other side chose. A second table has the same difference for
successive halving on the scores of the grid search, with the folds in all orders.

With `--skorch 1`, the recipe of `grid_search_freezing.py` is another side, without a
last fit. It needs `--image-size 0`, the image size of the weights.
"""

import time
from itertools import permutations

import numpy as np
import pandas as pd
from common import image_files, parser, print_table
from grid_search_freezing import search_plain
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import LabelEncoder

from sktransfer import FineTunedClassifier, FineTunedClassifierCV
from sktransfer.activations import process_store
from sktransfer.fitting import Evaluation, evaluate_candidates, order

DEPTHS = [5, 6, 7, 8, 9]
N_TRAINED = [5, 4, 3, 2, 1]  # more at smaller depths; how many does not matter
GRID = "GridSearchCV"


def fits(model, cv, paths, y, options, seed):
    """Return functions without arguments that fit a search, by the name of the side."""
    ours = {"freeze": DEPTHS, "cv": cv}
    sides = {
        GRID: GridSearchCV(model, {"freeze": DEPTHS}, cv=cv),
        "halving": FineTunedClassifierCV(model, **ours),
        "all folds": FineTunedClassifierCV(model, **ours, halving=False),
    }
    found = {name: lambda s=search: s.fit(paths, y) for name, search in sides.items()}
    if options.skorch:
        given = paths, y, DEPTHS, cv, options.epochs, seed
        found["skorch"] = lambda: search_plain(*given)
    return found


def compare(options, seed):
    """Run all sides with one seed; return a row per side, and the grid's scores."""
    paths, labels = image_files(options.folder, 2 * options.n_images, seed)
    y, n_train = LabelEncoder().fit_transform(labels), len(labels) // 2
    cv = StratifiedKFold(options.folds, shuffle=True, random_state=seed)
    size = options.image_size or None
    model = FineTunedClassifier(
        image_size=size, max_epochs=options.epochs, random_state=seed
    )
    rows, scores = [], None
    given = paths[:n_train], y[:n_train], options, seed
    for name, fit in fits(model, cv, *given).items():
        process_store().clear()
        began = time.perf_counter(), time.process_time()
        search = fit()
        seconds = time.perf_counter() - began[0], time.process_time() - began[1]
        if name == GRID:
            splits = [f"split{i}_test_score" for i in range(options.folds)]
            scores = np.array([search.cv_results_[split] for split in splits]).T
        (depth,) = search.best_params_.values()
        means = scores.mean(axis=1)
        lost = means.max() - means[DEPTHS.index(depth)]
        held_out = np.nan
        if name != "skorch":
            held_out = search.score(paths[n_train:], y[n_train:])
        rows.append((seed, name, *seconds, depth, lost, held_out))
        print(f"seed {seed}, {name}: {seconds[0]:.0f} s, freeze={depth}", flush=True)
    return rows, scores


def lost_by_order(scores):
    """Return what halving loses (n_orders,), and the mean number of trainings."""
    n_depths, n_folds = scores.shape
    means, lost, n_trainings = scores.mean(axis=1), [], []
    for folds in permutations(range(n_folds)):

        def evaluate(pairs, folds=folds):
            return [
                Evaluation(scores[i, folds[fold]], 0, 0, N_TRAINED[i])
                for i, fold in pairs
            ]

        ties = [*range(n_depths)]
        found = evaluate_candidates(n_depths, n_folds, evaluate, ties, halving=True)
        lost.append(means.max() - means[order(found, ties)[0]])
        n_trainings.append(sum(map(len, found)))
    return np.array(lost), np.mean(n_trainings)


def main():
    defaults = {"n_images": 240, "image_size": 64, "epochs": 10, "folds": 5, "seeds": 1}
    options = parser(__doc__, **defaults, skorch=0).parse_args()
    if options.skorch and options.image_size:
        raise SystemExit("`--skorch 1` needs `--image-size 0`, that of the weights.")
    rows, orders = [], []
    for seed in range(options.seeds):
        more, scores = compare(options, seed)
        rows += more
        lost, n_trainings = lost_by_order(scores)
        orders.append(
            {
                "seed": seed,
                "trainings": n_trainings,
                "of": scores.size,
                "lost, mean of all orders": lost.mean(),
                "lost at most 0.005": (lost <= 0.005).mean(),
                "lost by any depth, mean": (
                    scores.mean(1).max() - scores.mean(1)
                ).mean(),
            }
        )
    names = ["seed", "side", "seconds", "CPU seconds", "depth", "lost", "held-out"]
    table = pd.DataFrame(rows, columns=names).drop(columns="seed")
    table = table.groupby("side", sort=False).mean()
    for name in ("seconds", "CPU seconds"):
        table[f"times the {name}"] = table.loc[GRID, name] / table[name]
    print_table(table.reset_index().to_dict("records"))
    print_table(orders)


if __name__ == "__main__":
    main()
