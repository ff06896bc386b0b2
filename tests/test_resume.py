import os
import pickle
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
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import FineTunedClassifier, FineTunedRegressor, config_context
from sktransfer.backbones import load_backbone
from sktransfer.training import Saver
from tests.test_classifier import ROWS, ROWS_NEW, X, Y, lite, make_network, small, tiny

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


def test_killed_fit_ends_as_if_it_had_not_been(tmp_path):
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
        {
            "early_stopping": True,
            "early_stopping__validation_fraction": 0.3,
            "early_stopping__n_iter_no_change": 50,
        },
        {"training__batch_norm": "train", "training__accumulate_grad_batches": 2},
        {"augment__activations": True},
        {"training__adapter": "lora"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_interrupted_fit_goes_on(tmp_path, settings):
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
def test_interrupted_fit_draws_on_the_views(tmp_path, n_views):
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


def test_interrupted_fit_of_a_regressor_goes_on(tmp_path):
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


def test_fit_that_cannot_be_described_keeps_nothing(tmp_path):
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


# Going on with a trained network


@pytest.mark.parametrize("freeze", [1, "none"])
def test_warm_start_goes_on(freeze):
    model = tiny(freeze=freeze, warm_start=True, max_epochs=5).fit(ROWS, Y)
    first = model.predict_proba(ROWS_NEW)
    module, loss = model.module_, model.history_["train_loss"].iloc[0]
    model.set_params(max_epochs=20).fit(ROWS, Y)
    assert model.module_ is module
    assert model.history_["epoch"].tolist() == [*range(1, 26)]
    assert model.history_["train_loss"].iloc[-1] < loss
    assert abs(model.predict_proba(ROWS_NEW) - first).max() > 1e-2


def test_warm_start_begins_where_it_was():
    model = tiny(freeze=1, warm_start=True, max_epochs=5).fit(ROWS, Y)
    before = model.predict_proba(ROWS_NEW)
    model.set_params(lr=1e-9).fit(ROWS, Y)
    np.testing.assert_allclose(model.predict_proba(ROWS_NEW), before, atol=1e-5)
    model.set_params(warm_start=False, max_epochs=2, lr=1e-2).fit(ROWS, Y)
    expected = tiny(freeze=1).fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


def test_warm_start_of_a_probe_solves_it_again():
    model = tiny(freeze="all", warm_start=True).fit(ROWS[:18], Y[:18]).fit(ROWS, Y)
    expected = tiny(freeze="all").fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize(
    "settings", [{}, {"training__adapter": "lora"}, {"training__batch_norm": "train"}]
)
def test_going_on_leaves_the_frozen_tensors_alone(settings):
    model = tiny(freeze=1, **settings).fit(ROWS, Y)
    before = {k: v.clone() for k, v in model.backbone_.module.state_dict().items()}
    model.partial_fit(ROWS, Y)
    after = model.backbone_.module.state_dict()
    assert {k for k in after if not torch.equal(after[k], before[k])} <= {
        "2.weight",
        "2.bias",
    }
    assert not torch.equal(after["2.weight"], before["2.weight"])


def test_adapters_go_on_from_what_they_learnt():
    model = tiny(freeze=1, training__adapter="lora", lr=1e-2, warm_start=True).fit(
        ROWS, Y
    )
    losses = model.set_params(max_epochs=5).fit(ROWS, Y).history_["train_loss"]
    assert losses.iloc[-5:].max() < losses.iloc[0]


def test_what_adapters_froze_can_be_trained_later():
    model = tiny(freeze=1, training__adapter="lora").fit(ROWS, Y)
    before = model.backbone_.module.state_dict()["2.weight"].clone()
    model.set_params(training__adapter=None).partial_fit(ROWS, Y)
    assert (model.backbone_.module.state_dict()["2.weight"] != before).all()
    assert not any(p.requires_grad for p in model.module_.prefix.parameters())


def test_going_on_draws_anew():
    orders = []

    class Order(Callback):
        def on_batch_end(self, net, batch, training, **kwargs):
            orders.append(batch[1].tolist())

    model = tiny(freeze=1, batch_size=8, callbacks=[Order()])
    for _ in range(3):
        model.partial_fit(ROWS, Y)
    first, second, third = orders[:5], orders[5:10], orders[10:]
    assert len(third) == 5 and first != second != third != first


def test_partial_fit_holds_nothing_out():
    settings = {"freeze": 1, "training__lr_schedule": "constant"}
    model = tiny(**settings, early_stopping=True)
    expected = tiny(**settings)
    for _ in range(2):
        model.partial_fit(ROWS, Y)
        expected.partial_fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


def test_warm_start_with_another_network():
    model = tiny(freeze=1, warm_start=True).fit(ROWS, Y)
    message = (
        "^`freeze` must not change .* further. Got freeze='none' after freeze=1; set"
    )
    with pytest.raises(ValueError, match=message):
        model.set_params(freeze="none").fit(ROWS, Y)
    pickle.loads(pickle.dumps(model)).set_params(freeze=1).fit(ROWS, Y)
    model.set_params(warm_start=False).fit(ROWS, Y)
    assert model.boundary_ == "input"


def test_partial_fit_with_another_network():
    model = tiny(freeze=1).partial_fit(ROWS, Y)
    before = model.predict_proba(ROWS_NEW)
    message = (
        "^`pooling` must not change in `partial_fit`, which trains the fitted "
        "network further. Got pooling='max' after pooling='auto'; use "
        "`sklearn.base.clone` to start again.$"
    )
    with pytest.raises(ValueError, match=message):
        model.set_params(pooling="max").partial_fit(ROWS, Y)
    np.testing.assert_array_equal(model.predict_proba(ROWS_NEW), before)


def test_going_on_with_a_backbone_that_was_changed():
    module = make_network()
    module(torch.zeros(2, 64))  # lazy layers
    model = tiny(backbone=module, freeze=1, warm_start=True).fit(ROWS, Y)
    pickle.loads(pickle.dumps(model)).partial_fit(ROWS, Y)
    module[2].weight.data += 1
    message = (
        "^`backbone` must not change .*. Got backbone=<Sequential> whose content is "
        "not that of the first training; "
    )
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message):
            go_on(ROWS, Y)
    module[2].weight.data -= 1
    with pytest.raises(ValueError, match="Got backbone=<lite> after backbone=<Seq"):
        model.set_params(backbone=lite).fit(ROWS, Y)


