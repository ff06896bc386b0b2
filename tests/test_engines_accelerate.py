"""Fits that processes share: those of ``_ranks.py``, with gloo on the CPU."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sktransfer.compute import Ranks
from tests import _ranks

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(folder, rank, port, n=2):
    """Start one of n processes, as accelerate and torchrun do."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": ROOT}
    own = {name: str(value) for name, value in {**ranks, **meet}.items()}
    command = [sys.executable, ROOT / "tests/_ranks.py", folder]
    return subprocess.Popen(command, env={**os.environ, **own})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of what two processes found; the second one was killed."""
    folder, port = tmp_path_factory.mktemp("ranks"), free_port()
    processes = [start(folder, rank, port) for rank in range(2)]
    try:
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, -signal.SIGKILL]
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """Return what each of two processes found before."""
    files = [folder / f"{rank}.pickle" for rank in range(2)]
    found = [pickle.loads(file.read_bytes()) for file in files]
    assert [ranks for ranks, _ in found] == [Ranks(0, 2), Ranks(1, 2)]
    return [values for _, values in found]


def assert_equal(a, b):
    assert {*a} == {*b}
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize("case", _ranks.CASES, ids=lambda case: case.__name__)
def test_fit_in_two_processes_is_that_in_one(case, found):
    first, second = (values["cases"][case.__name__] for values in found)
    assert_equal(first["trained"], second["trained"])
    np.testing.assert_array_equal(first["predicted"], second["predicted"])
    assert first["history"].equals(second["history"])
    alone = _ranks.result(case)
    assert_equal(first["frozen"], alone["frozen"])
    close = {"rtol": 1e-4, "atol": 1e-5}
    for name, value in alone["trained"].items():
        np.testing.assert_allclose(first["trained"][name], value, **close)
    np.testing.assert_allclose(first["predicted"], alone["predicted"], **close)
    assert [*first["history"]] == [*alone["history"]]
    for column in alone["history"].select_dtypes("float"):
        values = (run["history"][column] for run in (first, alone))
        np.testing.assert_allclose(*values, **close, err_msg=column)


def test_process_that_fails_ends_the_others_with_its_error(found):
    assert found[1]["failed"] == "OSError: no space left"
    told = "Another process failed: rank 1 of 2 ended with OSError: no space left"
    assert found[0]["failed"] == f"RankError: {told}"


def test_different_weights_are_an_error(found):
    for values in found:
        assert "ValueError: The 2 processes" in values["changed"]
        assert "trained different weights" in values["changed"]


def test_different_steps_are_an_error(found):
    for values in found:
        assert "RankError: The processes of this fit take" in values["astray"]
        assert "rank 0 at scores, rank 1 at a choice" in values["astray"]


def test_different_samples_are_an_error(found):
    for values in found:
        assert "have different samples, targets or weights" in values["samples"]


def test_whole_batches_are_refused(found):
    for values in found:
        assert "depend on the whole batch" in values["batch norm"]
        assert "`method='mmd'` compares whole batches" in values["domains"]


def test_other_threads_are_refused(found):
    for values in found:
        assert "trains in the main thread" in values["thread"]


def test_first_process_alone_shows_progress(found):
    assert min(found[0]["shown"]) > 0
    assert found[1]["shown"] == (0, 0)


def test_processes_draw_one_seed(found):
    assert_equal(found[0]["seeds"], found[1]["seeds"])


def test_resumed_fit_is_that_of_uninterrupted_processes(found):
    first, second = (values["resumed"] for values in found)
    for values in (first, second):
        assert "no space left" in values["error"] and values["files"] == (1, 0)
        assert_equal(*values["fits"])
    assert_equal(first["fits"][0], second["fits"][0])


def test_process_with_less_memory_takes_smaller_parts(found):
    for values in found:
        for name, value in values["memory"].items():
            np.testing.assert_allclose(values["less memory"][name], value, atol=1e-4)


def test_killed_process_ends_the_others(folder):
    at_once, later = (folder / "0.txt").read_text().splitlines()
    assert "RankError: Rank 0 of 2 cannot reach the others: one of them" in at_once
    assert "Start the processes again to fit again" in later
