"""Compare the time that one new image takes: `predict` from a file, and `to_torch`.

The exported module gets the decoded image. Both resize it and compute the network; each
image is seen once, so nothing is stored. Times are medians in milliseconds.
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from common import image_files, parser, print_table

from sktransfer import FineTunedClassifier
from sktransfer.inputs import open_image


def as_tensor(path):
    image = open_image(path).convert("RGB")
    return torch.from_numpy(np.asarray(image).copy())[None]


def label_of(model, path):
    return model.predict([path])[0]


def median(function, samples):
    """Return the median of the milliseconds that a function takes, and its results."""
    seconds, found = [], []
    for sample in samples:
        began = time.perf_counter()
        found.append(function(sample))
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.median(seconds)), found


def main():
    options = parser(__doc__, n_images=120).parse_args()
    paths, y = image_files(options.folder, options.n_images)
    half = len(paths) // 2
    warnings.simplefilter("ignore")
    rows = []
    for size in (64, 224):
        model = FineTunedClassifier(image_size=size, freeze="all")
        model.fit(paths[:half], y[:half])
        module, classes = model.to_torch(), model.classes_
        new, images = paths[half:], [as_tensor(path) for path in paths[half:]]
        model.predict(new[:1]), module(images[0])  # the first calls prepare
        with torch.inference_mode():
            exported, scores = median(module, images)
        ours, labels = median(partial(label_of, model), new)
        named = [classes[int(score.argmax())] for score in scores]
        rows.append(
            {
                "image size": size,
                "predict": ours,
                "to_torch": exported,
                "ratio": ours / exported,
                "accuracy": np.mean(labels == y[half:]),
                "equal labels": np.mean(np.array(labels) == np.array(named)),
            }
        )
    print_table(rows)


if __name__ == "__main__":
    main()
