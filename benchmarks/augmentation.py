"""Compare fresh views with fixed views and with augmented activations.

The table shows the accuracy on held-out images and the seconds of a fit that trains the
upper half of the network, with default parameters. Nothing is chosen by these scores.
"""

import time

import numpy as np
from common import image_files, parser, print_table
from sklearn.model_selection import StratifiedShuffleSplit

from sktransfer import Augmentation, FineTunedClassifier
from sktransfer.activations import process_store

WAYS = {
    "none": None,
    "fresh": "crop_flip",
    "n_views=4": Augmentation("crop_flip", n_views=4),
    "n_views=8": Augmentation("crop_flip", n_views=8),
    "activations": Augmentation(activations=True),
}


def main():
    """Fit each kind of augmentation on the same splits."""
    options = parser(__doc__, n_images=400, epochs=20, splits=3, freeze=6).parse_args()
    paths, y = image_files(options.folder, options.n_images)
    splits = StratifiedShuffleSplit(options.splits, test_size=0.5, random_state=0)
    rows = []
    for name, augment in WAYS.items():
        seconds, accuracy = [], []
        for train, test in splits.split(paths, y):
            process_store().clear()
            model = FineTunedClassifier(
                freeze=options.freeze,
                max_epochs=options.epochs,
                random_state=0,
                augment=augment,
            )
            began = time.perf_counter()
            model.fit(paths[train], y[train])
            seconds.append(time.perf_counter() - began)
            accuracy.append(model.score(paths[test], y[test]))
        rows.append(
            {
                "augmentation": name,
                "accuracy": np.mean(accuracy),
                "std over splits": np.std(accuracy),
                "seconds to fit": np.mean(seconds),
            }
        )
        print(f"{name}: {np.mean(seconds):.0f} s", flush=True)
    fresh = rows[1]["seconds to fit"]
    print_table({**row, "speed / fresh": fresh / row["seconds to fit"]} for row in rows)


if __name__ == "__main__":
    main()
