import ast
import copy
import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau, StepLR

from sktransfer.activations import ActivationLayout
from sktransfer.training import (
    Data,
    Mix,
    Network,
    Objective,
    Saver,
    cross_entropy,
    restore_weights_on_error,
    train,
)
from sktransfer.training._schedule import LR_SCHEDULES
from tests._recipes import resolved_recipe

RNG = np.random.RandomState(0)
Y = torch.arange(60) % 3
Z = torch.from_numpy(RNG.randn(60, 5) + Y.numpy()[:, None]).float()
HELD = Data(Z[::3] + 0.5, Y[::3], np.ones(20))


class Views:
    """Random views: noise on each access, from a generator of their own."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(Z)

    def __getitem__(self, indices):
        return Z[indices] + float(self.rng.normal())

    def state_dict(self):
        return {"rng": repr(self.rng.bit_generator.state)}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = ast.literal_eval(state["rng"])


class Killed(Exception):
    pass


class Kill(Callback):
    """Callback that ends the training in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training, **kwargs):
        row = net.history[-1]
        if training and row["epoch"] == self.epoch and len(row["batches"]) == 2:
            raise Killed


class NumPyScores(Callback):
    """Callback that records the results of scorers."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("single", np.float32(0.1))
        net.history.record("matrix", np.arange(4).reshape(2, 2))
        net.history.record("pair", (np.int64(1), [np.float64(0.5)]))


def make_network():
    torch.manual_seed(0)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
    return Network(nn.Sequential(*layers), nn.Identity(), nn.Linear(8, 3))


def distance(source, target, progress):
    return (source.features.mean(0) - target.features.mean(0)).square().sum()


def fit(
    saver=None,
    views=None,
    *,
    callbacks=(),
    mix=None,
    validation=None,
    others=None,
    **recipe,
):
    settings = {"max_epochs": 6, "lr": 0.05, "batch_size": 16, **recipe}
    return train(
        make_network(),
        Data(Z if views is None else views, Y, np.ones(60)),
        loss=cross_entropy,
        recipe=resolved_recipe(**settings),
        device=torch.device("cpu"),
        seed=3,
        validation=validation,
        mix=mix,
        objective=None if others is None else Objective(distance, others()),
        callbacks=list(callbacks),
        saver=saver,
    )


def fit_in_parts(path, ends, make_views=lambda: None, **settings):
    """Train until the end, with interruptions in the given epochs."""
    for epoch in [*ends, None]:
        views = make_views()
        saver = Saver(path, views)
        if epoch is None:
            return fit(saver, views, **settings)
        callbacks = [*settings.get("callbacks", ()), Kill(epoch)]
        with pytest.raises(Killed):
            fit(saver, views, **{**settings, "callbacks": callbacks})


def rows_of(net):
    """Return the history without times."""
    skipped = {"dur", "matrix"}
    return [
        {k: v for k, v in row.items() if k not in skipped}
        for row in net.history.to_list()
    ]


def assert_same(net, other):
    values = other.module_.state_dict()
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, values[name]), name
    assert rows_of(net) == rows_of(other)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "state.pt"


# Going on


@pytest.mark.parametrize("ends", [[1], [2], [4], [6], [2, 2, 5]])
def test_killed_training_ends_as_one_that_was_not(path, ends):
    whole = fit()
    assert_same(fit_in_parts(path, ends), whole)
    assert len(whole.history) == 6


SCHEDULES = {
    **{name: name for name in LR_SCHEDULES},
    "step": partial(StepLR, step_size=2),
    "milestones": partial(MultiStepLR, milestones=[1, 3]),
    "plateau": partial(ReduceLROnPlateau, patience=0, threshold=0.5),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_schedule_and_averages_are_resumed(path, name, ema):
    settings = {"lr_schedule": SCHEDULES[name], "ema": ema}
    whole = fit(**settings)
    assert_same(fit_in_parts(path, [3, 5], **settings), whole)


SETTINGS = {
    "accumulate": {"accumulate_grad_batches": 3},
    "l2_sp": {"l2_sp": 0.5},
    "decay": {"weight_decay": 0.1, "backbone_lr_ratio": 0.1},
    "mix": {"mix": Mix(ActivationLayout((5,), None), mixup=0.4)},
    "validation": {"validation": HELD},
    "best": {"validation": HELD, "early_stopping": True},
    "best average": {"validation": HELD, "early_stopping": True, "ema": 0.9},
    "plateau of validation": {
        "validation": HELD,
        "lr_schedule": SCHEDULES["plateau"],
    },
    "scores of NumPy": {"callbacks": [NumPyScores()]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_all_settings_are_resumed(path, name):
    whole = fit(**SETTINGS[name])
    assert_same(fit_in_parts(path, [2, 5], **SETTINGS[name]), whole)


@pytest.mark.parametrize("ema", [None, 0.8])
def test_early_stopping_resumes_counting(path, ema):
    settings = {"early_stopping": True, "n_iter_no_change": 4, "ema": ema}
    settings |= {"max_epochs": 40, "validation": HELD}
    whole = fit(**settings)
    n = len(whole.history)
    assert 4 < n < 40
    assert_same(fit_in_parts(path, [2, n - 1, n], **settings), whole)
    # The file is of the last epoch: nothing is left to be trained.
    assert_same(fit(Saver(path), **settings), whole)


def test_random_views_are_resumed(path):
    whole = fit(views=Views())
    assert_same(fit_in_parts(path, [3], Views), whole)
    once = fit(Saver(path), Views())  # which draws what was drawn before
    path.unlink()
    assert rows_of(fit_in_parts(path, [3], Views)) == rows_of(once)


def test_random_views_of_others_are_resumed(path):
    whole = fit(others=Views)
    assert_same(fit_in_parts(path, [3], others=Views), whole)


def test_random_views_without_state_start_again(path):
    """Show that the previous test can fail."""
    whole = fit(views=Views())
    with pytest.raises(Killed):
        fit(Saver(path), Views(), callbacks=[Kill(3)])
    assert rows_of(fit(Saver(path), Views())) != rows_of(whole)


def test_finished_training_is_not_trained_again(path):
    whole = fit(Saver(path), ema=0.9)
    batches = []

    class Count(Callback):
        def on_batch_begin(self, net, **kwargs):
            batches.append(1)

    again = fit(Saver(path), ema=0.9, callbacks=[Count()])
    assert_same(again, whole)
    assert not batches


def test_saving_changes_nothing(path):
    assert_same(fit(Saver(path)), fit())


def test_resuming_leaves_the_global_generator(path):
    with pytest.raises(Killed):
        fit(Saver(path), callbacks=[Kill(3)])
    make_network()
    state = torch.random.get_rng_state()
    fit(Saver(path))
    make_network()
    assert torch.equal(torch.random.get_rng_state(), state)


# The file


def test_file_is_that_of_the_last_epoch_and_alone(path):
    with pytest.raises(Killed):
        fit(Saver(path), callbacks=[Kill(4)])
    assert os.listdir(path.parent) == [path.name]
    state = torch.load(path, weights_only=True)
    assert [row["epoch"] for row in state["history"]] == [1, 2, 3]
    Saver(path).remove()
    Saver(path).remove()
    assert os.listdir(path.parent) == []


def foreign(path):
    torch.save({"weights": torch.ones(2)}, path)


def of_another_network(path):
    torch.save({"module": {"head.weight": torch.ones(7, 7)}}, path)


DAMAGES = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello"),
    "foreign": foreign,
    "another network": of_another_network,
    "list": lambda path: torch.save([1], path),
    "code": lambda path: torch.save({"module": Views()}, path),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_file_is_named_and_changes_nothing(path, name):
    fit(Saver(path), max_epochs=2)
    DAMAGES[name](path)
    damaged = path.read_bytes()
    net = fit(max_epochs=2)
    generator = torch.Generator().manual_seed(5)
    before = copy.deepcopy(net.module_.state_dict())
    states = generator.get_state(), torch.random.get_rng_state()
    rows = rows_of(net)
    message = f"^The checkpoint {re.escape(str(path))} cannot be read \\((.|\n)*\\). "
    with pytest.raises(ValueError, match=message + "Remove it to start again.$"):
        Saver(path).load(net, generator)
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(generator.get_state(), states[0])
    assert torch.equal(torch.random.get_rng_state(), states[1])
    assert rows_of(net) == rows and path.read_bytes() == damaged


def test_file_without_some_part_is_named(path):
    fit(Saver(path), max_epochs=2)
    state = torch.load(path, weights_only=True)
    del state["optimizer"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"state.pt cannot be read \('optimizer'\). R"):
        fit(Saver(path))


def test_training_without_a_file_starts_at_the_beginning(path):
    net = fit(max_epochs=1)
    assert Saver(path).load(net, torch.Generator()) == 0
    assert not path.parent.exists()


def test_state_that_cannot_be_written_leaves_the_one_before(path, monkeypatch):
    def full(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    fit(Saver(path), max_epochs=2)
    before, saver = path.read_bytes(), Saver(path)
    monkeypatch.setattr(torch, "save", full)
    text = (
        r"^The state of the training could not be written to .*state.pt \(.*No space "
        r"left on device\). The training continues, but cannot be resumed from "
        "here if it is interrupted. Free some space, or give another folder as "
        "`checkpoint`.$"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        net = fit(saver, max_epochs=5)
    assert len(caught) == 1
    assert len(net.history) == 5
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


def test_savers_of_one_training_do_not_harm_each_other(path):
    """Threads tolerate files that others have removed or not completed."""
    expected = fit()
    whole, removed = Saver(path), Saver(path)
    fit(removed, max_epochs=2)
    fit(whole, max_epochs=3)
    removed.remove()
    removed.remove()
    assert [*path.parent.iterdir()] == []
    net = fit(whole)
    assert rows_of(net) == rows_of(expected)
    assert [*path.parent.iterdir()] == [path]


def test_half_written_files_have_names_of_their_own(path, monkeypatch):
    names = []

    def look(state, file):
        names.append(Path(file.name))
        write(state, file)

    write = torch.save
    monkeypatch.setattr(torch, "save", look)
    fit(Saver(path), max_epochs=2)
    assert len({*names}) == 2 and {name.parent for name in names} == {path.parent}
    assert [*path.parent.iterdir()] == [path]


def test_half_written_files_of_processes_that_are_gone_are_removed(path):
    fit(Saver(path), max_epochs=1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stem = f"{path.stem}.{socket.gethostname()}"
    left = path.with_name(f"{stem}.{gone.pid}.0.part")
    others = [
        path.with_name(f"{stem}.{os.getpid()}.0.part"),  # it lives
        path.with_name(f"{path.stem}.elsewhere.{gone.pid}.0.part"),
    ]
    for file in (left, *others):
        file.write_bytes(b"half")
    Saver(path).remove()
    assert sorted(path.parent.iterdir()) == sorted(others)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_weights_and_statistics_are_restored(error):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in module.state_dict().items()}

    def train():
        module.train()(torch.randn(5, 3))
        nn.init.zeros_(module[0].weight)
        raise error

    with pytest.raises(error), restore_weights_on_error(module):
        train()
    assert not module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_weights_are_kept_without_an_error():
    module = nn.Linear(3, 4)
    with restore_weights_on_error(module):
        nn.init.zeros_(module.weight)
    assert not module.weight.any()
