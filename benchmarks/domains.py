"""Compare the accuracy of adaptation methods on an unlabelled target domain.

Each shift has labelled source samples, unlabelled target samples, and other target
samples on which the accuracy is measured. "source only" is trained on the source alone,
and "labelled target" also on the labels of the target, which are the lower and the
upper reference. Methods that train on both domains also move source images towards the
style of the target by default; "no style" is without that step, and "source only,
style" is that step alone. skada's methods use features of the same network on the same
splits; its deep methods have a hidden layer on top.

Results are saved to a file, from which an interrupted run continues. `--development`
uses other shifts, images and seeds, on which alone defaults were chosen. Shifts whose
data are not installed are left out.
"""

import json
import time
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import FASHION, STAMPS, fashion_images, parser
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.adaptation import DomainAdaptedClassifier

try:
    import skada
    import skada.deep
except ImportError:
    skada = None

METHODS = (
    "adabn",
    "shot",
    "coral",
    "mmd",
    "jmmd",
    "dann",
    "cdan",
    "mcc",
    "pseudo_label",
)
TEXT_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10")
CATEGORIES = ("animals", "food", "town", "vehicles")
# Factors of the image size; the images of all other shifts are small.
SCALES = {"photographs to drawings": 2, "drawings to photographs": 2}

# Corruptions of ImageNet-C (Hendrycks and Dietterich, 2019,
# https://arxiv.org/abs/1903.12261) with severity 3, except for the blur, which has
# severity 2 as the images are small. Darkening is its brightness with the opposite
# sign; inversion is from MNIST-C (Mu and Gilmer, 2019,
# https://arxiv.org/abs/1906.02337).


def blurred(images, rng):
    return gaussian_filter(images / 255, (0, 2, 2))


def noisy(images, rng):
    return images / 255 + rng.normal(scale=0.18, size=images.shape)


def inverted(images, rng):
    return 1 - images / 255


def darkened(images, rng):
    return images / 255 - 0.3


def low_contrast(images, rng):
    mean = images.mean(axis=(1, 2), keepdims=True)
    return ((images - mean) * 0.2 + mean) / 255


def pixelated(images, rng):
    small = [Image.fromarray(image).resize((11, 11), 4) for image in images]
    return np.stack([np.asarray(im.resize((28, 28), 4)) for im in small]) / 255


def as_it_is(images, rng):
    return images / 255


def fashion(corrupt, seed, n, *, development=False):
    """Return clean source samples, corrupted target samples, and corrupted others."""
    X, y = fashion_images(4 * n, seed=seed)
    X_new, y_new = X[2 * n :], y[2 * n :]
    if not development:
        X_new, y_new = fashion_images(2 * n, part="t10k", seed=seed)
    rng, X_target = np.random.RandomState(seed), X[n : 2 * n]
    spoilt = [np.uint8(255 * corrupt(x, rng).clip(0, 1)) for x in (X_target, X_new)]
    return X[:n], y[:n], spoilt[0], y[n : 2 * n], spoilt[1], y_new


@cache
def printed_digits(seed, n):
    """Draw digits in matplotlib's fonts, with small shifts and rotations."""
    rng, images, labels = np.random.RandomState(seed), [], np.arange(n) % 10
    folder = Path(get_data_path()) / "fonts" / "ttf"
    paths = [p for p in sorted(folder.glob("*.ttf")) if p.name.startswith(TEXT_FONTS)]
    paths = [p for p in paths if "Display" not in p.name]
    for label in labels:
        font = ImageFont.truetype(str(paths[rng.randint(len(paths))]), 44)
        image = Image.new("L", (64, 64))
        place = tuple(32 + rng.randint(-4, 5, 2))
        ImageDraw.Draw(image).text(place, str(label), 255, font, anchor="mm")
        image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
        images.append(np.asarray(image.resize((8, 8), Image.Resampling.BOX)))
    return np.stack(images), labels