def test_going_on_with_a_file_of_weights_that_was_changed(tmp_path):
    def write(seed):
        module = load_backbone("timm/test_resnet", weights=None, random_state=seed)
        torch.save(module.module.state_dict(), path)

    path = tmp_path / "weights.pt"
    write(0)
    common = {"weights": path, "freeze": "all", "C": 1.0, "image_size": 32}
    common["value_range"] = (0, 16)
    model = FineTunedClassifier("timm/test_resnet", **common).partial_fit(X, Y)
    write(0)
    model.partial_fit(X, Y)
    write(1)
    with pytest.raises(ValueError, match="`weights` must not change in `partial_f"):
        model.partial_fit(X, Y)
    path.unlink()
    model.partial_fit(X, Y)  # what was read is there


@pytest.mark.parametrize("freeze", ["all", 1])
def test_partial_fit_is_an_epoch(freeze):
    model = tiny(freeze=freeze).partial_fit(ROWS, Y)
    assert len(model.history_) == 1
    for n_epochs in (2, 3):
        assert model.partial_fit(ROWS[::-1], Y[::-1]) is model
        assert len(model.history_) == n_epochs
    assert model.score(ROWS, Y) > 0.5


def test_pickling_in_between_changes_nothing():
    model = tiny(freeze=1).partial_fit(ROWS, Y)
    copy = pickle.loads(pickle.dumps(model)).partial_fit(ROWS, Y)
    model.partial_fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), copy.predict_proba(ROWS_NEW)
    )
    assert len(copy.history_) == 2


