import os
import queue
import threading

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

import sktransfer
from sktransfer.utils import _config, adopt_settings, settings_to_send


def test_config_context_restores_what_was():
    before = sktransfer.get_config()
    with sktransfer.config_context(memory_budget=1, activation_dtype="float16"):
        assert sktransfer.get_config()["memory_budget"] == 1
        assert sktransfer.get_config()["disk_budget"] == before["disk_budget"]
    assert sktransfer.get_config() == before


def test_config_context_restores_after_an_error():
    before = sktransfer.get_config()
    with pytest.raises(KeyError), sktransfer.config_context(memory_budget=1):
        raise KeyError
    assert sktransfer.get_config() == before


def test_a_thread_starts_with_the_settings_of_the_main_thread():
    seen = []
    with sktransfer.config_context(memory_budget=7):
        thread = threading.Thread(target=lambda: seen.append(sktransfer.get_config()))
        thread.start()
        thread.join()
    assert seen[0]["memory_budget"] == 7


def test_a_thread_changes_its_own_settings_alone():
    before = sktransfer.get_config()
    thread = threading.Thread(target=lambda: sktransfer.set_config(memory_budget=3))
    thread.start()
    thread.join()
    assert sktransfer.get_config() == before


@pytest.mark.parametrize("value", [-1, 1.5, "1GB"])
def test_a_budget_is_a_number_of_bytes(value):
    with pytest.raises(ValueError, match="`disk_budget` must be a number of bytes"):
        sktransfer.set_config(disk_budget=value)


def test_a_dtype_is_one_of_three():
    with pytest.raises(ValueError, match="`activation_dtype` must be one of .*int8"):
        sktransfer.set_config(activation_dtype="int8")


def test_slim_pickles_is_a_bool():
    assert not sktransfer.get_config()["slim_pickles"]
    with sktransfer.config_context(slim_pickles=True):
        assert sktransfer.get_config()["slim_pickles"]
        with sktransfer.config_context(slim_pickles=False):
            assert not sktransfer.get_config()["slim_pickles"]
    with pytest.raises(ValueError, match="`slim_pickles` must be a bool. Got 'yes'."):
        sktransfer.set_config(slim_pickles="yes")


def _settings_after_adopting(sent):
    before = sktransfer.get_config()
    adopt_settings(sent)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(sktransfer.get_config()))
    thread.start()
    thread.join()
    return before, sktransfer.get_config(), *seen


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_worker_adopts_the_settings_of_its_parent(backend):
    with sktransfer.config_context(memory_budget=7, activation_dtype="float32"):
        here, sent = sktransfer.get_config(), settings_to_send()
    other = {**sent, "pid": sent["pid"] + 1}
    with joblib.Parallel(n_jobs=2, backend=backend, batch_size=1) as parallel:
        run = joblib.delayed(_settings_after_adopting)
        for found in parallel(run(sent) for _ in range(4)):
            assert found[1:] == (here, here)
        with sktransfer.config_context(memory_budget=9):
            later = settings_to_send()
        for found in parallel(run(later) for _ in range(4)):
            assert found[1] == later["settings"]
        for before, after, _ in parallel(run(other) for _ in range(4)):
            assert after == before
    if backend == "loky":
        get_reusable_executor().shutdown()  # its workers outlive a test otherwise


def test_settings_of_other_processes_are_ignored():
    before = sktransfer.get_config()
    for pid in (os.getpid(), os.getppid(), 1):
        adopt_settings({"pid": pid, "settings": {**before, "memory_budget": 5}})
        assert sktransfer.get_config() == before


def test_nothing_is_sent_where_nothing_was_changed(monkeypatch):
    monkeypatch.setattr(_config, "_changed", set())
    assert settings_to_send() == {}
    before = sktransfer.get_config()
    adopt_settings({})
    assert sktransfer.get_config() == before
    monkeypatch.setattr(_config, "_changed", {"memory_budget"})
    assert settings_to_send()["settings"] == before


def test_a_running_thread_sees_changes_of_the_main_thread():
    """One such thread is that of a pool, which pickles the tasks of workers."""
    asked, seen = queue.Queue(), queue.Queue()

    def answer():
        while asked.get():
            seen.put(sktransfer.get_config()["memory_budget"])

    thread = threading.Thread(target=answer)
    thread.start()
    for budget in (11, 12):
        with sktransfer.config_context(memory_budget=budget):
            asked.put(True)
            assert seen.get(timeout=60) == budget
    asked.put(False)
    thread.join()
