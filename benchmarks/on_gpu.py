"""Check and time the package on a GPU, with what is installed alone.

The checks print whether an answer of the GPU is what it should be. Then `transform`
from memory is compared with a loop that is tuned by hand (channels last, bfloat16,
torch.compile), and a grid search over the depth with one by skorch. Without a GPU, the
script runs on the CPU: give it a few samples (`--n-images 16 --n-search 24 --epochs 1
--image-size 64`).
"""

import pickle
import time
import warnings

import numpy as np
import torch
from common import image_files, parser, print_table
from grid_search_freezing import DEPTHS, search_ours, search_plain
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import LabelEncoder
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, config_context
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone

NETWORKS = {
    "efficientnet_lite0": "default",
    "timm/vit_base_patch16_224": None,  # random weights
}


def synthetic(n, size, seed=0):
    """Make images (n, size, size, 3) of uint8, smooth as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 12, 12, generator=generator)
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return (255 * images.clamp(0, 1)).byte().permute(0, 2, 3, 1).numpy()


def relative(a, b):
    """Return the relative L2 norm of the difference of two arrays."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


# Checks: functions of images, labels, an image size and a device, which return what is
# printed and whether it is right.


def cached_equals_computed(X, y, size, device):
    """Whether stored features are those that are computed, bit for bit."""
    extractor = PretrainedFeatureExtractor(image_size=size, device=device).fit(X)
    process_store().clear()
    first, second = extractor.transform(X), extractor.transform(X)
    return "", np.array_equal(first, second)


def alone_equals_together(X, y, size, device):
    """Whether an image alone has the features that it has among others."""
    extractor = PretrainedFeatureExtractor(image_size=size, device=device).fit(X)
    together = extractor.transform(X)
    process_store().clear()
    return "", np.array_equal(extractor.transform(X[3:4])[0], together[3])


def precisions(X, y, size, device):
    """Whether lower precisions stay near float32 on the CPU."""
    with config_context(precision="float32", activation_dtype="float32"):
        exact = PretrainedFeatureExtractor(image_size=size, device="cpu")
        exact = exact.fit_transform(X)
    errors = {}
    for precision, most in (("float32", 2e-3), ("auto", 0.1)):
        with config_context(precision=precision):
            extractor = PretrainedFeatureExtractor(image_size=size, device=device)
            errors[precision] = relative(extractor.fit_transform(X), exact), most
    said = ", ".join(f"{name} {error:.1e}" for name, (error, _) in errors.items())
    return said, all(error <= most for error, most in errors.values())


def tf32_is_in_the_key(X, y, size, device):
    """Whether another precision of products finds nothing that was stored."""
    extractor = PretrainedFeatureExtractor(image_size=size, device=device).fit(X)
    before, keys = torch.get_float32_matmul_precision(), []
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        keys.append(extractor.model_.runtime(device).key)
    torch.set_float32_matmul_precision(before)
    return "", keys[0] != keys[1]


