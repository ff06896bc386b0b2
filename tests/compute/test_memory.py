import subprocess
import sys

import pytest

from sktransfer.compute import _memory, keep_freed_memory

FAULTS = """
import resource, torch
from sktransfer.compute import keep_freed_memory

def step():  # what a step frees and takes again: 256 MB in tensors of 4 MB
    tensors = [torch.ones(2**20) for _ in range(64)]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with keep_freed_memory():
    step()
    inside = faults()
print(inside)
"""


@pytest.mark.skipif(_memory._glibc() is None, reason="glibc only")
def test_freed_memory_is_kept():
    out = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    # Without it, most of the pages of each of the four steps.
    assert int(out.stdout) < 2**28 // 4096 / 10


def test_nesting_ends_with_the_outermost(monkeypatch):
    calls = []
    monkeypatch.setattr(_memory, "_set_threshold", calls.append)
    with keep_freed_memory():
        with pytest.raises(KeyError), keep_freed_memory():
            raise KeyError
        assert _memory._depth == 1
    assert calls == [_memory._KEPT_BYTES, _memory._USUAL_BYTES]


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(_memory, "_glibc", lambda: None)
    with keep_freed_memory():
        pass
    assert _memory._depth == 0
