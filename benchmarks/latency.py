"""Compare the time that one new image takes: `predict` from a file, and `to_torch`.

The exported module gets the decoded image. Both resize it and compute the network; each
image is seen once, so nothing is stored. The calls take turns. Times are medians in
milliseconds: of the wall clock, and of the CPU, which other processes disturb less.
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


def timed(function, sample):
    """Return what a function returns, and the time that it takes (wall, CPU), in ms."""
    began = time.perf_counter(), time.process_time()
    found = function(sample)
    return found, 1000 * np.subtract((time.perf_counter(), time.process_time()), began)


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
        labels, scores, ours, exported = [], [], [], []
        for path, image in zip(new, images, strict=True):
            for function, sample, found, times in (
                (partial(label_of, model), path, labels, ours),
                (torch.inference_mode()(module), image, scores, exported),
            ):
                result, elapsed = timed(function, sample)
                found.append(result)
                times.append(elapsed)
        ours, exported = np.median(ours, axis=0), np.median(exported, axis=0)
        named = [classes[int(score.argmax())] for score in scores]
        rows.append(
            {
                "image size": size,
                "predict": ours[0],
                "to_torch": exported[0],
                "ratio": ours[0] / exported[0],
                "ratio of CPU time": ours[1] / exported[1],
                "accuracy": np.mean(labels == y[half:]),
                "equal labels": np.mean(np.array(labels) == np.array(named)),
            }
        )
    print_table(rows)


if __name__ == "__main__":
    main()
