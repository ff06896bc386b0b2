"""Measure the rows per second and the disk space of the store in a folder."""

import os
import tempfile
import time

import numpy as np
from common import print_table

from sktransfer.activations._disk_store import open_disk_store

SHAPES = {
    "vector of 1,280, float32": ((1280,), np.float32),
    "map 320 x 7 x 7, float16": ((320, 7, 7), np.float16),
    "map 112 x 14 x 14, float16": ((112, 14, 14), np.float16),
}
BATCH, SECONDS = 32, 5.0


def measure(shape, dtype):
    """Measure some seconds of writing and of reading."""
    rng = np.random.RandomState(0)
    rows = [rng.randn(*shape).astype(dtype) for _ in range(BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        store, keys = open_disk_store(folder), []
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            new = [os.urandom(32) for _ in range(BATCH)]
            store.put(dict(zip(new, rows, strict=True)))
            keys += new
        write = len(keys) / (time.perf_counter() - began)
        on_disk = sum(
            os.path.getsize(os.path.join(place, name))
            for place, _, names in os.walk(folder)
            for name in names
        )
        read, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            chosen = [keys[i] for i in rng.randint(len(keys), size=BATCH)]
            read += len(store.get(chosen))
        read /= time.perf_counter() - began
    return {
        "writes a second": write,
        "reads a second": read,
        "MB/s written": write * rows[0].nbytes / 1e6,
        "MB/s read": read * rows[0].nbytes / 1e6,
        "bytes on disk / of activations": on_disk / (len(keys) * rows[0].nbytes),
    }


if __name__ == "__main__":
    print_table({"activation": name, **measure(*what)} for name, what in SHAPES.items())
