import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from skorch.callbacks import Callback

from sktransfer.compute import turn_on
from sktransfer.compute._turns import _path_for
from tests.training.test_train import fit

GPU = torch.device("cuda", 0)
SCRIPT = """
import sys, time
import pytest
from tests.compute.test_turns import GPU, pretend_to_be_a_worker
from sktransfer.compute import turn_on

with pytest.MonkeyPatch.context() as patch:
    pretend_to_be_a_worker(patch, sys.argv[1])
    with turn_on(GPU):
        print("in", flush=True)
        time.sleep(600)
"""


def pretend_to_be_a_worker(patch, folder):
    """Pretend that this process is a worker on a machine with GPUs."""
    worker = SimpleNamespace(name="LokyProcess-2", _identity=(2,))
    patch.setattr(multiprocessing, "current_process", lambda: worker)
    patch.setattr(tempfile, "tempdir", str(folder))
    patch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(uuid=f"GPU-{device.index}"),
    )
    patch.setattr(torch.cuda, "empty_cache", lambda: None)


@pytest.fixture
def emptied(monkeypatch, tmp_path):
    """List when the memory that torch keeps was given back, in a worker."""
    pretend_to_be_a_worker(monkeypatch, tmp_path)
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    return calls


def in_thread(device, entered, leave):
    def work():
        with turn_on(device):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_workers_take_turns_on_a_gpu(emptied):
    first, second, leave = (threading.Event() for _ in range(3))
    jobs = [in_thread(GPU, first, leave)]
    assert first.wait(30)
    jobs.append(in_thread(GPU, second, leave))
    with turn_on(torch.device("cuda", 1)), turn_on(torch.device("cpu")):
        assert not second.wait(0.3)
    assert emptied == ["emptied"]  # after the turn on the other GPU
    leave.set()
    assert second.wait(30)
    for job in jobs:
        job.join()
    assert len(emptied) == 3


def test_turn_ends_with_an_error(emptied):
    with pytest.raises(ValueError, match="broken"), turn_on(GPU):
        raise ValueError("broken")
    assert emptied == ["emptied"]
    with turn_on(GPU):
        pass


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_other_processes_do_not_wait(monkeypatch, kind):
    monkeypatch.setattr("sktransfer.compute._turns._path_for", None)
    with turn_on(torch.device(kind)):
        pass


@pytest.mark.usefixtures("emptied")
def test_turn_of_a_killed_worker_ends(tmp_path):
    root = Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        assert _path_for(GPU).exists()
        entered, leave = threading.Event(), threading.Event()
        job = in_thread(GPU, entered, leave)
        assert not entered.wait(0.3)
        other.send_signal(signal.SIGKILL)
        assert entered.wait(30)
        leave.set()
        job.join()


def test_training_takes_its_turn_on_the_device(monkeypatch):
    seen = []

    @contextmanager
    def turn_on(device):
        seen.append(device)
        yield
        seen.append("end")

    class Epochs(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.history[-1]["epoch"])

    monkeypatch.setattr("sktransfer.training._train.turn_on", turn_on)
    fit(max_epochs=2, callbacks=[Epochs()])
    assert seen == [torch.device("cpu"), 1, 2, "end"]
