"""Compare `transform` from files with a plain loop and with the network alone.

The plain loop has a DataLoader and an eager network in float32. The network alone gets
batches from memory, and is tuned by hand: folded BatchNorm, channels last, bfloat16,
traced and frozen, and the best of several batch sizes.
"""

import time
import warnings

import torch
from common import Files, image_files, parser, print_table

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone


def plain_loop(paths):
    network = load_backbone("efficientnet_lite0").fork("input").module.eval()
    network.classifier = torch.nn.Identity()
    loader = torch.utils.data.DataLoader(Files(paths), batch_size=32, num_workers=2)
    with torch.no_grad():
        return torch.cat([network(x) for x, _ in loader])


def ours(paths):
    process_store().clear()
    return torch.from_numpy(PretrainedFeatureExtractor().fit(paths).transform(paths))


def network_alone(paths):
    """Return the seconds that the network alone takes for this number of images."""
    network = load_backbone("efficientnet_lite0").fork("input").module.eval()
    network.classifier = torch.nn.Identity()
    network = network.to(memory_format=torch.channels_last)
    best = float("inf")
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
                began = time.perf_counter()
                for _ in range(len(paths) // size):
                    run(x)
                seconds = time.perf_counter() - began
            best = min(best, seconds * len(paths) / (len(paths) // size * size))
    return best


def main():
    options = parser(__doc__, n_images=480, repeats=3).parse_args()
    paths, _ = image_files(options.folder, options.n_images)
    warnings.simplefilter("ignore")
    ours(paths[:32])
    plain_loop(paths[:32])
    seconds = {"sktransfer": [], "plain loop": [], "network alone, tuned": []}
    for _ in range(options.repeats):
        for name, run in {"sktransfer": ours, "plain loop": plain_loop}.items():
            began = time.perf_counter()
            features = run(paths)
            seconds[name].append(time.perf_counter() - began)
            if name == "sktransfer":
                fast = features
        seconds["network alone, tuned"].append(network_alone(paths))
    error = float((fast - features).norm() / features.norm())
    best = {name: min(times) for name, times in seconds.items()}
    print_table(
        {"side": name, "images a second": len(paths) / s} for name, s in best.items()
    )
    for name in ("plain loop", "network alone, tuned"):
        print(f"sktransfer / {name}: {best[name] / best['sktransfer']:.2f}")
    print(f"its features differ from the plain loop's by {error:.2%} (relative L2)")


if __name__ == "__main__":
    main()
