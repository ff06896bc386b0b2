"""Which steps of `TargetStyle` beat augmentation that does not know the target.

Per shift, a linear head is trained on source images as they are ("no style"), in random
styles, in the measured style of the target, and in each step of that style alone. The
table has the accuracy on other target images. Shifts, images and seeds are those of
`domains.py --development`, besides corruptions of Fashion-MNIST that each step is made
for. The step "jpeg" changes nothing here, as JPEG files alone have a quality, nor does
"resolution", as the images have one size. `--only` selects shifts, with ; between.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser
from domains import SCALES, fashion, shifts
from scipy.ndimage import uniform_filter

from sktransfer import Augmentation, FineTunedClassifier
from sktransfer.activations import process_store
from sktransfer.adaptation import RandomStyle, TargetStyle

STEPS = ("resolution", "polarity", "blur", "lightness", "colour", "noise", "jpeg")


def box_blurred(images, rng):
    return uniform_filter(images / 255, (0, 5, 5))


def speckled(images, rng):
    return images / 255 + 0.12 * rng.laplace(size=images.shape)


def brightened(images, rng):
    return images / 255 + 0.3


def negative(images, rng):
    return 1 - 0.8 * images / 255


CORRUPTIONS = (box_blurred, speckled, brightened, negative)


def fit(style, X, y, size, seed):
    augment = None if style is None else Augmentation(style, n_views=2)
    settings = {"freeze": "all", "image_size": size, "random_state": seed}
    return FineTunedClassifier(**settings, augment=augment).fit(X, y)


def accuracies(shift, size, seed):
    """Return the accuracy in percent on new target images, by style."""
    X, y, X_target, _, X_new, y_new = shift(seed, 150)
    styles = {"no style": None, "random style": RandomStyle()}
    for name in ("measured", *STEPS):
        styles[name] = TargetStyle(shift=name).fit(X_target, X_source=X)
    process_store().clear()
    return {
        name: 100 * np.mean(fit(style, X, y, size, seed).predict(X_new) == y_new)
        for name, style in styles.items()
    }


def main():
    """Fit what is missing in the file, and print means and standard errors."""
    options = parser(__doc__, seeds=2, image_size=32, file="style_parts.jsonl", only="")
    arguments = options.parse_args()
    found = shifts(development=True, folder=arguments.folder)
    found |= {c.__name__: partial(fashion, c, development=True) for c in CORRUPTIONS}
    found = {k: v for k, v in found.items() if not k.endswith("other shares")}
    asked = [name for name in arguments.only.split(";") if name] or [*found]
    path = Path(arguments.file)
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [json.loads(line) for line in lines]
    for seed in range(100, 100 + arguments.seeds):
        for name in asked:
            if any((row["shift"], row["seed"]) == (name, seed) for row in kept):
                continue
            size = arguments.image_size * SCALES.get(name, 1)
            row = accuracies(found[name], size, seed)
            kept.append({"shift": name, "seed": seed, **row})
            with path.open("a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
            print(name, seed, row, flush=True)
    grouped = pd.DataFrame(kept).drop(columns="seed").groupby("shift", sort=False)
    for table in (grouped.mean(), grouped.sem()):
        print(table.T.round(1).to_string())


if __name__ == "__main__":
    main()
