"""Measure the peak memory of `transform` for increasing numbers of image files.

Each number of files is run in its own process. Above the memory budget, the peak should
grow by no more than the size of the returned features.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import print_table
from PIL import Image

import sktransfer

SIZES = (1_000, 5_000, 20_000)
BUDGET = 2**25  # bytes, far less than the activations of 1,000 files


def write_files(folder, n):
    """Write n different photograph-like files and return their paths."""
    rng = np.random.RandomState(0)
    paths = []
    for i in range(n):
        coarse = rng.randint(0, 256, (6, 8, 3), dtype=np.uint8)
        path = Path(folder) / f"{i}.jpg"
        Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return paths


def peak(paths):
    """Extract large activations from n files, and return the peak in bytes."""
    extractor = sktransfer.PretrainedFeatureExtractor(image_size=64)
    with sktransfer.config_context(memory_budget=BUDGET):
        features = extractor.fit(paths[:2]).transform(paths)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, features.nbytes


def main():
    """Run each size in a process of its own."""
    if len(sys.argv) > 1:
        folder, n = sys.argv[1:]
        print(*peak([str(Path(folder) / f"{i}.jpg") for i in range(int(n))]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, max(SIZES))
        for n in SIZES:
            command = [sys.executable, __file__, folder, str(n)]
            out = subprocess.run(command, capture_output=True, text=True, check=True)
            total, features = map(int, out.stdout.split())
            rows.append(
                {
                    "files": n,
                    "peak MiB": total / 2**20,
                    "of it features MiB": features / 2**20,
                    "without them": (total - features) / 2**20,
                }
            )
    print(f"budget for activations: {BUDGET / 2**20:.0f} MiB")
    print_table(rows)


if __name__ == "__main__":
    main()
