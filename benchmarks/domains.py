"""Compare the accuracy of adaptation methods on an unlabelled target domain.

Each shift is source samples with labels, target samples without, and other target
samples that the accuracy is of. "source only" learns from the source alone, "labelled
target" from the target's labels besides: the methods are meant to go a part of the way
from the former to the latter. "default" is a `DomainAdaptedClassifier` as it is, and
other methods have the default style, too. "random style" and "target style" are source
only on source images in these styles; the former is the augmentation that adaptation
has to beat. skada's methods see features of the same network on the same splits. With
"other shares", the classes of the target are thinned out, down to a tenth.

PACS is run if its folder is given, at 3.5 times the image size. With `--freeze all`,
methods see the features of the pretrained network, which takes seconds per row; those
that train stages are left out. `--shifts` and `--only` select shifts and rows, with ;
between.

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
from common import FASHION, STAMPS, fashion_images, parser
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.adaptation import DomainAdaptedClassifier, list_methods

try:
    import skada
except ImportError:
    skada = None

PER_CLASS = 60  # images of PACS per class and style
TEXT_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10")
CATEGORIES = ("animals", "food", "town", "vehicles")
# Factors of the image size; the images of all other shifts are small.
SCALES = {"photographs to drawings": 2, "drawings to photographs": 2}
PACS_SCALE = 3.5  # 112 pixels, where the others have 32


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


def shifts(development, folder=None):
    """Return, by name, functions of a seed and a number of samples.

    PACS is in a folder, and cartoons to photographs are for development.
    """
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
    skewed = ["as_it_is", "low_contrast" if development else "inverted"]
    if folder is not None:
        order = ("cartoon", "photo") if development else ("photo", "cartoon")
        skewed.append(" to ".join(order))
        found[skewed[-1]] = partial(pacs, folder, order)
    for name in skewed:
        if name in found:
            found[f"{name}, other shares"] = partial(other_shares, found[name])
    return found


def pacs(folder, order, seed, n):
    """Return two styles of PACS, `PER_CLASS` images of each class; half to test."""
    rng, parts = np.random.RandomState(seed), []
    for style in order:
        classes = sorted(path.name for path in (Path(folder) / style).iterdir())
        files = [sorted((Path(folder) / style / c).iterdir()) for c in classes]
        drawn = [rng.permutation([*map(str, f)])[:PER_CLASS] for f in files]
        parts.append(
            [
                (np.array(f), np.repeat(c, len(f)))
                for c, f in zip(classes, drawn, strict=True)
            ]
        )
    halves = [[[a[i::2] for a in pair] for pair in parts[1]] for i in (0, 1)]
    return [
        np.concatenate(column)
        for part in (parts[0], *halves)
        for column in zip(*part, strict=True)
    ]


def other_shares(shift, seed, n):
    """Thin out the classes of the target, the last to a tenth of the first."""
    X, y, *halves = shift(seed, n)
    classes = np.random.RandomState(seed).permutation(np.unique(y))
    shares = dict(zip(classes, np.geomspace(1, 0.1, len(classes)), strict=True))
    thinned = []
    for X_part, y_part in (halves[:2], halves[2:]):
        y_part = np.asarray(y_part)
        rows = [np.flatnonzero(y_part == c) for c in classes]
        rows = [
            r[: round(len(r) * shares[c])] for r, c in zip(rows, classes, strict=True)
        ]
        rows = np.sort(np.concatenate(rows))
        thinned += [X_part[rows], y_part[rows]]
    return X, y, *thinned


# Rows. Each is a function from (X, y, domain, y of the target), the settings of the
# network and a seed to what predicts.


def adapted(method, style, data, settings, seed):
    X, y, domain, _ = data
    network = FineTunedClassifier(**settings, random_state=seed)
    model = DomainAdaptedClassifier(network, method, style=style)
    return model.fit(X, y, sample_domain=domain).predict


def labelled(data, settings, seed):
    X, y, domain, of_target = data
    y = np.array(y)
    y[domain < 0] = of_target
    return FineTunedClassifier(**settings, random_state=seed).fit(X, y).predict


def by_hand(data, settings, seed):
    """Standardise the features of each domain, and fit a logistic regression."""
    X, y, domain, _ = data
    extractor = PretrainedFeatureExtractor(image_size=settings["image_size"]).fit(X[:2])
    source, target = (extractor.transform(X[rows]) for rows in (domain > 0, domain < 0))
    scalers = [StandardScaler().fit(Z) for Z in (source, target)]
    model = LogisticRegression(max_iter=1000)
    model.fit(scalers[0].transform(source), y[domain > 0])
    return lambda X: model.predict(scalers[1].transform(extractor.transform(X)))


def on_features(adapters, data, settings, seed):
    """Fit one of skada's on features of the network."""
    X, y, domain, _ = data
    classes, codes = np.unique(y[domain > 0], return_inverse=True)
    masked = np.full(len(y), -1)
    masked[domain > 0] = codes
    extractor = PretrainedFeatureExtractor(image_size=settings["image_size"])
    scaler = StandardScaler()
    Z = scaler.fit_transform(extractor.fit_transform(X)).astype(np.float64)
    made = [adapter() for adapter in adapters]
    model = skada.make_da_pipeline(*made, LogisticRegression(max_iter=1000))
    model.fit(Z, masked, sample_domain=domain)

    def predict(X):
        Z = scaler.transform(extractor.transform(X)).astype(np.float64)
        found = model.predict(Z, sample_domain=np.full(len(Z), -1))
        return classes[np.asarray(found, dtype=int)]

    return predict


