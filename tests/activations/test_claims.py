import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sktransfer.activations import Pass, Target, _claims, gather
from sktransfer.activations._claims import Claims
from sktransfer.activations._disk_store import DiskStore
from sktransfer.activations._store import MemoryStore, Store

pytestmark = pytest.mark.usefixtures("keeping_is_free")
SCOPE = bytes(range(16))
DIGESTS = [np.random.RandomState(i).bytes(16) for i in range(40)]

CHILD = """
import sys
from sktransfer.activations._claims import Claims
digests = [bytes.fromhex(text) for text in sys.argv[3:]]
with Claims(sys.argv[1], bytes.fromhex(sys.argv[2])) as claims:
    print(len(claims.take(digests)), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "new folder" / "claims")


@pytest.fixture
def elsewhere(path):
    """Start processes that claim samples until they end."""
    with ExitStack() as stack:

        def claim(digests, n_free=None):
            arguments = [path, SCOPE.hex(), *(digest.hex() for digest in digests)]
            pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
            command = [sys.executable, "-c", CHILD, *arguments]
            child = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(child.kill)
            n_free = len(digests) if n_free is None else n_free
            assert int(child.stdout.readline()) == n_free
            return child

        yield claim


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(30)
    return found[0]


def test_claims_of_another_process_end_with_it(elsewhere, path):
    child = elsewhere(DIGESTS[:20])
    with Claims(path, SCOPE) as claims:
        assert claims.take(DIGESTS) == {*DIGESTS[20:]}
        assert claims.take(DIGESTS) == {*DIGESTS[20:]}
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
        assert claims.take(DIGESTS) == {*DIGESTS}


def test_claims_for_something_else_are_independent(elsewhere, path):
    elsewhere(DIGESTS)
    with Claims(path, bytes(16)) as claims:
        assert claims.take(DIGESTS) == {*DIGESTS}


@pytest.mark.parametrize("shared", [True, False])
def test_threads_claim_from_each_other_until_released(path, shared):
    path = path if shared else None
    with Claims(path, SCOPE) as mine, Claims(path, SCOPE) as other:
        assert mine.take(DIGESTS[:20]) == {*DIGESTS[:20]}
        assert in_thread(lambda: other.take(DIGESTS)) == {*DIGESTS[20:]}
        mine.release(DIGESTS[:10])
        assert in_thread(lambda: other.take(DIGESTS[:20])) == {*DIGESTS[:10]}
    with Claims(path, SCOPE) as claims:
        assert claims.take(DIGESTS) == {*DIGESTS}


def test_end_of_one_pass_leaves_the_claims_of_others(elsewhere, path):
    with Claims(path, SCOPE) as first:
        assert first.take(DIGESTS[:5]) == {*DIGESTS[:5]}
        with Claims(path, SCOPE) as second:
            assert second.take(DIGESTS[5:10]) == {*DIGESTS[5:10]}
        elsewhere(DIGESTS, n_free=35)


def test_a_thread_does_not_wait_for_itself(path):
    with Claims(path, SCOPE) as outer, Claims(path, SCOPE) as inner:
        outer.take(DIGESTS)
        assert inner.take(DIGESTS) == {*DIGESTS}
        inner.release(DIGESTS)
        assert in_thread(lambda: inner.take(DIGESTS)) == set()


def test_a_forked_child_has_no_claims_of_its_parent(path):
    with Claims(path, SCOPE) as claims:
        claims.take(DIGESTS[:20])
        child = os.fork()
        if child == 0:
            claims.release(DIGESTS[:20])
            with Claims(path, SCOPE) as own:
                are_free = own.take(DIGESTS) == {*DIGESTS[20:]}
            os._exit(0 if are_free else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert in_thread(lambda: claims.take(DIGESTS[:20])) == {*DIGESTS[:20]}


def test_patience_ends_where_nothing_changes(elsewhere, path, monkeypatch, caplog):
    monkeypatch.setattr(_claims, "_PATIENCE", 0.1)
    elsewhere(DIGESTS)
    caplog.set_level("INFO", "sktransfer")
    with Claims(path, SCOPE) as claims:
        assert claims.take(DIGESTS) == set()
        began = time.monotonic()
        while not claims.take(DIGESTS):
            claims.wait(len(DIGESTS))
            assert time.monotonic() - began < 30
        assert claims.take(DIGESTS) == {*DIGESTS}
    assert "40 samples within 0.1 seconds" in caplog.text


def test_without_locks_of_files_threads_claim(path, monkeypatch):
    monkeypatch.setattr(_claims, "fcntl", None)
    with Claims(path, SCOPE) as mine, Claims(path, SCOPE) as other:
        mine.take(DIGESTS[:20])
        assert in_thread(lambda: other.take(DIGESTS)) == {*DIGESTS[20:]}
    assert not os.path.exists(path)


def test_where_no_file_can_be_made_nothing_is_claimed_from_others(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with Claims(str(file / "claims"), SCOPE) as claims:
        assert claims.take(DIGESTS) == {*DIGESTS}


@pytest.fixture
def slowly(monkeypatch):
    """Let a batch take long enough that others want its samples meanwhile."""
    forward = Pass._forward

    def wait_and_forward(*args, **settings):
        time.sleep(0.1)
        return forward(*args, **settings)

    monkeypatch.setattr(Pass, "_forward", wait_and_forward)


def _compute(backbone, name, samples, order, store, runtime):
    """Return rows in order; they are in the order of the samples."""
    a_pass = Pass(backbone, [Target(name)], store=store, runtime=runtime)
    (rows,) = gather(a_pass, samples.take(order))
    return [rows[k] for k in np.argsort(order)]


@pytest.mark.usefixtures("slowly")
def test_processes_divide_a_pass_and_compute_no_section_twice(
    backbone, samples, runtime, tmp_path, passes
):
    runtime = replace(runtime, batch_size=4)
    orders = [np.arange(20), np.arange(20)[::-1], np.arange(20)]
    names = ["2", "2", "3"]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()

    def compute(k):
        store = Store(MemoryStore(), DiskStore(str(tmp_path)))
        barrier.wait(30)
        rows = _compute(backbone, names[k], samples, orders[k], store, runtime)
        results.put((k, rows, {key[1:]: n for key, n in passes.items()}))

    children = [context.Process(target=compute, args=(k,)) for k in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        for child in children:
            child.start()
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join(30)
    passes.clear()
    computed = sum((Counter(counts) for _, _, counts in found), Counter())
    assert computed["input", "0"] == computed["1", "2"] == computed["2", "3"] == 20
    assert max(counts.get(("input", "0"), 0) for _, _, counts in found) < 20
    for k, rows, _ in found:
        expected = _compute(backbone, names[k], samples, np.arange(20), None, runtime)
        assert all(map(np.array_equal, rows, expected))


@pytest.mark.usefixtures("slowly")
def test_threads_divide_a_pass(backbone, samples, runtime, passes):
    runtime, store = replace(runtime, batch_size=4), Store(MemoryStore())
    with ThreadPoolExecutor(3) as pool:
        orders = [np.random.RandomState(k).permutation(20) for k in range(3)]
        tasks = [
            pool.submit(_compute, backbone, "3", samples, order, store, runtime)
            for order in orders
        ]
        found = [task.result(60) for task in tasks]
    counts = {key[1:]: n for key, n in passes.items()}
    assert counts == dict.fromkeys(pairwise(["input", "0", "1", "2", "3"]), 20)
    for rows in found[1:]:
        assert all(map(np.array_equal, rows, found[0]))


@pytest.mark.usefixtures("slowly")
def test_a_pass_inside_a_pass_does_not_wait(backbone, samples, store, runtime):
    outer = Pass(backbone, [Target("3")], store=store, runtime=runtime)
    with closing(outer.iterate(samples)) as passed:
        next(passed)
        inner = _compute(backbone, "3", samples, np.arange(20), store, runtime)
    expected = _compute(backbone, "3", samples, np.arange(20), None, runtime)
    assert all(map(np.array_equal, inner, expected))


@pytest.mark.usefixtures("slowly")
def test_a_pass_that_is_stopped_leaves_its_samples_to_others(
    backbone, samples, store, runtime, passes
):
    stopped = Pass(backbone, [Target("3")], store=store, runtime=runtime)
    passed = stopped.iterate(samples)
    next(passed)
    passed.close()
    in_thread(lambda: _compute(backbone, "3", samples, range(20), store, runtime))
    assert 20 <= passes[next(k for k in passes if k[1:] == ("input", "0"))] <= 28
