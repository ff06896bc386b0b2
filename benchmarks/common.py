"""Images, arguments and tables that the benchmarks share."""

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder

from sktransfer.backbones import load_backbone
from sktransfer.inputs import open_image

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
STAMPS = Path("/usr/share/tuxpaint/stamps")  # Debian's tuxpaint-stamps-default
N_CLASSES = 8
CURVED = [0, 3, 6, 8, 9]  # digits that enclose something, or nearly
SHOES = [5, 7, 9]  # of Fashion-MNIST


def parser(description, **defaults):
    """Make the parser of a script, with a folder and options by their defaults."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("folder", nargs="?", help="folder with one subfolder per class")
    for name, value in defaults.items():
        option = "--" + name.replace("_", "-")
        result.add_argument(option, type=type(value), default=value)
    return result


def image_files(folder, n_images, seed=0):
    """Return paths and labels of some images, balanced over the largest classes."""
    if folder is None:
        folder = STAMPS if STAMPS.is_dir() else _digits_as_files()
    data = ImageFolder(folder)
    paths = np.array([path for path, _ in data.samples])
    labels = np.array(data.classes)[data.targets]
    largest = pd.Series(labels).value_counts().index[:N_CLASSES]
    rng = np.random.RandomState(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == name))[: n_images // len(largest)]
        for name in largest
    ]
    chosen = rng.permutation(np.concatenate(chosen))
    print(f"{len(chosen)} images in {len(largest)} classes of {folder}")
    return paths[chosen], labels[chosen]


def _digits_as_files():
    folder = Path(tempfile.mkdtemp(prefix="digits-"))
    images, targets = load_digits(n_class=8).images, load_digits(n_class=8).target
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        place = folder / str(target)
        place.mkdir(exist_ok=True)
        pixels = Image.fromarray((image * 15).astype(np.uint8))
        pixels.resize((256, 256), Image.Resampling.BICUBIC).save(place / f"{i}.png")
    return folder


def fashion_images(n_images, part="train", seed=0):
    """Return images (n, 28, 28) and labels of Fashion-MNIST, balanced over classes."""
    images, labels = (_read_idx(FASHION / f"{part}-{name}-ubyte.gz") for name in _IDX)
    rng = np.random.RandomState(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == c))[: n_images // 10]
        for c in range(10)
    ]
    chosen = rng.permutation(np.concatenate(chosen))
    return images[chosen], labels[chosen]


_IDX = ("images-idx3", "labels-idx1")


def _read_idx(path):
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


class Files(torch.utils.data.Dataset):
    """Dataset that decodes an image each time, as most training scripts do."""

    def __init__(self, paths, labels=None):
        self.paths = paths
        self.labels = np.zeros(len(paths), dtype=np.int64) if labels is None else labels
        self.preprocessing = load_backbone().preprocessing

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return decoded([self.paths[i]], self.preprocessing)[0], self.labels[i]


def decoded(images, preprocessing):
    """Return paths or arrays as model inputs (n, 3, h, w)."""
    pixels = np.stack([preprocessing.prepare(open_image(image)) for image in images])
    return preprocessing.to_input(torch.from_numpy(pixels)).contiguous()


def print_table(rows):
    """Print a list of dicts as a table."""
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))
