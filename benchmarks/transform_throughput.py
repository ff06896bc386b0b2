"""Compare `transform` from files with a plain loop and with the network alone.

The extractors are fitted before, and store nothing from one run to the next.

The plain loop has a DataLoader and an eager network in float32. The network alone gets
batches from memory, and is tuned by hand: folded BatchNorm, channels last, bfloat16,
traced and frozen, and the best of several batch sizes.

With `--side 1500` the images are enlarged to JPEG files whose shorter side has this
many pixels. "reduced" is `transform` with `reducing_gap=2`, which decodes large files
at a part of their size. "CPU" is the CPU time of this process per image, in
milliseconds, which other processes disturb less than the rate; the plain loop has
workers, whose time is not counted.
"""

import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Files, image_files, parser, print_table

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import open_image

REDUCED = {"reducing_gap": 2.0}


def plain_loop(paths):
    network = load_backbone("efficientnet_lite0").fork("input").module.eval()
    network.classifier = torch.nn.Identity()
    loader = torch.utils.data.DataLoader(Files(paths), batch_size=32, num_workers=2)
    with torch.no_grad():
        return torch.cat([network(x) for x, _ in loader])


def fitted(paths, preprocessing=None):
    backbone = load_backbone("efficientnet_lite0", preprocessing=preprocessing)
    return PretrainedFeatureExtractor(backbone).fit(paths)


def ours(extractor, paths):
    process_store().clear()
    return torch.from_numpy(extractor.transform(paths))


def enlarged(paths, side):
    """Save the images as JPEG files with this shorter side, in px; return paths."""
    folder = Path(tempfile.mkdtemp(prefix="enlarged-"))
    for i, path in enumerate(paths):
        image = open_image(path)
        scale = side / min(image.size)
        size = [round(scale * length) for length in image.size]
        image.resize(size).save(folder / f"{i}.jpg", quality=90)
    return sorted(map(str, folder.iterdir()))


def network_alone(paths):
    """Return the seconds that the network alone takes, on the clock and of the CPU."""
    network = load_backbone("efficientnet_lite0").fork("input").module.eval()
    network.classifier = torch.nn.Identity()
    network = network.to(memory_format=torch.channels_last)
    best = (float("inf"), float("inf"))
    for dtype in (torch.float32, torch.bfloat16):
        network = network.to(dtype)
        for size in (4, 8, 16, 32):
            x = torch.rand(size, 3, 224, 224).to(
                dtype, memory_format=torch.channels_last
            )
            with torch.inference_mode():
                run = torch.jit.freeze(torch.jit.trace(network, x))
                for _ in range(3):
                    run(x)
                n = len(paths) // size
                seconds = timed(lambda run=run, x=x, n=n: [run(x) for _ in range(n)])
            best = min(best, tuple(s * len(paths) / (n * size) for s in seconds))
    return best


def timed(run):
    """Return the seconds that a function takes, on the clock and of the CPU."""
    began = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def main():
    arguments = parser(__doc__, n_images=480, repeats=3)
    arguments.add_argument("--side", type=int, default=0)
    options = arguments.parse_args()
    paths, _ = image_files(options.folder, options.n_images)
    paths = enlarged(paths, options.side) if options.side else paths
    warnings.simplefilter("ignore")
    sides = {"sktransfer": partial(ours, fitted(paths))}
    sides["reduced"] = partial(ours, fitted(paths, REDUCED))
    sides["plain loop"] = plain_loop
    seconds = {name: [] for name in [*sides, "network alone, tuned"]}
    features = {name: run(paths) for name, run in sides.items()}
    for _ in range(options.repeats):
        for name, run in sides.items():
            seconds[name].append(timed(partial(run, paths)))
        seconds["network alone, tuned"].append(network_alone(paths))
    best = {name: tuple(map(min, zip(*t, strict=True))) for name, t in seconds.items()}
    print_table(
        {
            "side": name,
            "images a second": len(paths) / s,
            "CPU": 1000 * cpu / len(paths),
        }
        for name, (s, cpu) in best.items()
    )
    for name in ("reduced", "plain loop", "network alone, tuned"):
        wall, cpu = np.divide(best[name], best["sktransfer"])
        print(f"sktransfer / {name}: {wall:.2f}; of CPU time: {cpu:.2f}")
    for name, other in (("sktransfer", "plain loop"), ("reduced", "sktransfer")):
        error = (features[name] - features[other]).norm() / features[other].norm()
        print(f"features: {name} differs from {other} by {error:.2%} (relative L2)")


if __name__ == "__main__":
    main()
