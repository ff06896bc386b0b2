"""Compare strategies of fine-tuning, by the number of images per class.

Each strategy has default parameters except those in its name. The test images of
Fashion-MNIST are used for this table alone; defaults were chosen on training images.
"""

import time

import numpy as np
import pandas as pd
from common import FASHION, fashion_images, parser
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier
from sktransfer.activations import process_store

WAYS = {
    "default": {},
    "probe": {"freeze": "all", "C": "auto"},
    "partial": {"freeze": 2 / 3},
    "full, random head": {"freeze": "none", "training__head_init": "random"},
    "full, probe first": {"freeze": "none"},
    "gradual": {"freeze": "none", "training__unfreeze_every": 1},
    "LoRA": {"freeze": "none", "training__adapter": "lora"},
    "random weights": {
        "weights": None,
        "freeze": "none",
        "training__batch_norm": "train",
    },
}


def raw_pixels(X, y):
    """Fit logistic regression on the pixels."""
    flat = X.reshape(len(X), -1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(flat, y)
    return lambda images: model.predict(images.reshape(len(images), -1))


def datasets(n_held_out):
    """Return functions from a seed to shuffled images and labels, by name."""
    digits = load_digits()

    def shuffled_digits(seed):
        order = np.random.RandomState(seed).permutation(len(digits.target))
        return digits.images[order] / 16, digits.target[order]

    found = {"digits": shuffled_digits}
    if FASHION.is_dir():
        held_out = fashion_images(n_held_out, part="t10k")

        def fashion(seed):
            X, y = fashion_images(3_000, seed=seed)
            return np.concatenate([X, held_out[0]]), np.concatenate([y, held_out[1]])

        found["fashion"] = fashion
    return found


def split(X, y, per_class, n_held_out):
    """Return the first images of each class, and the last images to hold out."""
    end = len(y) - n_held_out
    chosen = [np.flatnonzero(y[:end] == c)[:per_class] for c in np.unique(y)]
    chosen = np.concatenate(chosen)
    return X[chosen], y[chosen], X[end:], y[end:]


def main():
    """Fit each strategy on each number of images."""
    arguments = parser(
        __doc__,
        seeds=5,
        held_out=1000,
        image_size=64,
        sizes="10,50,200",
        data="digits,fashion",
    ).parse_args()
    rows = []
    found = datasets(arguments.held_out)
    for name in [n for n in arguments.data.split(",") if n in found]:
        for per_class in map(int, arguments.sizes.split(",")):
            if name == "digits" and per_class > 50:
                continue  # there are not enough
            for seed in range(arguments.seeds):
                data = split(*found[name](seed), per_class, arguments.held_out)
                rows += run(name, per_class, seed, arguments.image_size, *data)
    table = pd.DataFrame(rows).groupby(["data", "a class", "way"], sort=False)
    table = table.agg(
        accuracy=("accuracy", "mean"),
        std=("accuracy", "std"),
        seconds=("seconds", "median"),
    )
    print(table.to_string(float_format="{:.3g}".format))


def run(name, per_class, seed, image_size, X, y, X_held, y_held):
    """Fit all strategies on one set of images (list of dict)."""
    rows = []
    for way, settings in {"raw pixels": None, **WAYS}.items():
        process_store().clear()
        began = time.perf_counter()
        if settings is None:
            predict = raw_pixels(X, y)
        else:
            model = FineTunedClassifier(image_size=image_size, random_state=seed)
            model.set_params(**settings)
            predict = model.fit(X, y).predict
        seconds = time.perf_counter() - began
        accuracy = np.mean(predict(X_held) == y_held)
        rows.append(
            {
                "data": name,
                "a class": per_class,
                "way": way,
                "accuracy": 100 * accuracy,
                "seconds": seconds,
            }
        )
        print(f"{name}, {per_class} per class, seed {seed}, {way}: {accuracy:.3f}")
    return rows


if __name__ == "__main__":
    main()
