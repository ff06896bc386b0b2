"""Interrupts, kills, full disks and read-only homes."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone
from tests._networks import SmallNetwork

ROOT = Path(__file__).resolve().parents[1]
DIGITS = load_digits(n_class=3)
IMAGES, ROWS, Y = DIGITS.images[:24] / 16, DIGITS.data[:24] / 16, DIGITS.target[:24]
PATIENCE = 300  # seconds, to tell a hang from a busy machine


def make_network():
    return nn.Sequential(
        nn.LazyLinear(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8), nn.ReLU()
    )


def tiny(**settings):
    """Return a classifier of rows that is fitted in milliseconds."""
    defaults = {"freeze": "none", "max_epochs": 3, "lr": 1e-2, "random_state": 0}
    return FineTunedClassifier(make_network).set_params(**{**defaults, **settings})


BACKBONE = load_backbone(SmallNetwork)


def small(**settings):
    """Return a classifier of images with a small network."""
    defaults = {"freeze": 8, "max_epochs": 2, "random_state": 0}
    return FineTunedClassifier(BACKBONE).set_params(**{**defaults, **settings})


def run(script, *arguments, timeout=120, **environ):
    """Run a script in a process of its own; return what it printed, line by line."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextmanager
def forked(function, *arguments):
    """Call a function with a pipe in a forked process; yields that and our end."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=function, args=(there, *arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        child.start()
    there.close()
    try:
        yield child, here
        child.join(PATIENCE)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
        here.close()


# Import


IMPORT = """
import logging, os, random, signal, socket, sys, threading, warnings
import joblib, numpy as np, pandas, PIL.Image, PIL.ImageFile, scipy.optimize, sklearn
import safetensors.torch, skorch, sklearn.linear_model, timm, torch, torchvision
import threadpoolctl, tqdm.auto, torch.utils.flop_counter, torchvision.transforms.v2

