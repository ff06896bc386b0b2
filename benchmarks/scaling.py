"""Measure how the time and the memory of `transform` and `fit` grow with the samples.

Samples are image files, or members of a tar file or rows of a Parquet file, each number
of them in its own process, with activations stored in a folder and a memory budget that
holds far less than them. Per 1,000 of them, the table has the CPU seconds of
`transform` of new ones, those of `transform` of the same again, which reads, identifies
and looks up all of them, and those of a fit of the head on the stored features. The
peak memory of `transform` should grow by no more than the features, which it returns;
the fit holds them in double precision, and copies of them.

    python benchmarks/scaling.py [--sizes 1000,5000,20000,100000] [--source tar]
        [--image-size 224]
"""

import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser, print_table
from PIL import Image

import sktransfer
from sktransfer.inputs import image_column, image_tar

BUDGET = 2**25  # bytes, far less than the activations of 1,000 images
MIB = 2**20
N_CLASSES = 4
COLUMNS = ("transform", "again", "fit", "peak MiB", "with fit", "features")


def write_files(folder, n):
    """Write n different images of four classes, each with a pattern of its own."""
    rng = np.random.RandomState(0)
    patterns = rng.randint(0, 256, (N_CLASSES, 6, 8, 3))
    for i in range(n):
        noise = rng.randint(0, 256, (6, 8, 3))
        coarse = (0.5 * patterns[i % N_CLASSES] + 0.5 * noise).astype(np.uint8)
        image = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(Path(folder) / f"{i}.jpg")


def pack(folder, n, source):
    """Write the files to a tar file or to a Parquet file."""
    paths = [Path(folder) / f"{i}.jpg" for i in range(n)]
    if source == "tar":
        with tarfile.open(f"{folder}/images.tar", "w") as tar:
            for path in paths:
                tar.add(path, path.name)
    if source == "parquet":
        table = pd.DataFrame({"image": [path.read_bytes() for path in paths]})
        table.to_parquet(f"{folder}/images.parquet", row_group_size=200)


def images_of(folder, n, source):
    """Return the first n images, to be passed as X."""
    if source == "tar":
        return image_tar(f"{folder}/images.tar")[0][:n]
    if source == "parquet":
        return image_column(f"{folder}/images.parquet", "image")[:n]
    return [str(Path(folder) / f"{i}.jpg") for i in range(n)]


def timed(function, *args):
    """Return the result and the CPU seconds."""
    began = time.process_time()
    return function(*args), time.process_time() - began


def peak():
    """Return the most memory that this process has had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder, n, source, size):
    """Return CPU seconds per 1,000 of three steps, and memory in MiB."""
    images = images_of(folder, n, source)
    y = np.arange(n) % N_CLASSES
    settings = {"image_size": size, "memory": f"{folder}/store-{n}"}
    extractor = sktransfer.PretrainedFeatureExtractor(**settings).fit(images[:2])
    model = sktransfer.FineTunedClassifier(freeze="all", C=1.0, **settings)
    with sktransfer.config_context(memory_budget=BUDGET):
        features, new = timed(extractor.transform, images)
        _, again = timed(extractor.transform, images)
        after_transform = peak()
        _, fitted = timed(model.fit, images, y)
    seconds = [1000 * s / n for s in (new, again, fitted)]
    return *seconds, after_transform, peak(), features.nbytes / MIB


def main():
    """Run each size in a process of its own."""
    if len(sys.argv) == 5 and Path(sys.argv[1]).is_dir():
        folder, n, source, size = sys.argv[1:]
        print(*measure(folder, int(n), source, int(size)))
        return
    defaults = {"sizes": "1000,5000,20000,100000", "source": "files", "image_size": 64}
    options = parser(__doc__, **defaults).parse_args()
    sizes = [*map(int, options.sizes.split(","))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, max(sizes))
        pack(folder, max(sizes), options.source)
        for n in sizes:
            given = folder, str(n), options.source, str(options.image_size)
            command = [sys.executable, __file__, *given]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = map(float, out.stdout.split())
            rows.append({options.source: n, **dict(zip(COLUMNS, found, strict=True))})
            print_table(rows[-1:])
    print(f"CPU seconds per 1,000; budget for activations {BUDGET / MIB:.0f} MiB")
    print_table(rows)


if __name__ == "__main__":
    main()