def digits(seed, n, *, to_print=False):
    """Return printed and handwritten digits as source and target, or the reverse."""
    order = np.random.RandomState(seed).permutation(1797)
    written = np.uint8(load_digits().images[order] * 255 / 16)
    written = written, load_digits().target[order]
    printed = printed_digits(seed, 1797)
    source, target = (written, printed) if to_print else (printed, written)
    X, y = target
    return source[0][:n], source[1][:n], X[:n], y[:n], X[n:], y[n:]


def stamps(seed, n, *, to_photographs=False):
    """Return photographs and drawings as source and target, or the reverse."""
    rng, parts = np.random.RandomState(seed), {True: [], False: []}
    for path in sorted(STAMPS.rglob("*.png")):
        category = path.relative_to(STAMPS).parts[0]
        if category in CATEGORIES:
            parts["cartoon" in path.parts].append((str(path), category))
    keys = (True, False) if to_photographs else (False, True)
    source, target = (rng.permutation(parts[key]) for key in keys)
    half = min(n, len(target) // 2)
    split = source[:n], target[:half], target[half:]
    return [column for part in split for column in part.T]


def shifts(development):
    """Return functions of a seed and a number of samples, by the name of the shift."""
    found = {"digits to print": partial(digits, to_print=True)} if development else {}
    if development and STAMPS.is_dir():
        found["drawings to photographs"] = partial(stamps, to_photographs=True)
    if not development:
        found["print to digits"] = digits
        if STAMPS.is_dir():
            found["photographs to drawings"] = stamps
    kinds = (low_contrast, pixelated) if development else (blurred, noisy, inverted)
    if not development:
        kinds = (*kinds, darkened)
    if FASHION.is_dir():
        for kind in (*kinds, as_it_is):
            found[kind.__name__] = partial(fashion, kind, development=development)
    return found


# Rows of the table. Each is a function of (X, y, domain, y of the target), an image
# size and a seed, and returns a function that predicts.


def adapted(method, data, size, seed, style="auto"):
    X, y, domain, _ = data
    network = FineTunedClassifier(image_size=size, random_state=seed)
    model = DomainAdaptedClassifier(network, method, style=style)
    return model.fit(X, y, sample_domain=domain).predict


def labelled(data, size, seed):
    X, y, domain, of_target = data
    y = np.array(y)
    y[domain < 0] = of_target
    return FineTunedClassifier(image_size=size, random_state=seed).fit(X, y).predict


def on_features(make, data, size, seed):
    """Fit a method of skada on features of the network."""
    X, y, domain, _ = data
    classes, codes = np.unique(y[domain > 0], return_inverse=True)
    masked = np.full(len(y), -1)
    masked[domain > 0] = codes
    extractor = PretrainedFeatureExtractor(image_size=size)
    scaler = StandardScaler()
    Z = scaler.fit_transform(extractor.fit_transform(X)).astype(np.float32)
    model = make(Z.shape[1], len(classes), seed)
    model.fit(Z, masked, sample_domain=domain)

    def predict(X):
        Z = scaler.transform(extractor.transform(X)).astype(np.float32)
        found = model.predict(Z, sample_domain=np.full(len(Z), -1))
        return classes[np.asarray(found, dtype=int)]

    return predict


def shallow(adapters, n_features, n_classes, seed):
    made = [adapter() for adapter in adapters]
    return skada.make_da_pipeline(*made, LogisticRegression(max_iter=1000))


class HiddenLayer(torch.nn.Module):
    """A hidden layer and a head, with the signature that skada calls."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.hidden = torch.nn.Sequential(
            torch.nn.Linear(n_features, 256), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(256, n_classes)

    def forward(self, X, sample_weight=None):
        return self.head(self.hidden(X))


def deep(name, n_features, n_classes, seed):
    torch.manual_seed(seed)
    extra = {"num_features": 256} if name == "DANN" else {}
    return getattr(skada.deep, name)(
        HiddenLayer(n_features, n_classes),
        layer_name="hidden",
        max_epochs=30,
        batch_size=64,
        lr=1e-3,
        optimizer=torch.optim.AdamW,
        train_split=None,
        verbose=0,
        **extra,
    )


def rows():
    """Return the methods that are compared, by name."""
    found = {"source only": partial(adapted, "none"), "labelled target": labelled}
    found |= {method: partial(adapted, method) for method in METHODS}
    found["source only, style"] = partial(adapted, "none", style=True)
    found["mcc, no style"] = partial(adapted, "mcc", style=False)
    if skada is None:
        return found
    adapters = {
        "features": (),
        "CORAL": (skada.CORALAdapter,),
        "subspace alignment": (partial(skada.SubspaceAlignmentAdapter, 50),),
        "TCA": (partial(skada.TransferComponentAnalysisAdapter, n_components=50),),
    }
    makers = {name: partial(shallow, value) for name, value in adapters.items()}
    makers |= {name: partial(deep, name) for name in ("DeepCoral", "DANN")}
    found |= {f"skada {k}": partial(on_features, make) for k, make in makers.items()}
    return found


def main():
    """Fit the rows that are missing, and print the table."""
    options = parser(
        __doc__, seeds=5, samples=500, image_size=64, file="domains.jsonl", only=""
    )
    options.add_argument("--development", action="store_true")
    options.add_argument("--quick", action="store_true", help="one seed, small images")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.samples, arguments.image_size = 1, 200, 32
    first = 100 if arguments.development else 0
    path, kept = Path(arguments.file), {}
    if path.exists():
        found = map(json.loads, path.read_text().splitlines())
        kept = {_key(row): row for row in found}
    for seed in range(first, first + arguments.seeds):
        for name, shift in shifts(arguments.development).items():
            run(name, shift, seed, arguments, kept)
    asked = arguments.samples, arguments.image_size
    shown = [r for r in kept.values() if (r["n"], _size_before(r)) == asked]
    print_table(pd.DataFrame(shown))


def run(name, shift, seed, arguments, kept):
    """Fit the rows that are missing on one split."""
    X, y, X_target, y_target, X_new, y_new = shift(seed, arguments.samples)
    both = np.concatenate([X, X_target])
    hidden = np.concatenate([y, np.repeat(y[:1], len(X_target))])  # not used
    domain = np.repeat([1, -1], [len(X), len(X_target)])
    chosen = [row for row in arguments.only.split(";") if row]
    process_store().clear()
    for row, fit in rows().items():
        result = {"shift": name, "row": row, "seed": seed, "n": arguments.samples}
        size = result["size"] = arguments.image_size * SCALES.get(name, 1)
        if _key(result) in kept or (chosen and row not in chosen):
            continue
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predict = fit((both, hidden, domain, y_target), size, seed)
            result["accuracy"] = 100 * np.mean(predict(X_new) == y_new)
        result["seconds"] = time.perf_counter() - began
        kept[_key(result)] = result
        with open(arguments.file, "a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{name}, seed {seed}, {row}: {result['accuracy']:.1f}", flush=True)


def _size_before(row):
    return row["size"] // SCALES.get(row["shift"], 1)


def _key(row):
    return tuple(row[k] for k in ("shift", "row", "seed", "n", "size"))


def print_table(results):
    """Print means, standard deviations, and shares of the way between references."""
    names = ["row", "shift"]
    grouped = results.groupby(names, sort=False)["accuracy"]
    mean, std = (grouped.agg(name).unstack() for name in ("mean", "std"))
    print(mean.round(1).to_string(), "", std.round(1).to_string(), sep="\n")
    if {"source only", "labelled target"} <= {*mean.index}:
        low, high = mean.loc["source only"], mean.loc["labelled target"]
        print("\nShare of the way:", ((mean - low) / (high - low)).round(2).to_string())


if __name__ == "__main__":
    main()
