"""Fits in threads and processes, and many fits in one process."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.backbones import load_backbone
from tests.test_system_failures import (
    IMAGES,
    PATIENCE,
    ROOT,
    ROWS,
    Y,
    forked,
    make_network,
    run,
    small,
    tiny,
)

CONCURRENT = {
    "dropout": tiny(training__dropout=0.3, batch_size=4, max_epochs=6),
    "mixing": tiny(augment__mixup=0.4, batch_size=4, training__ema=0.9),
    "random head": tiny(head="mlp", training__head_init="random", batch_size=4),
    "probe": tiny(freeze="all"),
    "images": small(augment__mixup=0.2, training__dropout=0.2),
    "activations": small(augment__activations=True, augment__cutmix=0.5, freeze=7),
    "views": small(augment="strong", freeze=8),
    "fixed views": small(augment="medium", augment__n_views=2, freeze="all"),
}


def fitted_in(name, seed):
    X = ROWS if isinstance(CONCURRENT[name].backbone, type(make_network)) else IMAGES
    model = clone(CONCURRENT[name]).set_params(random_state=seed)
    return model.fit(X, Y).predict_proba(X)


def test_fits_in_threads_are_those_in_sequence():
    tasks = [(name, seed) for seed in (0, 1) for name in CONCURRENT]
    expected = [fitted_in(*task) for task in tasks]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(fitted_in, *task) for task in tasks]
    for task, a, b in zip(tasks, found, expected, strict=True):
        np.testing.assert_array_equal(a.result(), b, err_msg=str(task))
    assert torch.equal(torch.get_rng_state(), state)


def test_networks_are_traced_in_threads_while_others_train():
    def trace_and_fit(k):
        backbone = load_backbone(
            "torchvision/resnet18", weights=None, image_size=64, random_state=k
        )
        return PretrainedFeatureExtractor(backbone).fit_transform(IMAGES[:4])

    expected = [fitted_in("mixing", seed) for seed in range(6)]
    plain = nn.Module.__call__
    with ThreadPoolExecutor(4) as pool:
        traced = [pool.submit(trace_and_fit, k) for k in range(2)]
        fits = [pool.submit(fitted_in, "mixing", seed) for seed in range(6)]
    for a, b in zip(fits, expected, strict=True):
        np.testing.assert_array_equal(a.result(), b)
    assert nn.Module.__call__ is plain
    for k, features in enumerate(traced):
        np.testing.assert_allclose(features.result(), trace_and_fit(k), atol=1e-5)


def threads_after_fits(pipe):
    for name in ("dropout", "images", "views"):
        fitted_in(name, 0)
    pipe.send([thread.name for thread in threading.enumerate()])


def test_fits_leave_no_thread_in_a_fresh_process():
    with forked(threads_after_fits) as (_, pipe):
        assert pipe.poll(PATIENCE) and len(pipe.recv()) == 1


# Processes


PROCESSES = """
import multiprocessing, sys, warnings
import numpy as np
from tests.test_system_failures import IMAGES, Y, small

def predict_and_fit(model, X, pipe):
    pipe.send((model.predict_proba(X), model.fit(X, Y).predict_proba(X)))

if __name__ == "__main__":
    import torch
    torch.set_num_threads(2)
    warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
    context = multiprocessing.get_context(sys.argv[1])
    model = small().fit(IMAGES, Y)
    expected = model.predict_proba(IMAGES)
    here, there = context.Pipe()
    child = context.Process(target=predict_and_fit, args=(model, IMAGES, there))
    child.start()
    there.close()
    predicted, fitted = here.recv() if here.poll(90) else child.kill()
    child.join()
    print(abs(predicted - expected).max() < 1e-4, abs(fitted - expected).max() < 1e-3)
    print(child.exitcode)
"""


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)
def test_child_predicts_and_fits(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, script, method],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
    )
    assert done.stdout.splitlines() == ["True True", "0"], done.stderr


# Many fits


def resources():
    """Return the open files, the threads and the resident bytes of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return files, threading.active_count(), resident * os.sysconf("SC_PAGE_SIZE")


def many(n, folder):
    """Fit in several ways so many times; return how much is in use after each."""
    models = [
        tiny(
            training__head_init="random",
            augment__mixup=0.2,
            training__ema=0.9,
            checkpoint=folder / "kept",
        ),
        tiny(freeze="all"),
        small(max_epochs=1, memory=folder / "store"),
        small(freeze="all", augment="crop", augment__n_views=1),
    ]
    used = []
    for k in range(n):
        model = clone(models[k % 4]).set_params(random_state=k)
        X = ROWS if isinstance(model.backbone, type(make_network)) else IMAGES
        model.fit(X, Y).predict(X)
        used.append(resources())
    return np.array(used), weakref.ref(model.module_), weakref.ref(model.backbone_)


def test_fits_leave_no_files_threads_or_networks(tmp_path):
    used, *networks = many(12, tmp_path)
    assert used[7, 0] == used[-1, 0] and used[7, 1] == used[-1, 1]
    gc.collect()
    assert [network() for network in networks] == [None, None]


def test_folders_that_come_and_go_leave_no_files(tmp_path):
    used = []
    for k in range(12):
        small(freeze="all", memory=tmp_path / str(k), C=1.0).fit(IMAGES[:6], Y[:6])
        used.append(resources()[0])
    assert used[-1] == used[8]


LEAKS = """
from pathlib import Path
import sys
from sktransfer import config_context
from tests.test_concurrency import many
with config_context(memory_budget=2**20):  # full before the measurement begins
    used, *_ = many(240, Path(sys.argv[1]))
used = used[40:] - used[40]
print(*used[-1])
"""


@pytest.mark.slow
def test_two_hundred_fits_leak_nothing(tmp_path):
    (line,) = run(LEAKS, str(tmp_path), timeout=900)
    files, threads, resident = map(int, line.split())
    assert (files, threads) == (0, 0)
    assert resident < 20 * 2**20  # 0.1 MB per fit
