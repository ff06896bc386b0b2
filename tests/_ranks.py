"""Fits in several processes, each of which runs ``python tests/_ranks.py folder``."""

import contextlib
import io
import os
import pickle
import signal
import sys
import threading
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn
from torchvision.transforms.v2 import RandomHorizontalFlip

from sktransfer import (
    Augmentation,
    EarlyStopping,
    FineTunedClassifier,
    FineTunedRegressor,
)
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.compute import ranks_of
from sktransfer.training import Saver
from tests._networks import SmallNetwork

X, Y = load_digits(n_class=3, return_X_y=True)
X, Y = X[:60] / 16, Y[:60]
X, Y, X_NEW, Y_NEW = X[:36], Y[:36], X[36:], Y[36:]
WEIGHT = np.linspace(0.5, 2, len(X))
IMAGES = np.uint8(X.reshape(-1, 8, 8) * 255)


def make_network():
    return nn.Sequential(
        nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8)
    )


SETTINGS = {"max_epochs": 3, "lr": 1e-2, "batch_size": 8, "random_state": 0}


def classifier(**settings):
    given = {**SETTINGS, "device": "accelerate", **settings}
    return FineTunedClassifier(make_network).set_params(**given)


def on_images(augment):
    model = classifier(backbone=SmallNetwork(), freeze=5, augment=augment, lr=1e-3)
    return model.fit(IMAGES, Y)


def partial():
    model = classifier(freeze="0", class_weight="balanced", loss="cross_entropy")
    return model.fit(X, Y, sample_weight=WEIGHT)


def whole():
    return classifier(freeze="none", batch_size=5).fit(X, Y)  # the last one has six


def head_alone():
    return classifier(freeze="all").fit(X, Y)


def fewer_samples_than_processes():
    return classifier(freeze="none", batch_size=1, max_epochs=1).fit(X[:6], Y[:6])


def other_recipe():
    model = classifier(freeze="none", batch_size=7)
    model.set_params(training__l2_sp=0.01, training__accumulate_grad_batches=2)
    return model.set_params(training__ema=0.9, training__unfreeze_every=1).fit(X, Y)


def adapters():
    return classifier(freeze="none", training__adapter="lora").fit(X, Y)


def stopped():
    early = EarlyStopping(n_iter_no_change=2)
    return classifier(freeze="none", early_stopping=early, max_epochs=8).fit(X, Y)


def validated():
    model = classifier(freeze="none", early_stopping=True)
    return model.fit(X, Y, X_val=X_NEW, y_val=Y_NEW, sample_weight_val=None)


def in_parts():
    model = classifier(freeze="none")
    return model.partial_fit(X[:20], Y[:20], classes=[0, 1, 2]).partial_fit(X, Y)


def regression():
    model = FineTunedRegressor(make_network, device="accelerate")
    model.set_params(**SETTINGS, freeze="0")
    return model.fit(X, np.c_[Y, X.sum(1)], sample_weight=WEIGHT)


def fixed_views():
    return on_images("auto")


def fresh_views():
    return on_images(Augmentation(RandomHorizontalFlip(), n_views=None))


CASES = [
    *(partial, whole, head_alone, fewer_samples_than_processes, other_recipe),
    *(adapters, stopped, validated, in_parts, regression, fixed_views, fresh_views),
]


def result(case):
    """Return what a fit found: all values, those that are frozen, and the history."""
    model = case()
    data = IMAGES if model.backbone_.name == "SmallNetwork" else X
    predict = getattr(model, "predict_proba", model.predict)
    prefix = model.backbone_.section("input", model.boundary_)
    return {
        "predicted": predict(data),
        "trained": as_arrays(model.model_.network),
        "frozen": as_arrays(prefix),
        "history": model.history_.drop(columns="dur", errors="ignore"),
    }


def as_arrays(module):
    return {k: v.numpy().copy() for k, v in module.state_dict().items()}


# What only several processes do


class InRank(Callback):
    """Do something in the second epoch of the second process."""

    def __init__(self, action):
        self.action = action

    def on_epoch_begin(self, net, **kwargs):
        if ranks_of("accelerate").rank == 1 and len(net.history) == 2:
            self.action(net)


