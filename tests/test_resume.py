import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from sktransfer import EarlyStopping, FineTunedRegressor, config_context
from sktransfer.training import HEADS, Saver
from tests.test_classifier import ROWS, ROWS_NEW, X, Y, make_network, small, tiny

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys

import numpy as np
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn

from sktransfer import FineTunedClassifier

folder, file, settings = sys.argv[1:]
X, y = load_digits(n_class=3, return_X_y=True)
X, y = X[:36] / 16, y[:36]


def make_network():
    return nn.Sequential(
        nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8)
    )


epochs = []


class Log(Callback):
    # Tells the parent of each epoch, and waits for it in the sixth.

    def on_epoch_begin(self, net, **kwargs):
        if len(epochs) == 5:
            sys.stdin.readline()

    def on_epoch_end(self, net, **kwargs):
        epochs.append("done")
        print(len(epochs), flush=True)


model = FineTunedClassifier(
    make_network,
    max_epochs=12,
    lr=1e-2,
    batch_size=8,
    random_state=0,
    callbacks=[Log()],
    checkpoint=folder,
)
model.set_params(training__dropout=0.2, **eval(settings))
model.fit(X, y)
np.savez(file, **{k: v.numpy() for k, v in model.module_.state_dict().items()})
"""


def start(folder, file, settings):
    """Fit in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, (folder, file, settings))],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Let a fit go on to its end; return how many epochs it ran."""
    told, _ = process.communicate("go on\n")
    assert process.returncode == 0
    return len(told.splitlines())


def test_killed_and_resumed_fit_equals_an_uninterrupted_one(tmp_path):
    settings = {
        "freeze": "none",
        "training__unfreeze_every": 3,
        "training__ema": 0.9,
        "augment__mixup": 0.2,
    }
    folder = tmp_path / "kept"
    killed = start(folder, tmp_path / "none", settings)
    other = start(tmp_path / "other", tmp_path / "whole.npz", settings)
    while killed.stdout.readline() != "5\n":
        assert killed.poll() is None, "the fit ended before it was killed"
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert [*folder.glob("*.pt")]
    resumed = finish(start(folder, tmp_path / "resumed.npz", settings))
    assert finish(other) == 12
    # An epoch that had not been saved when the signal came is run again.
    assert 7 <= resumed <= 8
    found, expected = (np.load(tmp_path / f"{k}.npz") for k in ("resumed", "whole"))
    assert {*found} == {*expected}
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
    assert [*folder.iterdir()] == []


@contextmanager
def counted(after=None):
    """Count the epochs of fits, and break one off after some."""
    epochs, save = [], Saver.save

    def save_and_count(self, net, generator):
        save(self, net, generator)
        epochs.append(len(net.history))
        if len(epochs) == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "save", save_and_count)
        yield epochs


def interrupt(model, X, y, after):
    """Break off a fit after some epochs, which are kept."""
    with counted(after), pytest.raises(KeyboardInterrupt):
        clone(model).fit(X, y)


def interrupt_and_resume(model, X, y, after=3):
    """Return the model, resumed in a second fit, and how many epochs that had."""
    interrupt(model, X, y, after)
    with counted() as epochs:
        return model.fit(X, y), len(epochs)


@pytest.mark.parametrize("is_in_trial", [True, False])
def test_trial_of_early_stopping_is_resumed(tmp_path, is_in_trial):
    settings = {"freeze": 1, "max_epochs": 8, "batch_size": 8, "lr": 0.03}
    settings |= {"training__head_init": "random"}
    settings |= {"early_stopping": EarlyStopping(0.3, n_iter_no_change=2)}
    expected = tiny(**settings).fit(ROWS, Y)
    history = expected.history_
    n_tried = int(history["is_trial"].eq(True).sum())
    after = 1 if is_in_trial else n_tried + 1
    model = tiny(**settings, checkpoint=tmp_path)
    model, n_epochs = interrupt_and_resume(model, ROWS, Y, after)
    assert n_epochs == len(history) - after
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )
    assert [*model.history_["train_loss"]] == [*history["train_loss"]]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"head": "mlp"},
        {"head": torch.nn.LazyLinear(3), "training__l2_sp": 0.1},
        {
            "training__unfreeze_every": 2,
            "freeze": "none",
            "training__lr_schedule": "one_cycle",
        },
        {
            "training__ema": 0.9,
            "augment__mixup": 0.2,
            "training__lr_schedule": torch.optim.lr_scheduler.ConstantLR,
        },
        {"training__batch_norm": "train", "training__accumulate_grad_batches": 2},
        {"augment__activations": True},
        {"training__adapter": "lora"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_interrupted_fit_is_resumed(tmp_path, settings):
    settings = {"freeze": 1, "max_epochs": 6, "batch_size": 8, **settings}
    expected = tiny(**settings).fit(ROWS, Y)
    model = tiny(**settings, checkpoint=tmp_path)
    model, n_epochs = interrupt_and_resume(model, ROWS, Y)
    assert n_epochs == 3 and len(model.history_) == 6
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )
    assert [*model.history_["train_loss"]] == [*expected.history_["train_loss"]]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("n_views", [None, 2])
def test_interrupted_fit_continues_the_random_views(tmp_path, n_views):
    settings = {
        "freeze": 8,
        "max_epochs": 4,
        "augment": "crop",
        "augment__n_views": n_views,
    }
    expected = small(**settings).fit(X, Y)
    model, n_epochs = interrupt_and_resume(small(**settings, checkpoint=tmp_path), X, Y)
    assert n_epochs == 1
    np.testing.assert_array_equal(
        model.predict_proba(X[:4]), expected.predict_proba(X[:4])
    )


def test_interrupted_fit_of_a_regressor_is_resumed(tmp_path):
    settings = {"freeze": 1, "max_epochs": 6, "lr": 1e-2, "random_state": 0}
    expected = FineTunedRegressor(make_network, **settings).fit(ROWS, Y)
    model = FineTunedRegressor(make_network, checkpoint=tmp_path, **settings)
    model, n_epochs = interrupt_and_resume(model, ROWS, Y)
    assert n_epochs == 3
    np.testing.assert_array_equal(model.predict(ROWS), expected.predict(ROWS))


def fit_another(folder, first, second, rows=ROWS, y=Y, **data):
    """Interrupt a fit; return how many epochs another one has, and its model."""
    common = {"freeze": 1, "max_epochs": 4, "checkpoint": folder}
    interrupt(tiny(**common, **first), ROWS, Y, after=2)
    with counted() as epochs:
        model = tiny(**{**common, **second}).fit(rows, y, **data)
    return len(epochs), model


@pytest.mark.parametrize(
    "data",
    [
        {"rows": ROWS + 0.01},
        {"y": Y[::-1]},
        {"sample_weight": np.arange(36) + 1.0},
        {"X_val": ROWS, "y_val": Y},
    ],
    ids=["data", "labels", "weights", "validation"],
)
def test_fit_on_other_data_does_not_resume(tmp_path, data):
    assert fit_another(tmp_path, {}, {}, **data)[0] == 4
    assert len([*tmp_path.iterdir()]) == 1  # that of the other fit


def make_head(by):
    head = torch.nn.Linear(8, 3)
    torch.nn.init.constant_(head.weight, by)
    torch.nn.init.zeros_(head.bias)
    return head


class Scale(Callback):
    """Changes what is learnt."""

    def __init__(self, by):
        self.by = by

    def on_epoch_end(self, net, **kwargs):
        with torch.no_grad():
            net.module_.head.weight *= self.by


def make_leaky():
    module = make_network()
    module[1] = torch.nn.LeakyReLU()
    return module


def schedule(by):
    return partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda n: by)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"training__l2_sp": 0.0}, {"training__l2_sp": 0.1}),
        ({"head": make_head(0.1)}, {"head": make_head(0.2)}),
        ({"callbacks": [Scale(0.5)]}, {"callbacks": [Scale(0.1)]}),
        (
            {"training__lr_schedule": schedule(1.0)},
            {"training__lr_schedule": schedule(0.1)},
        ),
        (
            {"random_state": np.random.RandomState(0)},
            {"random_state": np.random.RandomState(1)},
        ),
        ({"backbone": make_network}, {"backbone": make_leaky}),
    ],
    ids=["number", "head", "callback", "schedule", "random state", "backbone"],
)
def test_fit_with_other_settings_does_not_resume(tmp_path, first, second):
    n_epochs, model = fit_another(tmp_path, first, second)
    expected = tiny(**{"freeze": 1, "max_epochs": 4, **second})
    if "random_state" in second:
        expected.set_params(random_state=np.random.RandomState(1))
    assert n_epochs == 4
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.fit(ROWS, Y).predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize("slope", [0.01, 0.2])
def test_replaced_code_of_a_named_head_does_not_resume(tmp_path, monkeypatch, slope):
    def head(slope):
        return lambda n_features, n_outputs: torch.nn.Sequential(
            torch.nn.LeakyReLU(slope), torch.nn.Linear(n_features, n_outputs)
        )

    settings = {"head": "leaky", "freeze": 1, "max_epochs": 4, "checkpoint": tmp_path}
    monkeypatch.setitem(HEADS, "leaky", head(0.01))
    interrupt(tiny(**settings), ROWS, Y, after=2)
    monkeypatch.setitem(HEADS, "leaky", head(slope))
    with counted() as epochs:
        tiny(**settings).fit(ROWS, Y)
    assert len(epochs) == (2 if slope == 0.01 else 4)


def test_fit_with_another_augmentation_does_not_resume(tmp_path):
    def darken(by):
        return lambda image: image.point(lambda value: value // by)

    settings = {
        "freeze": 8,
        "max_epochs": 3,
        "augment__n_views": 1,
        "checkpoint": tmp_path,
    }
    interrupt(small(**settings, augment=darken(2)), X, Y, after=2)
    for by, n_epochs in [(3, 3), (2, 1)]:
        with counted() as epochs:
            small(**settings, augment=darken(by)).fit(X, Y)
        assert len(epochs) == n_epochs


def test_fit_with_another_dtype_of_activations_does_not_resume(tmp_path):
    model = tiny(freeze=1, max_epochs=4, checkpoint=tmp_path)
    interrupt(model, ROWS, Y, after=2)
    with config_context(activation_dtype="float32"), counted() as epochs:
        clone(model).fit(ROWS, Y)
    assert len(epochs) == 4


def test_fit_that_cannot_be_described_saves_no_state(tmp_path):
    class Dynamic(Callback):
        def on_epoch_end(self, net, **kwargs):
            eval("net.history")

    model = tiny(freeze=1, callbacks=[Dynamic()], checkpoint=tmp_path / "new")
    text = (
        r"^`checkpoint` needs settings that can be compared when `fit` is called "
        r"again, but some cannot be described \(`callbacks`: code that uses `eval`\). "
        "So no state is kept, and a killed `fit` starts from the beginning. Pass "
        "objects without open files, whose code finds what it uses by name, or set "
        "`checkpoint=None`.$"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        model.fit(ROWS, Y)
    assert len(caught) == 1 and not (tmp_path / "new").exists()


def test_damaged_checkpoint(tmp_path):
    model = tiny(freeze=1, max_epochs=4, checkpoint=tmp_path)
    interrupt(model, ROWS, Y, after=2)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="The checkpoint .* cannot be read .* Remove"):
        model.fit(ROWS, Y)