def rows(freeze):
    """Return what is compared, by name."""
    found = {
        "source only": partial(adapted, "none", None),
        "random style": partial(adapted, "none", "random"),
        "target style": partial(adapted, "none", "target"),
        "labelled target": labelled,
        "default": partial(adapted, "centroids", "auto"),
        "centroids, no style": partial(adapted, "centroids", None),
        "centroids, target style": partial(adapted, "centroids", "target"),
        "mcc, target style": partial(adapted, "mcc", "target"),
    }
    others = [name for name in list_methods() if name not in ("none", "centroids")]
    if freeze == "all":
        others = ["mcc", "pseudo_label"]  # the others train stages
    found |= {name: partial(adapted, name, "auto") for name in others}
    found["standardised by hand"] = by_hand
    if skada is None:
        return found
    adapters = {
        "CORAL": (skada.CORALAdapter,),
        "subspace alignment": (partial(skada.SubspaceAlignmentAdapter, 50),),
        "TCA": (partial(skada.TransferComponentAnalysisAdapter, n_components=50),),
        "optimal transport": (partial(skada.OTMappingAdapter, norm="max"),),
        "entropic transport": (
            partial(skada.EntropicOTMappingAdapter, reg_e=0.1, norm="max"),
        ),
    }
    return found | {f"skada {k}": partial(on_features, a) for k, a in adapters.items()}


def main():
    """Fit the rows that are missing, and print the table."""
    options = parser(
        __doc__, seeds=5, samples=500, image_size=64, file="domains.jsonl", only=""
    )
    options.add_argument("--development", action="store_true")
    options.add_argument("--freeze", default="auto", help="'all' for small machines")
    options.add_argument("--shifts", default="", help="only these")
    arguments = options.parse_args()
    first = 100 if arguments.development else 0
    path, kept = Path(arguments.file), {}
    if path.exists():
        found = map(json.loads, path.read_text().splitlines())
        kept = {_key(row): row for row in found}
    asked = arguments.shifts.split(";") if arguments.shifts else None
    for seed in range(first, first + arguments.seeds):
        for name, shift in shifts(arguments.development, arguments.folder).items():
            if asked is None or name in asked:
                run(name, shift, seed, arguments, kept)
    print_table(pd.DataFrame([*kept.values()]).query(_asked(arguments)))


def _asked(arguments):
    given = arguments.samples, arguments.image_size, arguments.freeze
    return "n == {} and size == {} and freeze == {!r}".format(*given)


def run(name, shift, seed, arguments, kept):
    """Fit the rows that are missing on one split."""
    X, y, X_target, y_target, X_new, y_new = shift(seed, arguments.samples)
    both = np.concatenate([X, X_target])
    hidden = np.concatenate([y, np.repeat(y[:1], len(X_target))])  # not used
    domain = np.repeat([1, -1], [len(X), len(X_target)])
    chosen = [row for row in arguments.only.split(";") if row]
    settings = {"image_size": round(arguments.image_size * _scale(name))}
    settings["freeze"] = arguments.freeze
    process_store().clear()
    for row, fit in rows(arguments.freeze).items():
        result = {"shift": name, "row": row, "seed": seed, "n": arguments.samples}
        result |= {"size": arguments.image_size, "freeze": arguments.freeze}
        if _key(result) in kept or (chosen and row not in chosen):
            continue
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predict = fit((both, hidden, domain, y_target), settings, seed)
            result["accuracy"] = 100 * np.mean(predict(X_new) == y_new)
        result["seconds"] = time.perf_counter() - began
        kept[_key(result)] = result
        with open(arguments.file, "a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{name}, seed {seed}, {row}: {result['accuracy']:.1f}", flush=True)


def _scale(name):
    is_pacs = name.startswith(("photo to", "cartoon to"))
    return PACS_SCALE if is_pacs else SCALES.get(name, 1)


def _key(row):
    return tuple(row[k] for k in ("shift", "row", "seed", "n", "size", "freeze"))


def print_table(results):
    """Print means, standard errors, and shares of the way between references."""
    names = ["row", "shift"]
    grouped = results.groupby(names, sort=False)["accuracy"]
    mean, error = (grouped.agg(name).unstack() for name in ("mean", "sem"))
    print(mean.round(1).to_string(), "", error.round(1).to_string(), sep="\n")
    if {"source only", "labelled target"} <= {*mean.index}:
        gains = mean - mean.loc["source only"]
        summary = pd.DataFrame({"mean gain": gains.mean(axis=1)})
        summary["least gain"] = gains.min(axis=1)
        way = gains.mean(axis=1) / gains.loc["labelled target"].mean()
        print(summary.assign(share_of_the_way=way).round(2).to_string())


if __name__ == "__main__":
    main()