def state():
    return {
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tobytes(),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "blas threads": sorted(map(str, threadpoolctl.threadpool_info())),
        "threads": threading.enumerate(),
        "warnings": list(warnings.filters),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": torch.backends.cudnn.benchmark,
        "numpy errors": np.geterr(),
        "environ": dict(os.environ),
        "sklearn": sklearn.get_config(),
        "pandas": pandas.get_option("display.max_rows"),
        "handlers": list(logging.root.handlers),
        "level": logging.root.level,
        "our handlers": list(logging.getLogger("sktransfer").handlers),
        "timeout": socket.getdefaulttimeout(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "excepthook": (sys.excepthook, threading.excepthook),
        "pixels": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
        "start method": torch.multiprocessing.get_start_method(allow_none=True),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "recursion": sys.getrecursionlimit(),
        "files": sorted(os.listdir("/proc/self/fd")),
        "module call": torch.nn.Module.__call__,
    }

before = state()
import sktransfer, sktransfer.backbones, sktransfer.activations, sktransfer.training
after = state()
print([name for name in before if before[name] != after[name]])
"""


def test_import_changes_no_global_state():
    assert run(IMPORT) == ["[]"]


# Ctrl-C


class Say(Callback):
    """Says when the second epoch is over."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            self.pipe.send("go")


class Dawdle:
    """Augments slowly, in the threads that read, and says when it has begun."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __call__(self, image):
        if self.pipe is not None:
            self.pipe.send("go")
            self.pipe = None
        time.sleep(0.02)
        return image


def readers():
    return [t for t in threading.enumerate() if "sktransfer" in t.name]


def interrupted(pipe, where, fitted_before):
    """Fit for a long time, and say what is left after the interrupt."""
    # Started in the background of a script, Python ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process_store().clear()
    model = small(batch_size=4, max_epochs=1)
    if fitted_before:
        expected = model.fit(IMAGES, Y).predict_proba(IMAGES)
        module = model.module_
    long = clone(model).get_params(deep=False)
    if where == "training":
        model.set_params(max_epochs=100_000, callbacks=[Say(pipe)])
    else:
        model.set_params(augment=Dawdle(pipe), augment__n_views=1000)
    try:
        model.fit(IMAGES, Y)
    except KeyboardInterrupt as error:
        held = error  # and with it every frame of the fit
        pipe.send(("interrupted", len(readers())))
    if fitted_before:
        same = np.array_equal(model.predict_proba(IMAGES), expected)
        pipe.send((model.module_ is module, same))
    else:
        with pytest.raises(NotFittedError):
            model.predict(IMAGES)
        pipe.send([name for name in vars(model) if name.endswith("_")])
    again = model.set_params(**long).fit(IMAGES, Y).predict_proba(IMAGES)
    fresh = clone(model).fit(IMAGES, Y).predict_proba(IMAGES)
    pipe.send((type(held).__name__, np.array_equal(again, fresh)))


def interrupt(child, pipe):
    """Press Ctrl-C, and again where Python lost it, as in a finaliser it does."""
    for _ in range(5):
        time.sleep(0.1)
        os.kill(child.pid, signal.SIGINT)
        if pipe.poll(PATIENCE / 5):
            return
    raise AssertionError("the interrupt does not reach the user")


@pytest.mark.parametrize("where", ["frozen pass", "training"])
@pytest.mark.parametrize("fitted_before", [False, True])
def test_interrupt_reaches_the_user_and_leaves_the_estimator(where, fitted_before):
    with forked(interrupted, where, fitted_before) as (child, pipe):
        assert pipe.poll(PATIENCE) and pipe.recv() == "go"
        interrupt(child, pipe)
        assert pipe.recv() == ("interrupted", 0)
        assert pipe.poll(PATIENCE)
        assert pipe.recv() == ((True, True) if fitted_before else [])
        assert pipe.poll(PATIENCE) and pipe.recv() == ("KeyboardInterrupt", True)


class Interrupt(Callback):
    """What a user does in the middle of an epoch."""

    def __init__(self, batch=2):
        self.batch = batch

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history[-1]["batches"]) == self.batch:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "settings", [{}, {"training__adapter": "lora"}, {"training__ema": 0.9}], ids=str
)
def test_interrupt_of_a_training_that_goes_on_changes_nothing(settings):
    model = tiny(
        warm_start=True, batch_size=4, training__batch_norm="train", **settings
    )
    before = model.fit(ROWS, Y).predict_proba(ROWS)
    state = {k: v.clone() for k, v in model.module_.state_dict().items()}
    fitted, history = {*vars(model)}, model.history_.copy()
    for go_on in (model.fit, model.partial_fit):
        model.set_params(callbacks=[Interrupt()])
        with pytest.raises(KeyboardInterrupt):
            go_on(ROWS, Y)
        assert {*vars(model)} == fitted and not model.module_.training
        assert model.history_.equals(history)
        np.testing.assert_array_equal(model.predict_proba(ROWS), before)
        for name, tensor in model.module_.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    model.set_params(callbacks=None).partial_fit(ROWS, Y)
    assert len(model.history_) == len(history) + 1


@pytest.mark.parametrize("freeze", ["none", 1])
def test_interrupted_first_fit_is_no_fit(freeze):
    model = tiny(freeze=freeze, batch_size=4, callbacks=[Interrupt()])
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            fit(ROWS, Y)
        with pytest.raises(NotFittedError):
            model.predict(ROWS)
        assert not [name for name in vars(model) if name.endswith("_")]


# Too little memory on the device


class Tight(nn.Module):
    """Has room for so many samples, as a small GPU."""

    def __init__(self, room):
        super().__init__()
        self.register_buffer("room", torch.tensor(room), persistent=False)

    def forward(self, z):
        if len(z) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return z


def tight(room, **settings):
    network = nn.Sequential(nn.Linear(64, 16), Tight(room), nn.ReLU(), nn.Linear(16, 8))
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            numbers = torch.arange(parameter.numel()).sin() / (5 + k)
            parameter.copy_(numbers.view_as(parameter))
    # A solved head has gradients of zero but for rounding, and AdamW moves by signs.
    defaults = {
        "freeze": "none",
        "training__head_init": "random",
        "lr": 1e-2,
        "batch_size": 12,
    }
    settings = {**defaults, "max_epochs": 3, "random_state": 0, **settings}
    return FineTunedClassifier(network).set_params(**settings)


@pytest.mark.filterwarnings("ignore:The memory of cpu is too small for so many")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augment__mixup": 0.4, "training__l2_sp": 0.1},
        {"training__accumulate_grad_batches": 2},
    ],
)
def test_training_goes_in_parts_and_ends_the_same(settings):
    roomy = tight(100, **settings).fit(ROWS, Y)
    small = tight(5, **settings).fit(ROWS, Y)
    np.testing.assert_allclose(
        small.predict_proba(ROWS), roomy.predict_proba(ROWS), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        small.history_["train_loss"], roomy.history_["train_loss"], rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:The memory of cpu is too small for so many")
def test_predictions_go_in_parts():
    whole = tight(100).fit(ROWS, Y)
    expected = whole.predict_proba(ROWS), whole.transform(ROWS)
    for layer in whole.module_.modules():
        if isinstance(layer, Tight):
            layer.room.fill_(3)  # a setting would have the network looked at anew
    with pytest.warns(UserWarning, match="going on with 2. `batch_size` sets it"):
        np.testing.assert_allclose(whole.predict_proba(ROWS), expected[0], rtol=1e-4)
    np.testing.assert_allclose(whole.transform(ROWS), expected[1], rtol=1e-4, atol=1e-6)


# Killed workers


class Kill(Callback):
    """Kills the process it runs in, unless that is this one."""

    def __init__(self, pid):
        self.pid = pid

    def on_epoch_end(self, net, **kwargs):
        if os.getpid() != self.pid:
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_joblibs_error_and_the_store_is_whole(tmp_path):
    model = small(memory=tmp_path, callbacks=[Kill(os.getpid())])
    search = GridSearchCV(model, {"freeze": [7, 8]}, cv=2, n_jobs=2, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loky's, of what the dead left
        with pytest.raises(TerminatedWorkerError, match="SIGKILL"):
            search.fit(IMAGES, Y)
    process_store().clear()
    expected = small().fit(IMAGES, Y).predict_proba(IMAGES)
    process_store().clear()
    found = small(memory=tmp_path).fit(IMAGES, Y).predict_proba(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


# Full disks and homes that cannot be written to


def fit_on_full_disk(pipe, model, X, room):
    process_store().clear()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.fit(X, Y).predict_proba(X)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # coverage writes in the end
    said = [str(w.message) for w in caught if w.category is UserWarning]
    pipe.send((said, found))


def test_full_disk_under_a_store(tmp_path):
    model = small(memory=tmp_path)
    with forked(fit_on_full_disk, model, IMAGES, 50_000) as (_, pipe):
        assert pipe.poll(PATIENCE)
        (said,), found = pipe.recv()
    assert said.startswith("The activation store") and "goes on without it" in said
    expected = small().fit(IMAGES, Y).predict_proba(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_full_disk_under_a_checkpoint(tmp_path):
    folder = tmp_path / "kept"
    with forked(fit_on_full_disk, tiny(checkpoint=folder), ROWS, 2_000) as (_, pipe):
        assert pipe.poll(PATIENCE)
        (said,), found = pipe.recv()
    assert said.startswith("The state of the training could not be written to")
    assert "Free some space, or give another folder as `checkpoint`." in said
    assert [*folder.iterdir()] == []
    np.testing.assert_array_equal(found, tiny().fit(ROWS, Y).predict_proba(ROWS))


def test_checkpoint_where_there_can_be_no_folder(tmp_path):
    (tmp_path / "file").touch()
    model = tiny(checkpoint=tmp_path / "file" / "kept")
    with pytest.warns(UserWarning, match="could not be written to .*kept.*Not a dir"):
        model.fit(ROWS, Y)
    expected = tiny().fit(ROWS, Y).predict_proba(ROWS)
    np.testing.assert_array_equal(model.predict_proba(ROWS), expected)


HOMELESS = """
from sktransfer import FineTunedClassifier
from tests.test_system_failures import IMAGES, Y
model = FineTunedClassifier(freeze=8, image_size=64, max_epochs=1)
print(model.fit(IMAGES, Y).predict(IMAGES).shape)
from sktransfer.backbones import list_backbones, load_backbone
print(len(list_backbones("resnet18")) > 0)
try:
    load_backbone("torchvision/resnet18")
except OSError as error:
    print(error)
"""


def test_home_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    home = str(tmp_path / "file" / "home")  # root may write anywhere else
    names = ["HOME", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR"]
    shape, listed, said = run(HOMELESS, **dict.fromkeys(names, home))
    assert (shape, listed) == ("(24,)", "True")
    assert "could not be downloaded from https" in said and "NotADirectoryError" in said
