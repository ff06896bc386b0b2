"""All callbacks of skorch, in trainings of both kinds of estimators."""

import sys
import threading
from unittest.mock import MagicMock

import numpy as np
import pytest
import skorch
import torch
from skorch import callbacks as skorch_callbacks
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LoadInitState,
    LRScheduler,
)
from torch import nn

from sktransfer import FineTunedClassifier, FineTunedRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 6)).astype(np.float32)
Y = np.arange(22) % 2
X[Y == 1] += 1
VALIDATION = {"X_val": X[:11], "y_val": Y[:11]}
# Depends on the network that is made, so it has nothing to set here.
UNSUITABLE = {"Callback", "InputShapeSetter"}


class Network(nn.Sequential):
    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU())


def make(kind=FineTunedClassifier, **settings):
    """Train a network in batches of 5 of the 22 samples."""
    chosen = {"freeze": 1, "max_epochs": 3, "batch_size": 5, "random_state": 0}
    return kind(Network).set_params(**chosen | settings)


def freeze(net, *args):
    return skorch.utils.freeze_parameter


def all_callbacks(folder, tracker):
    """Return a callback of each class of skorch, by the name of the class."""
    checkpoint = Checkpoint(dirname=folder / "best", f_pickle="net.pkl")
    arguments = {
        "BatchScoring": {"scoring": "accuracy", "lower_is_better": False},
        "Checkpoint": {"dirname": folder, "monitor": "train_loss_best"},
        "EarlyStopping": {"patience": 2, "load_best": True},
        "EpochScoring": {"scoring": None, "name": "score"},
        "Freezer": {"patterns": "suffix*"},
        "GradientNormClipping": {"gradient_clip_value": 1.0},
        "Initializer": {"patterns": "head*", "fn": nn.init.normal_},
        "LoadInitState": {"checkpoint": checkpoint},
        "LRScheduler": {"policy": "ReduceLROnPlateau"},
        "MlflowLogger": {"run": tracker, "client": tracker},
        "NeptuneLogger": {"run": tracker},
        "ParamMapper": {"patterns": "head*", "schedule": freeze},
        "PassthroughScoring": {"name": "valid_loss"},
        "PrintLog": {"sink": lambda line: None},
        "SacredLogger": {"experiment": tracker},
        "TensorBoard": {"writer": tracker},
        "TrainEndCheckpoint": {"dirname": folder / "end"},
        "Unfreezer": {"patterns": "head*", "at": 2},
        "WandbLogger": {"wandb_run": tracker},
    }
    names = {*skorch_callbacks.__all__} - UNSUITABLE
    made = {
        name: getattr(skorch_callbacks, name)(**arguments.get(name, {}))
        for name in names - {"WarmRestartLR"}
    }
    made["WarmRestartLR"] = LRScheduler(skorch_callbacks.WarmRestartLR)
    return made | {"best": checkpoint}


@pytest.mark.filterwarnings("ignore:The training ended below the linear probe")
def test_all_callbacks_of_skorch_train(tmp_path, monkeypatch):
    for module in ("neptune", "neptune.types", "neptune.handler"):
        monkeypatch.setitem(sys.modules, module, MagicMock(Handler=Network))
    # Stands for a run of an experiment, which cannot be copied deeply.
    tracker = MagicMock(dir=tmp_path, lock=threading.Lock())
    for name, callback in all_callbacks(tmp_path, tracker).items():
        before = vars(callback).copy()
        model = make(callbacks=[(name, callback)]).fit(X, Y, **VALIDATION)
        assert len(model.history_) == 3, name
        assert vars(callback) == before  # the training has a copy
    assert (tmp_path / "best" / "net.pkl").exists()
    losses = model.history_["valid_loss"].tolist()
    assert [row.args[0]["valid_loss"] for row in tracker.log.call_args_list] == losses
    logged = [row.args[1:] for row in tracker.log_metric.call_args_list]
    assert [value for key, value in logged if key == "valid_loss"] == losses
    # A training continues from the state that another one has stored.
    load = LoadInitState(Checkpoint(dirname=tmp_path, monitor="train_loss_best"))
    model = make(callbacks=[load], max_epochs=1).fit(X, Y)
    assert len(model.history_) == 4


@pytest.mark.parametrize("on_train", [True, False], ids=["training", "validation"])
def test_scores_of_skorch_are_those_of_the_network(on_train):
    samples = (X, Y) if on_train else (VALIDATION["X_val"], VALIDATION["y_val"])
    for uses_cache in (True, False):
        settings = {"on_train": on_train, "use_caching": uses_cache}
        scores = [
            EpochScoring("roc_auc", name="auc", **settings),
            EpochScoring(None, name="own", **settings),
            EpochScoring("accuracy", **settings),
            BatchScoring("accuracy", name="batch", **settings),
        ]
        model = make(callbacks=scores, augment=None).fit(X, Y, **VALIDATION)
        last = model.history_.iloc[-1]
        assert last["own"] == last["accuracy"] == pytest.approx(last["batch"])
        if not (on_train and uses_cache):  # such scores come before the last steps
            assert last["accuracy"] == model.score(*samples)
        without = make(callbacks=scores, augment=None).fit(X, Y)
        assert ("auc" in without.history_) == on_train


def test_scores_of_a_regressor():
    scoring = EpochScoring(None, on_train=True, use_caching=False, name="r2")
    y = X[:, 0] + X[:, 1]
    model = make(FineTunedRegressor, callbacks=[scoring]).fit(X, y)
    assert model.history_["r2"].iloc[-1] == pytest.approx(model.score(X, y), abs=1e-5)


@pytest.mark.parametrize(
    ("callback", "monitor", "other"),
    [
        (EarlyStopping(), "valid_loss", "train_loss"),
        (Checkpoint(), "valid_loss_best", "train_loss_best"),
    ],
)
def test_loss_that_is_not_computed_is_not_monitored(callback, monitor, other):
    kind = type(callback).__name__
    text = (
        f"^`callbacks` holds a {kind} that monitors '{monitor}', but there are no "
        f"validation samples. Give `X_val` and .* or monitor '{other}'.$"
    )
    with pytest.raises(ValueError, match=text):
        make(callbacks=[("mine", callback)]).fit(X, Y)