def fail(net):
    raise OSError("no space left")


def kill(net):
    os.kill(os.getpid(), signal.SIGKILL)


def change_weights(net):
    with torch.no_grad():
        net.module_.head.bias += 1


def ask_the_others(net):
    ranks_of("accelerate").agree(0)


def run_out_of_memory(net):
    def refuse(layer, args):
        if layer.training and len(args[0]) > 3:
            raise torch.OutOfMemoryError("too many samples")

    net.module_.head.register_forward_pre_hook(refuse)


def error_of(function, *args):
    """Return the class and the text of the error that a call raises."""
    try:
        function(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def fit_with(action, **settings):
    return classifier(freeze="none", callbacks=[InRank(action)], **settings).fit(X, Y)


def on_other_samples():
    rank = ranks_of("accelerate").rank
    return classifier().fit(X[rank:], Y[rank:])


def with_batch_norm():
    head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
    return classifier(freeze="none", head=head).fit(X, Y)


def between_domains():
    model = DomainAdaptedClassifier(classifier(freeze="none"), method="mmd", style=None)
    return model.fit(X, Y, sample_domain=np.repeat([1, -1], 18))


def in_a_thread():
    errors = []
    job = threading.Thread(
        target=lambda: errors.append(error_of(classifier().fit, X, Y))
    )
    job.start()
    job.join()
    return errors[0]


def shown():
    """Return what a fit with bars and lines writes."""
    with contextlib.redirect_stderr(io.StringIO()) as bars:
        classifier(freeze="none", verbose=1).fit(X, Y)
        with contextlib.redirect_stdout(io.StringIO()) as lines:
            classifier(freeze="none", verbose=2).fit(X, Y)
    return len(bars.getvalue()), len(lines.getvalue())


def seeds():
    """Return the weights of a fit without `random_state`, which all have in common."""
    model = classifier(freeze="none", random_state=None, max_epochs=1).fit(X, Y)
    return as_arrays(model.model_.network)


def save_and_fail(self, net, generator, save=Saver.save):
    save(self, net, generator)
    if ranks_of("accelerate").rank == 1 and len(net.history) == 2:
        fail(net)


def resumed(folder):
    """Return the weights of a fit, and of one that failed and was resumed."""
    ranks = ranks_of("accelerate")
    model = classifier(freeze="none", training__dropout=0.3, checkpoint=folder / "kept")
    whole = as_arrays(model.fit(X, Y).model_.network)
    with mock.patch.object(Saver, "save", save_and_fail):
        error = error_of(model.fit, X, Y)
    n_files = len([*(folder / "kept").iterdir()])
    ranks.collect("counted")
    again = as_arrays(model.fit(X, Y).model_.network)
    ranks.collect("removed")
    n_left = len([*(folder / "kept").iterdir()])
    return {"error": error, "files": (n_files, n_left), "fits": (whole, again)}


def together(folder):
    """Return what a process finds in all fits."""
    return {
        "cases": {case.__name__: result(case) for case in CASES},
        "failed": error_of(fit_with, fail),
        "changed": error_of(fit_with, change_weights),
        "astray": error_of(fit_with, ask_the_others),
        "samples": error_of(on_other_samples),
        "batch norm": error_of(with_batch_norm),
        "domains": error_of(between_domains),
        "thread": in_a_thread(),
        "shown": shown(),
        "seeds": seeds(),
        "resumed": resumed(folder),
        "less memory": as_arrays(fit_with(run_out_of_memory).model_.network),
        "memory": as_arrays(fit_with(nothing).model_.network),
    }


def nothing(net):
    """Do what does not change a training."""


if __name__ == "__main__":
    folder, ranks = Path(sys.argv[1]), ranks_of("accelerate")
    warnings.simplefilter("ignore")
    found = together(folder)
    (folder / f"{ranks.rank}.pickle").write_bytes(pickle.dumps((ranks, found)))
    ends = error_of(fit_with, kill), error_of(fit_with, nothing)
    (folder / f"{ranks.rank}.txt").write_text("\n".join(ends))
