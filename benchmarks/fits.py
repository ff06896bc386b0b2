"""Time a fit at each of four depths with an empty store, and a grid search over them.

To compare two versions of the package, run the script in turns with the PYTHONPATH of
each. CPU seconds are summed over all cores.
"""

import time
import warnings
from functools import partial

from common import image_files, parser, print_table
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTunedClassifier
from sktransfer.activations import forward_passes, process_store

DEPTHS = [2, 5, 8, "all"]


def classifier(options, **settings):
    return FineTunedClassifier(
        image_size=options.image_size,
        max_epochs=options.epochs,
        random_state=0,
        **settings,
    )


def timed(what, action):
    process_store().clear()
    forward_passes().clear()
    wall, cpu = time.perf_counter(), time.process_time()
    found = action()
    row = {
        "what": what,
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - cpu,
    }
    encoded = sum(n for (_, s, _), n in forward_passes().items() if s == "input")
    return found, row | {"images encoded": encoded}


def main():
    options = parser(__doc__, n_images=160, image_size=128, epochs=5).parse_args()
    paths, y = image_files(options.folder, options.n_images)
    half = len(paths) // 2
    warnings.simplefilter("ignore")
    classifier(options, freeze="all").fit(paths[:16], y[:16])  # loads
    rows = []
    for freeze in DEPTHS:
        model = classifier(options, freeze=freeze)
        fit = partial(model.fit, paths[:half], y[:half])
        _, row = timed(f"fit, {freeze}", fit)
        rows.append(row | {"accuracy": model.score(paths[half:], y[half:])})
    search = GridSearchCV(classifier(options), {"freeze": DEPTHS}, cv=3, refit=False)
    _, row = timed("grid of them, 3 folds", partial(search.fit, paths, y))
    rows.append(row | {"accuracy": search.cv_results_["mean_test_score"].mean()})
    print_table(rows)


if __name__ == "__main__":
    main()