def short_of_memory(X, y, size, device):
    """Whether batches that do not fit are halved, with nearly the same features."""
    extractor = PretrainedFeatureExtractor(image_size=size, device=device).fit(X)
    expected = extractor.transform(X)
    if device == "cpu":
        return "on a GPU only", True
    free, total = torch.cuda.mem_get_info()
    block = torch.empty(int(free - 0.01 * total), dtype=torch.uint8, device=device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process_store().clear()
        many = np.concatenate([X] * -(-4096 // len(X)))
        halved = extractor.set_params(batch_size=4096).transform(many)[: len(X)]
    del block
    n_halved = sum("too small for so many" in str(w.message) for w in caught)
    error = relative(halved, expected)
    return f"halved {n_halved} times, {error:.1e}", n_halved > 0 and error < 0.05


def fits_and_moves(X, y, size, device):
    """Whether a model trained here predicts the same on the CPU after pickling."""
    model = FineTunedClassifier(
        freeze=5, max_epochs=3, image_size=size, device=device, random_state=0
    ).fit(X, y)
    moved = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    apart = np.abs(moved.predict_proba(X) - model.predict_proba(X)).max()
    again = FineTunedClassifier(**model.get_params(deep=False)).fit(X, y)
    is_same = np.array_equal(again.predict_proba(X), model.predict_proba(X))
    said = f"apart {apart:.1e}, accuracy {model.score(X, y):.2f}, twice the same: "
    return f"{said}{is_same}", apart < 0.05


CHECKS = (
    *(cached_equals_computed, alone_equals_together, precisions, tf32_is_in_the_key),
    *(short_of_memory, fits_and_moves),
)


def check(images, labels, size, device):
    rows = []
    for function in CHECKS:
        began = time.perf_counter()
        try:
            said, is_right = function(images, labels, size, device)
        except Exception as error:  # the next check is run all the same
            said, is_right = f"{type(error).__name__}: {error}", False
        rows.append(
            {
                "check": function.__name__,
                "right": is_right,
                "seconds": time.perf_counter() - began,
                "found": said[:200],
            }
        )
    print_table(rows)


def busy_share(function, device):
    """Return the seconds that a function takes, and the share with the GPU at work."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    began = time.perf_counter()
    function()
    seconds = time.perf_counter() - began
    if device == "cpu":
        return seconds, float("nan")
    with torch.profiler.profile(activities=activities[1:]) as profile:
        began = time.perf_counter()
        function()
        torch.cuda.synchronize()
        profiled = time.perf_counter() - began
    busy = sum(event.self_device_time_total for event in profile.key_averages())
    return seconds, busy / 1e6 / profiled


def by_hand(name, weights, inputs, device):
    """Return a function that computes all features in a loop that is tuned."""
    backbone = load_backbone(name, weights=weights, image_size=inputs.shape[1])
    network = backbone.fork("input").module.eval()
    network = network.to(device, memory_format=torch.channels_last)
    compiled = torch.compile(network) if device != "cpu" else network
    batch = 128 if device != "cpu" else 8

    def compute():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for part in inputs.split(batch):
                x = part.to(device, non_blocking=True)
                x = (x.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
                found = compiled(x.contiguous(memory_format=torch.channels_last))
        found.float().cpu()

    compute()  # compiles
    return compute


def throughput(n, size, device):
    rows = []
    images = synthetic(n, size)
    inputs = torch.from_numpy(images)
    inputs = inputs.pin_memory() if device != "cpu" else inputs
    for name, weights in NETWORKS.items():
        tuned, _ = busy_share(by_hand(name, weights, inputs, device), device)
        extractor = PretrainedFeatureExtractor(
            name, weights=weights, image_size=size, device=device, random_state=0
        ).fit(images[:1])

        def ours(extractor=extractor):
            process_store().clear()
            extractor.transform(images)

        ours()
        seconds, busy = busy_share(ours, device)
        rows.append(
            {
                "network": name,
                "images a second": n / seconds,
                "of the tuned loop": tuned / seconds,
                "busy": busy,
            }
        )
    print_table(rows)


def main():
    options = parser(
        __doc__, n_images=4096, n_search=240, epochs=10, image_size=224
    ).parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    print(f"{card}, torch {torch.__version__}")
    warnings.simplefilter("ignore")
    n, size = min(options.n_images, 64), options.image_size
    check(synthetic(n, size), np.arange(n) % 2, size, device)
    throughput(options.n_images, size, device)
    paths, labels = image_files(options.folder, options.n_search)
    y = LabelEncoder().fit_transform(labels)
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    rows = []
    for name, search in {"sktransfer": search_ours, "skorch": search_plain}.items():
        began = time.perf_counter()
        found = search(paths, y, DEPTHS, cv, options.epochs, 0)
        seconds = time.perf_counter() - began
        rows.append({"side": name, "seconds": seconds, "best": found.best_score_})
    print_table(rows)
    print(f"{rows[1]['seconds'] / rows[0]['seconds']:.1f} times as fast")


if __name__ == "__main__":
    main()