@pytest.mark.parametrize("freeze", ["all", 1])
def test_classes_that_come_later_are_learned(freeze):
    model = tiny(freeze=freeze, lr=0.1, C=1.0)
    known = Y < 2
    model.partial_fit(ROWS[known], Y[known], classes=[0, 1, 2])
    assert model.classes_.tolist() == [0, 1, 2]
    assert not np.isin(2, model.predict(ROWS[known]))
    for _ in range(40):
        model.partial_fit(ROWS, Y)
    assert model.score(ROWS, Y) > 0.8


def test_labels_that_are_no_classes():
    message = r"`y` holds labels that are not among the classes: \[2\]. The classes are"
    with pytest.raises(ValueError, match=message):
        tiny().partial_fit(ROWS, Y, classes=[0, 1])
    known = Y < 2
    model = tiny(freeze=1, warm_start=True).fit(ROWS[known], Y[known])
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message):
            fit(ROWS, Y)


def test_classes_of_a_failed_call_are_forgotten():
    model = tiny(freeze=1)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.partial_fit(ROWS, Y[1:], classes=[0, 1, 2, 3])
    assert model.fit(ROWS, Y).classes_.tolist() == [0, 1, 2]


# Another estimator's network


def test_network_of_a_fitted_estimator():
    source = tiny(freeze="none", max_epochs=5).fit(ROWS, Y)
    before = {k: v.clone() for k, v in source.backbone_.module.state_dict().items()}
    probe = tiny(backbone=source, freeze="all", C=1.0).fit(ROWS, Y % 2)
    features, new = source.transform(ROWS), source.transform(ROWS_NEW)
    np.testing.assert_array_equal(probe.transform(ROWS), features)
    reference = LogisticRegression(tol=1e-6).fit(features, Y % 2)
    np.testing.assert_allclose(
        probe.predict_proba(ROWS_NEW), reference.predict_proba(new), atol=1e-3
    )
    tiny(backbone=source, freeze="none").fit(ROWS, Y % 2)
    after = source.backbone_.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_network_goes_from_a_regressor_to_a_classifier():
    source = FineTunedRegressor(make_network, freeze="none", random_state=0)
    source.fit(ROWS, ROWS.sum(axis=1))
    model = tiny(backbone=source, freeze="all").fit(ROWS, Y)
    np.testing.assert_array_equal(model.transform(ROWS), source.transform(ROWS))


def test_network_of_images():
    with config_context(precision="float32"):
        source = lite(freeze=8).fit(X, Y)
        model = lite(backbone=source, freeze="all").set_params(image_size=None)
        model.fit(X, Y)
    # Once all stages are frozen, each is rounded to 16 bits at its end.
    np.testing.assert_allclose(
        model.transform(X[:4]), source.transform(X[:4]), rtol=3e-3, atol=1e-3
    )


def test_estimator_that_is_not_fitted():
    with pytest.raises(
        NotFittedError, match="`backbone` is a FineTunedClassifier that"
    ):
        tiny(backbone=tiny()).fit(ROWS, Y)
    source = tiny(freeze="none").fit(ROWS, Y)
    with pytest.raises(NotFittedError, match="wrap it in sklearn.frozen.FrozenEstim"):
        clone(tiny(backbone=source)).fit(ROWS, Y)


def test_frozen_estimator_in_a_search():
    source = tiny(freeze="none", max_epochs=5).fit(ROWS, Y)
    model = tiny(backbone=FrozenEstimator(source))
    search = GridSearchCV(model, {"freeze": [1, "all"]}, cv=2, error_score="raise")
    search.fit(ROWS, Y % 2)
    best = search.best_estimator_
    assert isinstance(best, FineTunedClassifier)
    first = best.backbone_.module.state_dict()["0.weight"]
    assert torch.equal(first, source.backbone_.module.state_dict()["0.weight"])
