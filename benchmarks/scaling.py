"""Measure how the time and the memory of `transform` and `fit` grow with the samples.

Samples are image files, or members of a tar file or rows of a Parquet file, each number
of them in its own process, with a memory budget that holds far less than their
activations. Per 1,000 of them, the table has the CPU seconds of `transform` of new
ones, those of `transform` of the same again, which reads, identifies and looks up all
of them, and those of a fit of the head on the stored features. The peak memory should
grow by no more than the features, which `transform` returns and the fit holds.

    python benchmarks/scaling.py [--sizes 1000,5000,20000,100000] [--source tar]
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

BUDGET = 2**25  # bytes, far less than the activations of 1,000 files
MIB = 2**20


def write_files(folder, n):
    """Write n different photograph-like files; their classes are of brightness."""
    rng = np.random.RandomState(0)
    means = []
    for i in range(n):
        coarse = rng.randint(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(Path(folder) / f"{i}.jpg")
        means.append(coarse.mean())
    bounds = np.quantile(means, [0.25, 0.5, 0.75])
    np.save(Path(folder) / "classes", np.digitize(means, bounds))


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


def measure(folder, n, source):
    """Return CPU seconds of three steps, the peak, and the features, in bytes."""
    images = images_of(folder, n, source)
    y = np.load(Path(folder) / "classes.npy")[:n]
    extractor = sktransfer.PretrainedFeatureExtractor(image_size=64).fit(images[:2])
    model = sktransfer.FineTunedClassifier(freeze="all", image_size=64, C=1.0)
    with sktransfer.config_context(memory_budget=BUDGET):
        features, new = timed(extractor.transform, images)
        _, again = timed(extractor.transform, images)
        _, fitted = timed(model.fit, images, y)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return new, again, fitted, peak, features.nbytes


def main():
    """Run each size in a process of its own."""
    if len(sys.argv) == 4 and sys.argv[2].isdigit():
        folder, n, source = sys.argv[1:]
        print(*measure(folder, int(n), source))
        return
    arguments = parser(__doc__, sizes="1000,5000,20000,100000", source="files")
    options = arguments.parse_args()
    sizes = [*map(int, options.sizes.split(","))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, max(sizes))
        pack(folder, max(sizes), options.source)
        for n in sizes:
            command = [sys.executable, __file__, folder, str(n), options.source]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            new, again, fitted, peak, features = map(float, out.stdout.split())
            rows.append(
                {
                    options.source: n,
                    "transform": 1000 * new / n,
                    "again": 1000 * again / n,
                    "fit": 1000 * fitted / n,
                    "peak MiB": peak / MIB,
                    "features MiB": features / MIB,
                }
            )
            print_table(rows[-1:])
    print(f"CPU seconds per 1,000; budget for activations {BUDGET / MIB:.0f} MiB")
    print_table(rows)


if __name__ == "__main__":
    main()
